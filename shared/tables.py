"""The stores on Azure Table Storage. The only room that knows Azure's tables and their exceptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    DeserializationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    SerializationError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import EdmType, EntityProperty, UpdateMode
from azure.data.tables.aio import TableServiceClient

from .errors import StoreUnavailable
from .ledger import Amount, Conflict, Key
from .ledger import Row as LedgerRow
from .metering import hashed
from .models import API_V1, MANAGED_IDENTITY, Deployment, Event

_log = logging.getLogger(__name__)

EVENTS: Final = "events"
DEPLOYMENTS: Final = "deployments"
QUOTAS: Final = "quotas"
TABLES: Final = (EVENTS, DEPLOYMENTS, QUOTAS, "usage")
EVENT_ROW: Final = "event"
OUTPUT_FIELDS: Final = ("max_completion_tokens", "max_tokens")

PRIVATE_SETTINGS: Final = (
    "PROXY_",
    "AZUREWEBJOBS",
    "AZURE_CLIENT_",
    "WEBSITE_",
    "IDENTITY_",
    "APPLICATIONINSIGHTS",
)
TABLE_NOT_FOUND: Final = "TableNotFound"
CALL_SECONDS: Final = 5.0
"""A table call that takes longer is given up: an attendee waits for it."""

_CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.1,
    "connection_timeout": 2,
    "read_timeout": 3,
    "logging_enable": False,
}

Row = Mapping[str, Any]
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


class Tables:
    """All tables of the proxy: an `EventStore` and a `DeploymentStore`, and what administrators change."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self._events = service.get_table_client(EVENTS)
        self._deployments = service.get_table_client(DEPLOYMENTS)
        self._quotas = service.get_table_client(QUOTAS)

    async def event(self, code: str) -> Event | None:
        """The event of that code; None when there is none.

        Raises:
            StoreUnavailable: the table does not answer, or the row cannot be read.
        """
        async with _translated():
            try:
                row = await self._events.get_entity(code, EVENT_ROW)
            except ResourceNotFoundError as error:
                if error.error_code == TABLE_NOT_FOUND:  # type: ignore[attr-defined] # set by azure-data-tables
                    _log.error("the table %s is not there", EVENTS)
                    raise
                return None
        return _readable(event_from_row, row)

    async def deployments(self) -> list[Deployment]:
        """Every deployment; a row that cannot be read is left out, and logged.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with _translated():
            rows = [row async for row in self._deployments.list_entities()]
        return [deployment for row in rows if (deployment := _deployment_or_none(row)) is not None]

    async def read(self, key: Key) -> LedgerRow:
        """A row of the table `quotas`; an empty one where there is none.

        Raises:
            StoreUnavailable: the table does not answer, or the row cannot be read.
        """
        async with _translated():
            try:
                row = await self._quotas.get_entity(*key)
            except ResourceNotFoundError:
                return LedgerRow()
        try:
            return ledger_from_row(row)
        except _UNREADABLE as error:
            user, _, day = key.row.rpartition(":")
            _log.exception(
                "the row of event %s, user %s, day %s in the table %s cannot be read",
                *(key.event_code, hashed(user), day, QUOTAS),
            )
            raise StoreUnavailable(_NOT_SET_UP, 30) from error

    async def write(self, key: Key, row: LedgerRow) -> LedgerRow:
        """Write a row of the table `quotas` if nobody has since it was read.

        Never sent twice, neither by Azure's library nor by aiohttp, which repeats a PUT (not a PATCH, which
        MERGE is) on a connection that was closed: a second could meet its own first and call it a conflict.

        Raises:
            Conflict: somebody has.
            StoreUnavailable: the table does not answer.
        """
        entity = ledger_to_row(key, row)
        async with _translated():
            try:
                if row.version is None:
                    written = await self._quotas.create_entity(entity, retry_total=0)
                else:
                    written = await self._quotas.update_entity(
                        entity,
                        mode=UpdateMode.MERGE,
                        etag=row.version,
                        match_condition=MatchConditions.IfNotModified,
                        retry_total=0,
                    )
            except (ResourceExistsError, ResourceModifiedError, ResourceNotFoundError) as error:
                raise Conflict from error
        return row._replace(version=written["etag"])

    async def check(self) -> None:
        """Whether the tables answer.

        Raises:
            StoreUnavailable: they do not.
        """
        await self.event("-")

    async def create_tables(self) -> None:
        """Make the tables that are missing."""
        async with _translated():
            for name in TABLES:
                await self._service.create_table_if_not_exists(name)

    async def add_event(self, event: Event) -> None:
        """Add an event.

        Raises:
            AlreadyExists: its code is taken.
            StoreUnavailable: the table does not answer.
        """
        async with _translated():
            await self._events.create_entity(event_to_row(event))

    async def events(self) -> list[Event]:
        """Every event.

        Raises:
            StoreUnavailable: the table does not answer, or a row cannot be read.
        """
        async with _translated():
            rows = [row async for row in self._events.list_entities()]
        return [_readable(event_from_row, row) for row in rows]

    async def put_event(self, event: Event) -> None:
        """Add or replace an event."""
        async with _translated():
            await self._events.upsert_entity(event_to_row(event), mode=UpdateMode.REPLACE)

    async def delete_event(self, code: str) -> None:
        """Remove an event; no matter if there is none. Its quota and usage rows stay."""
        async with _translated():
            await self._events.delete_entity(code, EVENT_ROW)

    async def delete_deployment(self, deployment: Deployment) -> None:
        """Remove a deployment; no matter if it is gone."""
        async with _translated():
            await self._deployments.delete_entity(deployment.model, deployment.id)

    async def put_deployment(self, deployment: Deployment) -> None:
        """Add or replace a deployment."""
        async with _translated():
            await self._deployments.upsert_entity(deployment_to_row(deployment), mode=UpdateMode.REPLACE)

    async def close(self) -> None:
        await self._service.close()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    """Every exception of the tables, as one of ours. A test holds each of azure-core's against it."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except ResourceExistsError as error:
        raise AlreadyExists from error
    except HttpResponseError as error:
        _log.warning("the tables answered %s %s", error.status_code, getattr(error, "error_code", ""))
        raise StoreUnavailable from error
    except (AzureError, SerializationError, DeserializationError, TimeoutError, OSError) as error:
        _log.warning("the tables do not answer: %s", type(error).__name__)
        raise StoreUnavailable from error


_UNREADABLE: Final = (KeyError, ValueError, TypeError, ArithmeticError, OSError)
"""What a row edited by hand can raise; OSError is how ZoneInfo says that a name is a folder's."""


_NOT_SET_UP: Final = "This event is not set up correctly. Tell your organiser."


def _readable(read: Callable[[Row], T], row: Row) -> T:
    try:
        return read(row)
    except _UNREADABLE as error:
        _log.exception("a row cannot be read")
        raise StoreUnavailable(_NOT_SET_UP, 30) from error


def _deployment_or_none(row: Row) -> Deployment | None:
    try:
        return deployment_from_row(row)
    except _UNREADABLE:
        _log.exception("a row of the table %s cannot be read", DEPLOYMENTS)
        return None


def event_from_row(row: Row) -> Event:
    """Raises one of `_UNREADABLE` where the row is not an event."""
    return Event(
        code=row["PartitionKey"],
        name=_text(row, "name"),
        starts_at=_time(row["starts_at"]),
        ends_at=_time(row["ends_at"]),
        active=_flag(row.get("active", True)),
        organizer=_text(row, "organizer"),
        time_zone=ZoneInfo(_text(row, "time_zone") or "UTC"),
        models=_names(_text(row, "models")),
        default_model=_text(row, "default_model") or None,
        **{name: _limit(row.get(name)) for name in LIMITS},
    )


LIMITS: Final = (
    "max_output_tokens",
    "requests_per_day",
    "tokens_per_day",
    "requests_per_minute",
    "requests_total",
    "tokens_total",
)


def event_to_row(event: Event) -> dict[str, Any]:
    limits = {name: value for name in LIMITS if (value := getattr(event, name)) is not None}
    return {
        "PartitionKey": event.code,
        "RowKey": EVENT_ROW,
        "name": event.name,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "active": event.active,
        "organizer": event.organizer,
        "time_zone": event.time_zone.key,
        "models": ",".join(event.models),
        "default_model": event.default_model or "",
        **{name: EntityProperty(value, EdmType.INT64) for name, value in limits.items()},
    }


def deployment_from_row(row: Row) -> Deployment:
    """Raises one of `_UNREADABLE` where the row is not a deployment."""
    return Deployment(
        model=row["PartitionKey"],
        id=row["RowKey"],
        endpoint=_address(_text(row, "endpoint")),
        deployment_name=_required(row, "deployment_name"),
        api_version=_text(row, "api_version") or API_V1,
        auth=_auth(_text(row, "auth") or MANAGED_IDENTITY),
        priority=int(_plain(row.get("priority", 1))),
        weight=int(_plain(row.get("weight", 1))),
        prompt_price=_price(row.get("prompt_price")),
        completion_price=_price(row.get("completion_price")),
        output_field=_output_field(_text(row, "output_field") or "max_completion_tokens"),
        active=_flag(row.get("active", True)),
    )


def deployment_to_row(deployment: Deployment) -> dict[str, Any]:
    prices = {"prompt_price": deployment.prompt_price, "completion_price": deployment.completion_price}
    return {
        "PartitionKey": deployment.model,
        "RowKey": deployment.id,
        "endpoint": deployment.endpoint,
        "deployment_name": deployment.deployment_name,
        "api_version": deployment.api_version,
        "auth": deployment.auth,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "output_field": deployment.output_field,
        "active": deployment.active,
        **{name: price for name, price in prices.items() if price is not None},
    }


def _text(row: Row, name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value


def _required(row: Row, name: str) -> str:
    if not (value := _text(row, name)):
        raise ValueError(f"{name} is empty")
    return value


def _output_field(value: str) -> str:
    if value not in OUTPUT_FIELDS:
        raise ValueError(f"output_field is none of {', '.join(OUTPUT_FIELDS)}")
    return value


def _plain(value: Any) -> Any:
    """A number as such: the library wraps those that are stored as Int64."""
    return value.value if isinstance(value, EntityProperty) else value


def ledger_from_row(row: Any) -> LedgerRow:
    """Raises KeyError, ValueError or TypeError where the row is not an account."""
    granted, used = (
        Amount(_count(row[f"requests_{part}"]), _count(row[f"tokens_{part}"])) for part in ("granted", "used")
    )
    return LedgerRow(granted, used, str(row.get("writer", "")), row.metadata["etag"])


def ledger_to_row(key: Key, row: LedgerRow) -> dict[str, Any]:
    return {
        "PartitionKey": key.event_code,
        "RowKey": key.row,
        "requests_granted": EntityProperty(row.granted.requests, EdmType.INT64),
        "tokens_granted": EntityProperty(row.granted.tokens, EdmType.INT64),
        "requests_used": EntityProperty(row.used.requests, EdmType.INT64),
        "tokens_used": EntityProperty(row.used.tokens, EdmType.INT64),
        "writer": row.writer,
    }


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError("not a time")
    # The library's own kind of datetime is left behind here.
    return datetime.combine(value.date(), value.time(), value.tzinfo or UTC).astimezone(UTC)


def _limit(value: Any) -> int | None:
    number = _plain(value)
    if number is None or number == "":
        return None
    if isinstance(number, bool) or int(number) < 0:
        raise ValueError("a limit is a number from 0 up")
    return int(number)


def _count(value: Any) -> int:
    """Nothing is taken for 0 here: that would give the quota out again."""
    count = _plain(value)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError("a count is a whole number from 0 up")
    return count


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _price(value: Any) -> float | None:
    price = _plain(value)
    return None if price is None or price == "" else float(price)


def _auth(value: str) -> str:
    """The app's own settings are no keys: a row that names one would send it to the row's endpoint."""
    if value.upper().startswith(PRIVATE_SETTINGS):
        raise ValueError("this setting is the app's own")
    return value


def _address(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in {"https", "http"} or not address.hostname or address.port == 0:
        raise ValueError("an endpoint begins with https://")
    return value.rstrip("/")
