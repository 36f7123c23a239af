"""Azure's table service: a client for it, and what goes wrong there as one of our own errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from azure.core.exceptions import (
    AzureError,
    DeserializationError,
    HttpResponseError,
    ResourceExistsError,
    SerializationError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables.aio import TableServiceClient

from ..core.errors import StoreUnavailable
from ..core.turns import Turns
from .rows import UNREADABLE, Row

_log = logging.getLogger(__name__)

EVENTS: Final = "events"
DEPLOYMENTS: Final = "deployments"
QUOTAS: Final = "quotas"
USAGE: Final = "usage"
CALL_SECONDS: Final = 5.0
"""A table call that takes longer is given up: an attendee waits for it."""

REPORT_SECONDS: Final = 60.0
"""Likewise, where many rows are read or removed and no attendee waits."""

_CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.1,
    "connection_timeout": 2,
    "read_timeout": 3,
    "logging_enable": False,
}

T = TypeVar("T")


class AlreadyExists(Exception):
    """A row of that key is there."""


def open_service(
    connection_string: str | None, uri: str | None, credential: Any = None, session: Any = None
) -> TableServiceClient:
    """A client for the account; nothing is sent yet. An aiohttp `session`, where given, is closed with it.

    Raises:
        ValueError: the connection string cannot be read.
    """
    options = _CLIENT_OPTIONS | ({"transport": AioHttpTransport(session=session)} if session else {})
    if connection_string:
        return TableServiceClient.from_connection_string(connection_string, **options)
    return TableServiceClient(uri or "", credential=credential, **options)


@asynccontextmanager
async def translated(seconds: float = CALL_SECONDS, turns: Turns | None = None) -> AsyncIterator[None]:
    """Every exception of the tables, as one of ours. A test holds each of azure-core's against it.

    With `turns` the call first waits for its own, which counts in its time: azure-data-tables takes up to a
    millisecond to make one. Where the loop itself stands still for seconds, the tables are blamed for it.

    Raises:
        AlreadyExists: a row of that key is there.
        StoreUnavailable: any other, or the time is over.
    """
    try:
        async with asyncio.timeout(seconds):
            if turns is not None:
                await turns.wait()
            yield
    except ResourceExistsError as error:
        raise AlreadyExists from error
    except HttpResponseError as error:
        _log.warning("the tables answered %s %s", error.status_code, getattr(error, "error_code", ""))
        raise StoreUnavailable from error
    except (AzureError, SerializationError, DeserializationError, TimeoutError, OSError) as error:
        _log.warning("the tables do not answer: %s", type(error).__name__)
        raise StoreUnavailable from error


def not_set_up() -> StoreUnavailable:
    """What an attendee is told where a row cannot be read: to ask again soon would be of no use."""
    return StoreUnavailable("This event is not set up correctly. Tell your organiser.", 30)


def readable(read: Callable[[Row], T], row: Row) -> T:
    """What `read` makes of the row.

    Raises:
        StoreUnavailable: the row cannot be read; it is logged.
    """
    try:
        return read(row)
    except UNREADABLE as error:
        _log.exception("a row cannot be read")
        raise not_set_up() from error


def readable_or_none(read: Callable[[Row], T], row: Row, table: str) -> T | None:
    """What `read` makes of the row; None where it cannot be read, which is logged."""
    try:
        return read(row)
    except UNREADABLE:
        _log.exception("a row of the table %s cannot be read", table)
        return None
