"""What the organiser's desk reads and changes in the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

from azure.core import MatchConditions
from azure.core.exceptions import ResourceModifiedError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableServiceClient

from ..core.counts import UsageRow
from ..core.errors import StoreUnavailable
from ..core.models import Deployment, Event, Health
from ..core.turns import Turns
from ..quota.ledger_row import Key, LedgerRow
from ..quota.standing import TOTAL_ROW
from .deployment_rows import deployment_from_row, health_from_row
from .event_rows import EVENT_ROW, event_from_row, event_to_row
from .service import (
    CALL_SECONDS,
    DEPLOYMENTS,
    EVENTS,
    REPORT_SECONDS,
    USAGE,
    find_row,
    readable,
    readable_or_none,
    translated,
)
from .usage_rows import usage_from_row, usage_rows_before

ROWS_IN_A_PAGE = 100
"""Decoding a page takes some milliseconds, and streams wait for it. The hour of 60 attendees with two models
on two instances has three pages."""
CHANGE_TRIES = 20
"""Tries to change a row that others change at the same time."""


class DeskTables:
    """Every method raises StoreUnavailable if the tables do not respond."""

    def __init__(
        self,
        service: TableServiceClient,
        turns: Turns,
        read_event: Callable[[str], Awaitable[Event | None]],
        read_ledger: Callable[[Key], Awaitable[LedgerRow]],
    ) -> None:
        self._events = service.get_table_client(EVENTS)
        self._deployments = service.get_table_client(DEPLOYMENTS)
        self._usage = service.get_table_client(USAGE)
        self._turns = turns
        self._read_event = read_event
        self._read_ledger = read_ledger

    async def event(self, code: str) -> Event | None:
        """The event as its row is now, or None if it does not exist."""
        return await self._read_event(code)

    async def total(self, event_code: str) -> LedgerRow:
        """The account of the whole event."""
        return await self._read_ledger(Key(event_code, TOTAL_ROW))

    async def deployments(self) -> list[tuple[Deployment, Health | None]]:
        """Every deployment, with its last known health. A row that cannot be read is left out."""
        async with self._call():
            rows = [row async for row in self._deployments.list_entities()]
        found = [(readable_or_none(deployment_from_row, row, DEPLOYMENTS), row) for row in rows]
        return [(deployment, health_from_row(row)) for deployment, row in found if deployment is not None]

    async def usage(self, event_code: str, since: datetime | None) -> AsyncIterator[Sequence[UsageRow]]:
        """The rows of the hour `since` and later, in small pages, so that streams get their turns."""
        rows = self._usage.query_entities(
            "PartitionKey eq @event and RowKey ge @since",
            parameters={"event": event_code, "since": usage_rows_before(since) if since else ""},
            results_per_page=ROWS_IN_A_PAGE,
        )
        pages = rows.by_page()
        while True:
            async with self._call(REPORT_SECONDS):
                page = await anext(pages, None)
                found = [] if page is None else [row async for row in page]
            if page is None:
                return
            usage = [readable_or_none(usage_from_row, row, USAGE) for row in found]
            yield [row for row in usage if row is not None]

    async def change_event(self, code: str, change: Callable[[Event], Event]) -> Event | None:
        """Change an event and return it; None if it does not exist.

        Only the columns that differ are written, and only if the row is unchanged since it was read.
        Otherwise `change` is called again, with the row as it is then. What `change` raises ends it.
        """
        for _ in range(CHANGE_TRIES):
            async with self._call():
                row = await find_row(self._events, code, EVENT_ROW)
            if row is None:
                return None
            before = readable(event_from_row, row)
            after = change(before)
            if after == before or await self._write(before, after, row.metadata["etag"]):
                return after
        raise StoreUnavailable

    async def _write(self, before: Event, after: Event, version: str | None) -> bool:
        """False if the row has another version. Without a version, nothing is written."""
        if not version:
            raise StoreUnavailable
        old, new = event_to_row(before), event_to_row(after)
        changed = {name: value for name, value in new.items() if old.get(name) != value}
        async with self._call():
            try:
                await self._events.update_entity(
                    {"PartitionKey": after.code, "RowKey": EVENT_ROW} | changed,
                    mode=UpdateMode.MERGE,
                    etag=version,
                    match_condition=MatchConditions.IfNotModified,
                    retry_total=0,
                )
            except (ResourceModifiedError, ResourceNotFoundError):
                return False
        return True

    def _call(self, seconds: float = CALL_SECONDS) -> AbstractAsyncContextManager[None]:
        return translated(seconds, self._turns)
