"""A client for Azure's table service. Its exceptions become the proxy's own errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import TableEntity
from azure.data.tables.aio import TableClient, TableServiceClient

from ..core.errors import StoreUnavailable
from ..core.turns import Turns
from .columns import UNREADABLE, Row

_log = logging.getLogger(__name__)

EVENTS = "events"
DEPLOYMENTS = "deployments"
QUOTAS = "quotas"
USAGE = "usage"
ATTENDEES = "attendees"

CALL_SECONDS = 3.0
"""The time limit of a table call that an attendee waits for. While the tables do not respond, a new attendee
waits for one call, and twice `PATIENCE_SECONDS` for cached rows. Together that stays below 5 s."""

SCAN_SECONDS = 2.0
"""The time limit for the list of event codes. Before it, an attendee may wait as long for its beginning."""

COMMAND_SECONDS = 5.0
"""The time limit of a call of a command, which may sign in first."""

REPORT_SECONDS = 60.0
"""The time limit of a call that reads or deletes many rows, when no attendee waits."""

OK = 200

LARGEST_BATCH = 100
"""Rows in one transaction (Azure Table Storage, "Performing entity group transactions")."""

_MISSING_ROW = {"ResourceNotFound", "EntityNotFound"}
"""The error codes for a row that does not exist. Any other 404 says nothing about the row."""

_REFUSED_ROW = {
    "EntityTooLarge",
    "InvalidInput",
    "InvalidValueType",
    "KeyValueTooLarge",
    "OutOfRangeInput",
    "PropertyValueTooLarge",
    "RequestBodyTooLarge",
    "TooManyProperties",
}
"""The error codes for a row that the service never accepts."""

T = TypeVar("T")


class AlreadyExists(StoreUnavailable):
    """A row with this key exists. For a call that creates no row, the service is faulty."""


class RowRefused(StoreUnavailable):
    """The service does not accept one of the rows. A retry would not help."""


def _check_type(response: Any) -> None:
    """Refuse rows that are not JSON. The library would take them for an empty list."""
    received = response.http_response
    if received.status_code == OK and "json" not in received.headers.get("content-type", ""):
        raise HttpResponseError("The response is not JSON.", response=received)


_CLIENT_OPTIONS: dict[str, Any] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.1,
    "connection_timeout": 2,
    "read_timeout": 3,
    "logging_enable": False,
    "permit_redirects": False,  # the service never redirects, and its key must not go elsewhere
    "raw_response_hook": _check_type,
}


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
async def translated(seconds: float = COMMAND_SECONDS, turns: Turns | None = None) -> AsyncIterator[None]:
    """Run a table call within `seconds`, and translate its exceptions.

    The library raises whatever happens to it in a malformed response: an AttributeError, for example. So the
    block must contain nothing but the call.

    With `turns`, the call first waits for its turn, because azure-data-tables takes up to a millisecond to
    build a request. That wait counts towards `seconds`. If the event loop is blocked for that long, the call
    fails as if the tables were unavailable.

    Raises:
        AlreadyExists: a row with this key exists.
        RowRefused: the service does not accept a row.
        StoreUnavailable: any other error, or the time is up.
    """
    try:
        async with asyncio.timeout(seconds):
            if turns is not None:
                await turns.wait()
            yield
    except StoreUnavailable:
        raise
    except ResourceExistsError as error:
        raise AlreadyExists from error
    except HttpResponseError as error:
        code = error_code(error)
        _log.warning("the table service returned %s %s", error.status_code, code)
        raise (RowRefused if code in _REFUSED_ROW else StoreUnavailable) from error
    except (AzureError, TimeoutError, OSError) as error:
        _log.warning("the table service is unavailable: %s", type(error).__name__)
        raise StoreUnavailable from error
    except Exception as error:
        _log.exception("the response of the table service cannot be read")
        raise StoreUnavailable from error


def error_code(error: HttpResponseError) -> str:
    """The service's own code for the error; empty if it gave none."""
    code = getattr(error, "error_code", None)  # set by azure-data-tables, to an enum or a text
    return str(getattr(code, "value", code) or "")


def is_missing_row(error: HttpResponseError) -> bool:
    """Whether the error means that the row does not exist, and not the table."""
    return error_code(error) in _MISSING_ROW


async def find_row(table: TableClient, partition_key: str, row_key: str) -> TableEntity | None:
    """The row, or None if it does not exist."""
    try:
        return await table.get_entity(partition_key, row_key)
    except ResourceNotFoundError as error:
        if not is_missing_row(error):
            raise
    return None


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
