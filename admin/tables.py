"""The reads and changes of the tables that only administrators make."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from admin.errors import CommandError
from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Event, Health, UsageRow
from shared.tables.columns import UNREADABLE, Row
from shared.tables.deployment_rows import (
    changed_deployment_to_row,
    deployment_from_row,
    deployment_to_row,
    health_from_row,
)
from shared.tables.event_rows import EVENT_ROW, event_from_row, event_to_row
from shared.tables.service import (
    DEPLOYMENTS,
    EVENTS,
    QUOTAS,
    REPORT_SECONDS,
    USAGE,
    readable,
    readable_or_none,
    translated,
)
from shared.tables.stores import Tables as ProxyTables
from shared.tables.usage_rows import usage_from_row, usage_rows_before

TABLES = (EVENTS, DEPLOYMENTS, QUOTAS, USAGE)
CHANGE_TRIES = 20
"""Tries to change a row that others change at the same time."""

T = TypeVar("T")


class Tables(ProxyTables):
    """The proxy's tables, with the methods for administrators.

    Every method raises StoreUnavailable if the tables cannot be used.
    """

    def __init__(self, service: TableServiceClient) -> None:
        super().__init__(service)
        self._account = service
        self._event_rows = service.get_table_client(EVENTS)
        self._deployment_rows = service.get_table_client(DEPLOYMENTS)
        self._usage_rows = service.get_table_client(USAGE)

    @property
    def url(self) -> str:
        """The address, without a signature."""
        return str(self._account.url).partition("?")[0]

    async def create_tables(self) -> None:
        """Create the tables that are missing."""
        async with translated():
            for name in TABLES:
                await self._account.create_table_if_not_exists(name)

    async def events(self) -> list[Event]:
        """Raises CommandError if a row cannot be read."""
        async with translated():
            rows = [row async for row in self._event_rows.list_entities()]
        return [_read_event(row) for row in rows]

    async def add_event(self, event: Event) -> None:
        """Raises AlreadyExists if the code is taken."""
        async with translated():
            await self._event_rows.create_entity(event_to_row(event))

    async def change_event(self, code: str, change: Callable[[Event], Event]) -> Event | None:
        """Change an event and return it; None if it does not exist.

        If others change it at the same time, `change` is called again with their version, so that no change
        is lost. If `change` raises an error, nothing is written.
        """

        def to_row(_row: Row, _before: Event, after: Event) -> dict[str, Any]:
            return event_to_row(after)

        return await _change(self._event_rows, (code, EVENT_ROW), event_from_row, change, to_row)

    async def delete_event(self, code: str) -> None:
        """Delete an event, if it exists. Its quota and usage rows stay."""
        async with translated():
            await self._event_rows.delete_entity(code, EVENT_ROW)

    async def add_deployment(self, deployment: Deployment) -> None:
        """Raises AlreadyExists if the id is taken."""
        async with translated():
            await self._deployment_rows.create_entity(deployment_to_row(deployment))

    async def change_deployment(
        self, deployment: Deployment, change: Callable[[Deployment], Deployment]
    ) -> Deployment | None:
        """As `change_event`. Columns that are not part of a deployment stay as they are."""
        key = (deployment.model, deployment.id)
        return await _change(
            self._deployment_rows, key, deployment_from_row, change, changed_deployment_to_row
        )

    async def delete_deployment(self, deployment: Deployment) -> None:
        """Delete a deployment, if it exists."""
        async with translated():
            await self._deployment_rows.delete_entity(deployment.model, deployment.id)

    async def health(self) -> dict[tuple[str, str], Health]:
        """The health of each deployment that was used, by model and id."""
        async with translated():
            rows = [row async for row in self._deployment_rows.list_entities()]
        found = {(row["PartitionKey"], row["RowKey"]): health_from_row(row) for row in rows}
        return {key: health for key, health in found.items() if health is not None}

    async def usage(self, event_code: str, since: datetime | None = None) -> list[UsageRow]:
        """The usage rows of the event: one for each hour, user, model and writer.

        With `since`, only the rows of that hour (UTC) and later. Rows that cannot be read are logged and
        left out.
        """
        async with translated(REPORT_SECONDS):
            found = self._usage_rows.query_entities(
                "PartitionKey eq @event and RowKey ge @since",
                parameters={"event": event_code, "since": usage_rows_before(since) if since else ""},
            )
            rows = [row async for row in found]
        usage = (readable_or_none(usage_from_row, row, USAGE) for row in rows)
        return [one for one in usage if one is not None]


def _read_event(row: Row) -> Event:
    try:
        return event_from_row(row)
    except UNREADABLE as error:
        column = next((name for name in row if _is_readable_without(name, row)), None)
        value = f"{column} is {row[column]!r}" if column else str(error)
        raise CommandError(
            f"The event {row['PartitionKey']!r} has a value that cannot be read: {value}. "
            f"Correct its row in the table {EVENTS!r}."
        ) from error


def _is_readable_without(column: str, row: Row) -> bool:
    try:
        event_from_row({name: value for name, value in row.items() if name != column})
    except UNREADABLE:
        return False
    return True


async def _change(
    table: TableClient,
    key: tuple[str, str],
    read: Callable[[Row], T],
    change: Callable[[T], T],
    write: Callable[[Row, T, T], dict[str, Any]],
) -> T | None:
    """Change one row by a conditional write; try again if it has changed. See `Tables.change_event`."""
    for _ in range(CHANGE_TRIES):
        async with translated():
            try:
                row = await table.get_entity(*key)
            except ResourceNotFoundError:
                return None
        before = readable(read, row)
        after = change(before)
        async with translated():
            with suppress(ResourceModifiedError, ResourceNotFoundError):
                await table.update_entity(
                    write(row, before, after),
                    mode=UpdateMode.REPLACE,
                    etag=row.metadata["etag"],
                    match_condition=MatchConditions.IfNotModified,
                )
                return after
    raise StoreUnavailable
