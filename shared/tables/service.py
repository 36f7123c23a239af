"""A client for Azure's table service. Its exceptions become the proxy's own errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

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
from .columns import UNREADABLE, Row

_log = logging.getLogger(__name__)

EVENTS = "events"
DEPLOYMENTS = "deployments"
QUOTAS = "quotas"
USAGE = "usage"

CALL_SECONDS = 5.0
"""The time limit of a table call that an attendee waits for."""

REPORT_SECONDS = 60.0
"""The time limit of a call that reads or deletes many rows, when no attendee waits."""

LARGEST_BATCH = 100
"""Rows in one transaction (Azure Table Storage, "Performing entity group transactions")."""

_CLIENT_OPTIONS: dict[str, Any] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.1,
    "connection_timeout": 2,
    "read_timeout": 3,
    "logging_enable": False,
}

T = TypeVar("T")


class AlreadyExists(Exception):
    """A row with this key exists."""


def open_service(
    connection_string: str | None, uri: str | None, credential: Any = None, session: Any = None
) -> TableServiceClient:
    """A client for the account. It sends nothing yet, and closes the aiohttp `session` when it is closed.

    Raises:
        ValueError: the connection string cannot be read.
    """
    options = _CLIENT_OPTIONS | ({"transport": AioHttpTransport(session=session)} if session else {})
    if connection_string:
        return TableServiceClient.from_connection_string(connection_string, **options)
    return TableServiceClient(uri or "", credential=credential, **options)


@asynccontextmanager
async def translated(seconds: float = CALL_SECONDS, turns: Turns | None = None) -> AsyncIterator[None]:
    """Run a table call within `seconds`, and translate its exceptions. A test covers all of azure-core's.

    With `turns`, the call first waits for its turn, because azure-data-tables takes up to a millisecond to
    build a request. That wait counts towards `seconds`. If the event loop is blocked for that long, the call
    fails as if the tables were unavailable.

    Raises:
        AlreadyExists: a row with this key exists.
        StoreUnavailable: any other error, or the time is up.
    """
    try:
        async with asyncio.timeout(seconds):
            if turns is not None:
                await turns.wait()
            yield
    except ResourceExistsError as error:
        raise AlreadyExists from error
    except HttpResponseError as error:
        _log.warning("the table service returned %s %s", error.status_code, getattr(error, "error_code", ""))
        raise StoreUnavailable from error
    except (AzureError, SerializationError, DeserializationError, TimeoutError, OSError) as error:
        _log.warning("the table service is unavailable: %s", type(error).__name__)
        raise StoreUnavailable from error


def not_set_up() -> StoreUnavailable:
    """The error for a row that cannot be read. A retry within 30 seconds would not help."""
    return StoreUnavailable("This event is not set up correctly. Ask your organiser to fix it.", 30)


def readable(read: Callable[[Row], T], row: Row) -> T:
    """The value that `read` returns for the row.

    Raises:
        StoreUnavailable: the row cannot be read, which is logged.
    """
    try:
        return read(row)
    except UNREADABLE as error:
        _log.exception("cannot read a row")
        raise not_set_up() from error


def readable_or_none(read: Callable[[Row], T], row: Row, table: str) -> T | None:
    """The value that `read` returns for the row. None if the row cannot be read, which is logged."""
    try:
        return read(row)
    except UNREADABLE:
        _log.exception("cannot read a row of the table %s", table)
        return None
