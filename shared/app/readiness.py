"""`GET /readyz`: whether the tables respond. Anyone can ask, so they are read only a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.loops import shared_result
from ..events.rate_limit import RateLimit
from ..tables.tables import Tables

READS_PER_SECOND = 4


class Readiness:
    """Checks the tables. `clock` returns seconds and never goes back."""

    def __init__(self, tables: Tables, clock: Callable[[], float]) -> None:
        self._tables = tables
        self._reads = RateLimit(READS_PER_SECOND, READS_PER_SECOND, clock)
        self._last: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """By a check that runs, or by a new one; if there were many of late, by the last.

        Raises:
            StoreUnavailable: the tables do not respond.
        """
        if self._last is None or (self._last.done() and self._reads.take()):
            self._last = asyncio.create_task(self._tables.check())
        await shared_result(self._last)
