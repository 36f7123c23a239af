"""Deletes old rows of the tables `usage` and `quotas` once a day."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from ..core.errors import StoreUnavailable
from .quota_rows import quota_day
from .row_keys import RowKey
from .service import QUOTAS, USAGE, RowRefused
from .tables import Tables
from .usage_rows import usage_rows_before

_log = logging.getLogger(__name__)

LONGEST_SECONDS = 600.0
"""The rest is deleted the next day. Well below the platform's `functionTimeout` (host.json)."""


class Retention:
    """Deletes old rows. Several instances may do this at once: each skips the rows that another has deleted.

    `now` returns the time in UTC.
    """

    def __init__(
        self,
        tables: Tables,
        usage_days: float,
        quota_days: float,
        now: Callable[[], datetime],
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._tables = tables
        self._row_keys = tables.row_keys
        self._usage_kept = timedelta(days=usage_days)
        self._quota_kept = timedelta(days=quota_days)
        self._now = now
        self._longest_seconds = longest_seconds

    async def remove_old_rows(self) -> None:
        """Delete old rows within `longest_seconds`, and log the result in one line."""
        removed: Counter[str] = Counter()
        ending = "no old rows are left"
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._remove_usage(removed)
                await self._remove_quotas(removed)
        except TimeoutError:
            ending = "out of time, the next run continues"
        except StoreUnavailable:
            ending = "the tables are unavailable, the next run continues"
        _log.info("deleted %d usage rows and %d quota rows: %s", removed[USAGE], removed[QUOTAS], ending)

    async def _remove_usage(self, removed: Counter[str]) -> None:
        before = usage_rows_before(self._now() - self._usage_kept)
        async for event_code in self._row_keys.partitions(USAGE):
            with suppress(RowRefused):  # an odd key must not stop the other events
                async for page in self._row_keys.pages(USAGE, event_code, before):
                    await self._remove(USAGE, event_code, page, removed)

    async def _remove_quotas(self, removed: Counter[str]) -> None:
        before = self._now() - self._quota_kept
        async for event_code in self._row_keys.partitions(QUOTAS):
            with suppress(RowRefused):
                async for page in self._row_keys.pages(QUOTAS, event_code):
                    old = [row for row in page if await self._is_old(row, event_code, before)]
                    await self._remove(QUOTAS, event_code, old, removed)

    async def _remove(
        self, table: str, event_code: str, rows: Sequence[RowKey], removed: Counter[str]
    ) -> None:
        await self._row_keys.delete(table, event_code, [row.key for row in rows])
        removed[table] += len(rows)

    async def _is_old(self, row: RowKey, event_code: str, before: datetime) -> bool:
        """Whether a row of `quotas` is old: a user's row by its day, an event's total by the event's end.

        A deleted event can be created again. Its total is kept as if the event had ended at the last write.
        """
        day = quota_day(row.key)
        if day is not None:
            return day < before.date()
        if row.written_at is None or row.written_at >= before:
            return False
        try:
            event = await self._tables.event(event_code) or await self._tables.renamed_event(event_code)
        except StoreUnavailable:
            return False  # The event's row was damaged by hand; the event may still be open.
        return event is None or event.ends_at < before
