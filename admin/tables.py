"""The reads and changes of the tables that only administrators make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from admin.rows import DEPLOYMENT, EVENT, BadRow, Kind, Rows, parse, parse_all, parse_usage
from shared.core.counts import UsageRow
from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Event, Health
from shared.quota.amounts import Amount
from shared.tables.columns import Row
from shared.tables.deployment_rows import (
    changed_deployment_to_row,
    deployment_to_row,
    health_from_row,
)
from shared.tables.event_rows import EVENT_ROW, changed_event_to_row, event_from_row, event_to_row
from shared.tables.quota_rows import ledger_from_row
from shared.tables.service import (
    ATTENDEES,
    DEPLOYMENTS,
    EVENTS,
    QUOTAS,
    REPORT_SECONDS,
    USAGE,
    readable_or_none,
    translated,
)
from shared.tables.tables import Tables as ProxyTables
from shared.tables.usage_rows import usage_rows_before

TABLES = (EVENTS, DEPLOYMENTS, QUOTAS, USAGE, ATTENDEES)
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
        self._quota_rows = service.get_table_client(QUOTAS)
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

    async def events(self) -> Rows[Event]:
        async with translated():
            rows = [row async for row in self._event_rows.list_entities()]
        return parse_all(EVENT, rows)

    async def find_event(self, code: str) -> Event | BadRow | None:
        """The event of that code. Also a row that has a wrong key, by its partition key or by both keys.

        `PARTITION-KEY/ROW-KEY` names one row, because neither key can contain a slash.
        """
        code, _, row_key = code.partition("/")
        keys = {"lower": code.lower(), "exact": code}
        async with translated():
            found = self._event_rows.query_entities(
                "PartitionKey eq @lower or PartitionKey eq @exact", parameters=keys
            )
            rows = [row async for row in found]
        first = (code, row_key) if row_key else (code.lower(), EVENT_ROW)
        rows.sort(key=lambda row: (row["PartitionKey"], row["RowKey"]) != first)
        if row_key and rows and (rows[0]["PartitionKey"], rows[0]["RowKey"]) != first:
            return None
        return parse(EVENT, rows[0]) if rows else None

    async def add_event(self, event: Event) -> None:
        """Raises AlreadyExists if the code is taken."""
        async with translated():
            await self._event_rows.create_entity(event_to_row(event))

    async def change_event(
        self, code: str, change: Callable[[Event], Event], replaced: Collection[str] = ()
    ) -> Event | None:
        """Change an event and return it; None if it does not exist.

        If others change it at the same time, `change` is called again with their version, so that no change
        is lost. If `change` raises an error, nothing is written. The columns `replaced`, which `change` sets,
        may be unreadable. Raises CommandError if another one is.
        """
        key, read = (code, EVENT_ROW), _reader(EVENT, replaced)
        return await _change(self._event_rows, key, read, change, changed_event_to_row)

    async def rename_event(self, code: str, new_code: str) -> Event:
        """Move an event to another code. Its usage, quotas and attendees stay under its first code.

        For a moment, both codes work. Raises AlreadyExists if the new code is taken.
        """
        for _ in range(CHANGE_TRIES):
            async with translated():
                row = await self._event_rows.get_entity(code, EVENT_ROW)
            first_code = row.get("first_code") or code
            moved = {
                **row,
                "PartitionKey": new_code,
                "first_code": "" if first_code == new_code else first_code,
            }
            async with translated():
                await self._event_rows.create_entity(moved)
            async with translated():
                with suppress(ResourceModifiedError):
                    await self._event_rows.delete_entity(
                        row, etag=row.metadata["etag"], match_condition=MatchConditions.IfNotModified
                    )
                    return event_from_row(moved)
            await self.delete_event(new_code)  # the event was changed after it was read: try again
        raise StoreUnavailable

    async def used_on(self, event_code: str, day: str) -> dict[str, Amount]:
        """What each user has used on a quota day. A row that cannot be read is left out."""
        async with translated(REPORT_SECONDS):
            found = self._quota_rows.query_entities(
                "PartitionKey eq @event", parameters={"event": event_code}
            )
            rows = [row async for row in found if row["RowKey"].endswith(f":{day}")]
        ledgers = {
            row["RowKey"].rpartition(":")[0]: readable_or_none(ledger_from_row, row, QUOTAS) for row in rows
        }
        return {user: ledger.used for user, ledger in ledgers.items() if ledger is not None}

    async def delete_event(self, code: str, row_key: str = EVENT_ROW) -> None:
        """Delete an event, if it exists. Its quota and usage rows stay."""
        async with translated():
            await self._event_rows.delete_entity(code, row_key)

    async def add_deployment(self, deployment: Deployment) -> None:
        """Raises AlreadyExists if the id is taken."""
        async with translated():
            await self._deployment_rows.create_entity(deployment_to_row(deployment))

    async def change_deployment(
        self,
        deployment: Deployment,
        change: Callable[[Deployment], Deployment],
        replaced: Collection[str] = (),
    ) -> Deployment | None:
        """As `change_event`. Columns that are not part of a deployment stay as they are."""
        key, read = (deployment.model, deployment.id), _reader(DEPLOYMENT, replaced)
        return await _change(self._deployment_rows, key, read, change, changed_deployment_to_row)

    async def delete_deployment(self, model: str, deployment_id: str) -> None:
        """Delete a deployment, if it exists."""
        async with translated():
            await self._deployment_rows.delete_entity(model, deployment_id)

    async def deployments_and_health(self) -> tuple[Rows[Deployment], dict[tuple[str, str], Health]]:
        """Every deployment, and the health of each that was used, by model and id."""
        async with translated():
            rows = [row async for row in self._deployment_rows.list_entities()]
        found = {(row["PartitionKey"], row["RowKey"]): health_from_row(row) for row in rows}
        health = {key: health for key, health in found.items() if health is not None}
        return parse_all(DEPLOYMENT, rows), health

    async def read_usage(
        self, event_code: str, since: datetime | None = None
    ) -> tuple[list[UsageRow], list[str]]:
        """The usage rows of the event: one for each hour, user, model and writer.

        With `since`, only the rows of that hour (UTC) and later. A row that cannot be read is left out, with
        a sentence that names it.
        """
        async with translated(REPORT_SECONDS):
            found = self._usage_rows.query_entities(
                "PartitionKey eq @event and RowKey ge @since",
                parameters={"event": event_code, "since": usage_rows_before(since) if since else ""},
            )
            rows = [row async for row in found]
        return parse_usage(rows)

    async def pages(self, table: str) -> AsyncIterator[list[Row]]:
        """Every row of a table, in the service's pages."""
        pages = self._account.get_table_client(table).list_entities().by_page()
        while True:
            async with translated(REPORT_SECONDS):
                page = await anext(pages, None)
                if page is None:
                    return
                rows: list[Row] = [row async for row in page]
            yield rows

    async def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows of one partition, all or none. Raises AlreadyExists if there is one of them."""
        async with translated(REPORT_SECONDS):
            await self._account.get_table_client(table).submit_transaction([("create", row) for row in rows])


def _reader(kind: Kind[T], replaced: Collection[str]) -> Callable[[Row], T]:
    """Reads a row in which the columns `replaced` may be unreadable."""

    def read(row: Row) -> T:
        found = parse(kind, row)
        return found.corrected(replaced) if isinstance(found, BadRow) else found

    return read


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
        before = read(row)
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
