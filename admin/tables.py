"""What only administrators read and change in Azure Table Storage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Event, Health, UsageRow
from shared.tables.columns import Row
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

TABLES: Final = (EVENTS, DEPLOYMENTS, QUOTAS, USAGE)
CHANGE_TRIES: Final = 20
"""How often a change is tried while others change the same row."""

T = TypeVar("T")


class Tables(ProxyTables):
    """The proxy's tables, and what administrators do with them besides."""

    def __init__(self, service: TableServiceClient) -> None:
        super().__init__(service)
        self._account = service
        self._event_rows = service.get_table_client(EVENTS)
        self._deployment_rows = service.get_table_client(DEPLOYMENTS)
        self._usage_rows = service.get_table_client(USAGE)

    async def create_tables(self) -> None:
        """Make the tables that are missing."""
        async with translated():
            for name in TABLES:
                await self._account.create_table_if_not_exists(name)

    async def events(self) -> list[Event]:
        """Every event.

        Raises:
            StoreUnavailable: the table does not answer, or a row cannot be read.
        """
        async with translated():
            rows = [row async for row in self._event_rows.list_entities()]
        return [readable(event_from_row, row) for row in rows]

    async def add_event(self, event: Event) -> None:
        """Add an event.

        Raises:
            AlreadyExists: its code is taken.
            StoreUnavailable: the table does not answer.
        """
        async with translated():
            await self._event_rows.create_entity(event_to_row(event))

    async def change_event(self, code: str, change: Callable[[Event], Event]) -> Event | None:
        """Change an event, and return it; None when there is none.

        Where somebody else changes it meanwhile, `change` is asked again with what they wrote: neither change
        is lost. What `change` raises is passed on, and nothing is written.

        Raises:
            StoreUnavailable: the table does not answer, or the event changes all the time.
        """
        return await _changed(
            self._event_rows,
            (code, EVENT_ROW),
            event_from_row,
            change,
            lambda _row, _before, now: event_to_row(now),
        )

    async def delete_event(self, code: str) -> None:
        """Remove an event; no matter if there is none. Its quota and usage rows stay."""
        async with translated():
            await self._event_rows.delete_entity(code, EVENT_ROW)

    async def add_deployment(self, deployment: Deployment) -> None:
        """Add a deployment.

        Raises:
            AlreadyExists: its id is taken.
            StoreUnavailable: the table does not answer.
        """
        async with translated():
            await self._deployment_rows.create_entity(deployment_to_row(deployment))

    async def change_deployment(
        self, deployment: Deployment, change: Callable[[Deployment], Deployment]
    ) -> Deployment | None:
        """Change the deployment of that model and id, as `change_event` does; all else in its row stays.

        Raises:
            StoreUnavailable: the table does not answer, or the deployment changes all the time.
        """
        key = (deployment.model, deployment.id)
        return await _changed(
            self._deployment_rows, key, deployment_from_row, change, changed_deployment_to_row
        )

    async def delete_deployment(self, deployment: Deployment) -> None:
        """Remove a deployment; no matter if it is gone."""
        async with translated():
            await self._deployment_rows.delete_entity(deployment.model, deployment.id)

    async def health(self) -> dict[tuple[str, str], Health]:
        """How each deployment was last seen, by model and id; those that never were are left out.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with translated():
            rows = [row async for row in self._deployment_rows.list_entities()]
        found = {(row["PartitionKey"], row["RowKey"]): health_from_row(row) for row in rows}
        return {key: health for key, health in found.items() if health is not None}

    async def usage(self, event_code: str, since: datetime | None = None) -> list[UsageRow]:
        """Every usage row of the event: one for each hour, user, model and writer, to be summed.

        With `since`, those of that hour (UTC) and later. A row that cannot be read is left out, and logged.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        async with translated(REPORT_SECONDS):
            rows = [
                row
                async for row in self._usage_rows.query_entities(
                    "PartitionKey eq @event and RowKey ge @since",
                    parameters={
                        "event": event_code,
                        "since": usage_rows_before(since) if since else "",
                    },
                )
            ]
        found = (readable_or_none(usage_from_row, row, USAGE) for row in rows)
        return [usage for usage in found if usage is not None]


async def _changed(
    table: TableClient,
    key: tuple[str, str],
    read: Callable[[Row], T],
    change: Callable[[T], T],
    write: Callable[[Row, T, T], dict[str, Any]],
) -> T | None:
    """Change one row if nobody does meanwhile; else again, on what they wrote. See `Tables.change_event`."""
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
