"""The stores on Azure Table Storage. The only room that knows Azure's tables and their exceptions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

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
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from .errors import StoreUnavailable
from .ledger_row import Conflict, Key
from .ledger_row import Row as LedgerRow
from .metering import hashed
from .models import Deployment, Event, Health, UsageRow
from .rows import (
    EVENT_ROW,
    UNREADABLE,
    Row,
    changed_deployment_to_row,
    deployment_from_row,
    deployment_to_row,
    event_from_row,
    event_to_row,
    health_from_row,
    health_to_row,
    ledger_from_row,
    ledger_to_row,
    usage_from_row,
    usage_rows_before,
    usage_to_row,
)

_log = logging.getLogger(__name__)

EVENTS: Final = "events"
DEPLOYMENTS: Final = "deployments"
QUOTAS: Final = "quotas"
USAGE: Final = "usage"
TABLES: Final = (EVENTS, DEPLOYMENTS, QUOTAS, USAGE)
NOT_FOUND: Final = 404
TABLE_NOT_FOUND: Final = "TableNotFound"
CALL_SECONDS: Final = 5.0
"""A table call that takes longer is given up: an attendee waits for it."""

REPORT_SECONDS: Final = 60.0
"""Likewise, where an administrator reads many rows."""

CHANGE_TRIES: Final = 20
"""How often an administrator's change is tried while others change the same row."""

LARGEST_BATCH: Final = 100
"""Rows in one entity-group transaction (Azure Table Storage, "Performing entity group transactions")."""

_CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "retry_total": 1,
    "retry_backoff_factor": 0.1,
    "connection_timeout": 2,
    "read_timeout": 3,
    "logging_enable": False,
}

T = TypeVar("T")


class RowKey(NamedTuple):
    """Of one row, and when it was last written."""

    key: str
    written_at: datetime | None


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
        self._usage = service.get_table_client(USAGE)

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
        found = (_or_none(deployment_from_row, row, DEPLOYMENTS) for row in rows)
        return [deployment for deployment in found if deployment is not None]

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
        except UNREADABLE as error:
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

    async def change_event(self, code: str, change: Callable[[Event], Event]) -> Event | None:
        """Change an event, and return it; None when there is none.

        Where somebody else changes it meanwhile, `change` is asked again with what they wrote: neither change
        is lost. What `change` raises is passed on, and nothing is written.

        Raises:
            StoreUnavailable: the table does not answer, or the event changes all the time.
        """
        return await _changed(
            self._events,
            (code, EVENT_ROW),
            event_from_row,
            change,
            lambda _row, _before, now: event_to_row(now),
        )

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

    async def add_deployment(self, deployment: Deployment) -> None:
        """Add a deployment.

        Raises:
            AlreadyExists: its id is taken.
            StoreUnavailable: the table does not answer.
        """
        async with _translated():
            await self._deployments.create_entity(deployment_to_row(deployment))

    async def change_deployment(
        self, deployment: Deployment, change: Callable[[Deployment], Deployment]
    ) -> Deployment | None:
        """Change the deployment of that model and id, as `change_event` does; all else in its row stays.

        Raises:
            StoreUnavailable: the table does not answer, or the deployment changes all the time.
        """
        key = (deployment.model, deployment.id)
        return await _changed(self._deployments, key, deployment_from_row, change, changed_deployment_to_row)

    async def write_health(self, deployment: Deployment, health: Health) -> None:
        """Note beside a deployment how it was last seen; no matter if it is gone.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        row = health_to_row(deployment, health)
        async with _translated():
            with suppress(ResourceNotFoundError):
                await self._deployments.update_entity(row, mode=UpdateMode.MERGE)

    async def health(self) -> dict[tuple[str, str], Health]:
        """How each deployment was last seen, by model and id; those that never were are left out.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with _translated():
            rows = [row async for row in self._deployments.list_entities()]
        found = {(row["PartitionKey"], row["RowKey"]): health_from_row(row) for row in rows}
        return {key: health for key, health in found.items() if health is not None}

    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        """Write what `writer` counted: whole rows that only it writes, so the same may be written again.

        Raises:
            StoreUnavailable: the table does not answer; some of the rows may be written.
        """
        for _, group in groupby(sorted(rows), key=lambda row: row.event_code):
            entities = [usage_to_row(row, writer) for row in group]
            for first in range(0, len(entities), LARGEST_BATCH):
                batch = entities[first : first + LARGEST_BATCH]
                async with _translated():
                    await self._usage.submit_transaction(
                        [("upsert", entity, {"mode": UpdateMode.REPLACE}) for entity in batch]
                    )

    async def usage(self, event_code: str, since: datetime | None = None) -> list[UsageRow]:
        """Every usage row of the event: one for each hour, user, model and writer, to be summed.

        With `since`, those of that hour (UTC) and later. A row that cannot be read is left out, and logged.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with _translated(REPORT_SECONDS):
            rows = [
                row
                async for row in self._usage.query_entities(
                    "PartitionKey eq @event and RowKey ge @since",
                    parameters={
                        "event": event_code,
                        "since": usage_rows_before(since) if since else "",
                    },
                )
            ]
        found = (_or_none(usage_from_row, row, USAGE) for row in rows)
        return [usage for usage in found if usage is not None]

    async def partitions(self, table: str) -> AsyncIterator[str]:
        """Each partition key of the table, found by a query of its own: the rows between are not read.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        client, last = self._service.get_table_client(table), ""
        while True:
            rows = client.query_entities(
                "PartitionKey gt @last",
                parameters={"last": last},
                results_per_page=1,
                select=["PartitionKey"],
            )
            async with _translated(REPORT_SECONDS):
                row = await anext(rows, None)
            if row is None:
                return
            last = row["PartitionKey"]
            yield last

    async def keys(
        self, table: str, partition: str, before: str | None = None
    ) -> AsyncIterator[list[RowKey]]:
        """The keys of a partition's rows, those below `before`, in the pages in which the service gives them.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        query, values = "PartitionKey eq @partition", {"partition": partition}
        if before is not None:
            query, values = f"{query} and RowKey lt @before", values | {"before": before}
        client = self._service.get_table_client(table)
        rows = client.query_entities(query, parameters=values, select=["RowKey", "Timestamp"])
        pages = rows.by_page()
        while True:
            async with _translated(REPORT_SECONDS):
                page = await anext(pages, None)
                if page is None:
                    return
                found = [RowKey(row["RowKey"], row.metadata["timestamp"]) async for row in page]
            yield found

    async def delete_rows(self, table: str, partition: str, keys: Sequence[str]) -> None:
        """Remove rows of one partition; no matter if some are gone.

        Raises:
            StoreUnavailable: the table does not answer; some of the rows may be removed.
        """
        client = self._service.get_table_client(table)
        for first in range(0, len(keys), LARGEST_BATCH):
            rows = [{"PartitionKey": partition, "RowKey": key} for key in keys[first : first + LARGEST_BATCH]]
            async with _translated(REPORT_SECONDS):
                try:
                    await client.submit_transaction([("delete", row) for row in rows])
                except HttpResponseError as error:
                    if error.status_code != NOT_FOUND:
                        raise
                    # Somebody else removes too, and one row that is gone undoes a whole transaction.
                    for row in rows:
                        await client.delete_entity(row)

    async def close(self) -> None:
        await self._service.close()


async def _changed(
    table: TableClient,
    key: tuple[str, str],
    read: Callable[[Row], T],
    change: Callable[[T], T],
    write: Callable[[Row, T, T], dict[str, Any]],
) -> T | None:
    """Change one row if nobody does meanwhile; else again, on what they wrote. See `Tables.change_event`."""
    for _ in range(CHANGE_TRIES):
        async with _translated():
            try:
                row = await table.get_entity(*key)
            except ResourceNotFoundError:
                return None
        before = _readable(read, row)
        after = change(before)
        async with _translated():
            with suppress(ResourceModifiedError, ResourceNotFoundError):
                await table.update_entity(
                    write(row, before, after),
                    mode=UpdateMode.REPLACE,
                    etag=row.metadata["etag"],
                    match_condition=MatchConditions.IfNotModified,
                )
                return after
    raise StoreUnavailable


@asynccontextmanager
async def _translated(seconds: float = CALL_SECONDS) -> AsyncIterator[None]:
    """Every exception of the tables, as one of ours. A test holds each of azure-core's against it."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except ResourceExistsError as error:
        raise AlreadyExists from error
    except HttpResponseError as error:
        _log.warning("the tables answered %s %s", error.status_code, getattr(error, "error_code", ""))
        raise StoreUnavailable from error
    except (AzureError, SerializationError, DeserializationError, TimeoutError, OSError) as error:
        _log.warning("the tables do not answer: %s", type(error).__name__)
        raise StoreUnavailable from error


_NOT_SET_UP: Final = "This event is not set up correctly. Tell your organiser."


def _readable(read: Callable[[Row], T], row: Row) -> T:
    try:
        return read(row)
    except UNREADABLE as error:
        _log.exception("a row cannot be read")
        raise StoreUnavailable(_NOT_SET_UP, 30) from error


def _or_none(read: Callable[[Row], T], row: Row, table: str) -> T | None:
    try:
        return read(row)
    except UNREADABLE:
        _log.exception("a row of the table %s cannot be read", table)
        return None
