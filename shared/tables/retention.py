"""Removes what is kept no longer: old rows of the tables `usage` and `quotas`, once a day."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from ..core.errors import StoreUnavailable
from .rows import quota_day, usage_rows_before
from .service import QUOTAS, USAGE
from .stores import RowKey, Tables

_log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 600.0
"""What is left then waits for the next day. Well below the platform's functionTimeout (host.json)."""


class Retention:
    """Any number of instances may do this at once: a row that is gone is no fault.

    `now` gives the time in UTC.
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
        self._usage_kept = timedelta(days=usage_days)
        self._quota_kept = timedelta(days=quota_days)
        self._now = now
        self._longest_seconds = longest_seconds

    async def remove_old_rows(self) -> None:
        """Remove what is too old, within a bounded time; told in one line of the log, whatever comes."""
        removed: Counter[str] = Counter()
        ending = "all that was old"
        try:
            async with asyncio.timeout(self._longest_seconds):
                await self._remove_usage(removed)
                await self._remove_quotas(removed)
        except TimeoutError:
            ending = "the rest waits for the next time"
        except StoreUnavailable:
            ending = "the tables do not answer: the rest waits for the next time"
        _log.info("removed %d rows of usage and %d of quotas: %s", removed[USAGE], removed[QUOTAS], ending)

    async def _remove_usage(self, removed: Counter[str]) -> None:
        before = usage_rows_before(self._now() - self._usage_kept)
        async for event_code in self._tables.partitions(USAGE):
            async for page in self._tables.keys(USAGE, event_code, before):
                await self._remove(USAGE, event_code, page, removed)

    async def _remove_quotas(self, removed: Counter[str]) -> None:
        before = self._now() - self._quota_kept
        async for event_code in self._tables.partitions(QUOTAS):
            async for page in self._tables.keys(QUOTAS, event_code):
                old = [row for row in page if await self._is_old(row, event_code, before)]
                await self._remove(QUOTAS, event_code, old, removed)

    async def _remove(
        self, table: str, event_code: str, rows: Sequence[RowKey], removed: Counter[str]
    ) -> None:
        await self._tables.delete_rows(table, event_code, [row.key for row in rows])
        removed[table] += len(rows)

    async def _is_old(self, row: RowKey, event_code: str, before: datetime) -> bool:
        """A user's row by its day; the total of an event only once that has ended for as long.

        An event that was removed may be made again, so its total is kept as long as if it ended then.
        """
        day = quota_day(row.key)
        if day is not None:
            return day < before.date()
        if row.written_at is None or row.written_at >= before:
            return False
        try:
            event = await self._tables.event(event_code)
        except StoreUnavailable:
            return False  # spoilt by hand, and perhaps open
        return event is None or event.ends_at < before
