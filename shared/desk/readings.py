"""Reads what the desk shows: once for all open desks, and only while a desk is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import inf
from typing import NamedTuple, Protocol

from ..core.counts import UsageRow
from ..core.loops import shared_result
from ..core.models import Deployment, Event, Health
from ..quota.ledger_row import LedgerRow
from .sums import Sums, minute_of

REFRESH_SECONDS = 5.0
"""An event is summed at most this often, however many desks are open."""
HEALTH_SECONDS = 30.0
"""The deployments are read this often, in place of the usage: so there is one query in `REFRESH_SECONDS`."""
FORGET_SECONDS = 600.0
"""After this time without a look, the sums of an event are dropped."""
CHANGING = timedelta(hours=1)
"""Rows of this hour and of the one before change: a call counts in the hour in which it began."""
AT_ONCE = 10
"""Rows that are summed before other work gets a turn."""

WithHealth = Sequence[tuple[Deployment, Health | None]]


class DeskStore(Protocol):
    """Each method raises StoreUnavailable if the table does not respond."""

    async def event(self, code: str) -> Event | None:
        """The event as its row is now."""

    async def total(self, event_code: str) -> LedgerRow:
        """The account of the whole event."""

    async def deployments(self) -> WithHealth:
        """Every deployment."""

    def usage(self, event_code: str, since: datetime | None) -> AsyncIterator[Sequence[UsageRow]]:
        """The usage of an event, from the hour `since` on, in pages."""


class Reading(NamedTuple):
    """What the tables say about an event at one moment."""

    at: datetime
    event: Event
    total: LedgerRow
    sums: Sums
    summed_at: datetime
    """When the usage was read: some seconds before `at` if the deployments were read in its place."""
    deployments: WithHealth


class Readings:
    """`now` returns the time in UTC. `clock` returns seconds and never goes back."""

    def __init__(self, store: DeskStore, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    async def read(self, code: str) -> Reading | None:
        """The latest reading of the event with this code, at most `REFRESH_SECONDS` old. None if it is gone.

        Raises:
            StoreUnavailable: the tables do not respond.
        """
        clock = self._clock()
        for other in [one for one, watched in self._watched.items() if watched.is_idle(clock)]:
            del self._watched[other]
        watched = self._watched.setdefault(code, _Watched(self._store, code))
        return await watched.read(self._now(), clock)

    def note(self, event: Event) -> None:
        """The event was changed here: show it at once."""
        if watched := self._watched.get(event.code):
            watched.changed = event


class _Watched:
    """An event whose desk is open."""

    def __init__(self, store: DeskStore, code: str) -> None:
        self._store = store
        self._code = code
        self._looked_at = 0.0
        """Of the clock, like the times of the readings below."""
        self._reading: asyncio.Task[Reading | None] | None = None
        self._read_at = 0.0
        self._closed = self._sums = Sums(0)
        """The sums of the rows that change no more, and of all rows."""
        self._closed_before: datetime | None = None
        """The first hour that is not in the closed sums."""
        self._summed_at = datetime.min.replace(tzinfo=UTC)
        self._deployments: WithHealth = ()
        self._deployments_read_at = self._sums_read_at = -inf
        self.changed: Event | None = None
        """The event as an action of this instance left it, after the latest reading began."""

    def is_idle(self, clock: float) -> bool:
        return clock >= self._looked_at + FORGET_SECONDS

    async def read(self, now: datetime, clock: float) -> Reading | None:
        """Start a reading, unless there is one that is young enough. A failed one is shared too."""
        self._looked_at = clock
        if self._reading is None or clock >= self._read_at + REFRESH_SECONDS:
            self._read_at, self.changed = clock, None
            self._reading = asyncio.create_task(self._read(now, clock))
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        found = await shared_result(self._reading)
        return found._replace(event=self.changed) if found and self.changed else found

    async def _read(self, now: datetime, clock: float) -> Reading | None:
        event = await self._store.event(self._code)
        if event is None:
            return None
        total = await self._store.total(event.ledger_code)
        is_due = clock >= self._deployments_read_at + HEALTH_SECONDS
        if is_due:
            self._deployments, self._deployments_read_at = await self._store.deployments(), clock
        if not is_due or clock >= self._sums_read_at + 2 * REFRESH_SECONDS:
            await self._sum(event.ledger_code, now)
            self._sums_read_at = clock
        return Reading(now, event, total, self._sums, self._summed_at, self._deployments)

    async def _sum(self, code: str, now: datetime) -> None:
        """Read the rows that can have changed since the last time. Older ones are summed once."""
        changes_from = now.replace(minute=0, second=0, microsecond=0) - CHANGING
        closed, live = self._closed.copy(minute_of(now)), []
        async for page in self._store.usage(code, self._closed_before):
            for row in page:
                if row.hour < changes_from:
                    closed.add(row)
                else:
                    live.append(row)
        sums = closed.copy(minute_of(now))
        for number, row in enumerate(live):
            sums.add(row)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._closed, self._closed_before, self._sums, self._summed_at = closed, changes_from, sums, now
