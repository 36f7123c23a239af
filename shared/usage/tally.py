"""How much each user has used: counted in memory as calls end, and written down in the background.

A row of the table `usage` belongs to the one instance that writes it, and holds the whole of what that
instance counted. So it can be written again without harm, and no call ever waits for it.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from math import inf
from typing import Final, Protocol

from ..core.errors import ProxyError, StoreUnavailable, UpstreamBusy
from ..core.models import Counts, Credential, Usage, UsageRow

_log = logging.getLogger(__name__)

AT_ONCE: Final = 5
"""Rows in one write: to put more together at once would hold up the streams."""

PAUSE_SECONDS: Final = 0.05
"""Between two writes, where there is time for it: each takes milliseconds in which no stream goes on."""

KEPT: Final = timedelta(minutes=90)
"""A row stays in memory for so long after its hour began: the longest call takes an hour."""

MOST_KEPT: Final = 10_000
MOST_COUNTED: Final = 20_000
"""Anybody who knows an event's code can make up names. Beyond so many rows, new ones are counted together."""

OTHERS: Final = ""
"""Stands for the users beyond `MOST_COUNTED`: no user's own name is empty."""

DOUBT_SECONDS: Final = 60.0
"""A write that was given up may still arrive, and put its older row in place of a newer one: so the newer one
is written once more after this time. The service gives a request up after 30 s."""

_HOUR: Final = timedelta(hours=1)
_INSTANCE: Final = os.urandom(6).hex()
_numbers = count(1)


class UsageStore(Protocol):
    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        """Write whole rows that only `writer` writes, in place of those that it wrote before.

        Raises:
            StoreUnavailable: the table does not answer: which rows it wrote is not known.
        """


_Key = tuple[str, datetime, str, str]
"""Event code, hour, user, model. Not a NamedTuple: one is made for each call."""


class _Row:
    """One row of the table as this instance counts it; cheaper to add to than frozen `Counts`."""

    __slots__ = ("counts", "event_code", "failed_at", "hour", "is_changed", "key", "told_at", "writer")

    def __init__(self, key: _Key, writer: str) -> None:
        self.key = key
        self.event_code, self.hour, *_ = key
        self.writer = writer
        self.counts = [0] * len(Counts._fields)
        self.is_changed = False
        self.told_at = self.failed_at = -inf


_REQUESTS, _PROMPT_TOKENS, _COMPLETION_TOKENS, _REFUSALS, _ERRORS = range(len(Counts._fields))


class Tally:
    """Counts calls. What counts never awaits, so that no client that leaves can lose it.

    `now` gives the time in UTC; `clock` gives seconds and never goes back.
    """

    def __init__(
        self,
        store: UsageStore,
        flush_seconds: float,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._flush_seconds = flush_seconds
        self._now = now
        self._clock = clock
        self._writer = _new_writer()
        self._hour = self._hour_ends = datetime.min.replace(tzinfo=UTC)
        self._rows: dict[_Key, _Row] = {}
        self._changed: list[_Row] = []
        self._doubtful: deque[_Row] = deque()
        """Written, but soon after a write that failed and may still arrive."""
        self._one_flush = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None

    def forwarded(
        self, who: Credential, model: str, began_at: datetime, usage: Usage, *, is_cut: bool = False
    ) -> None:
        """A call that was forwarded and charged; where the upstream cut it, it is an error as well."""
        counts = self._counts(who, model, began_at)
        counts[_REQUESTS] += 1
        counts[_PROMPT_TOKENS] += usage.prompt_tokens
        counts[_COMPLETION_TOKENS] += usage.completion_tokens
        if is_cut:
            counts[_ERRORS] += 1

    def failed(self, who: Credential, model: str, began_at: datetime, error: ProxyError) -> None:
        """A call to a known event that got no answer: refused by us, or an error that the user cannot mend.

        `model` is empty where none was chosen yet.
        """
        is_error = error.status >= 500 or isinstance(error, UpstreamBusy)
        self._counts(who, model, began_at)[_ERRORS if is_error else _REFUSALS] += 1

    async def flush(self, seconds: float = 0.0) -> None:
        """Write what has changed, with pauses between the writes that take `seconds` at most in all.

        What cannot be written stays, and comes after all else next time.
        """
        async with self._one_flush:
            self._recall_doubtful()
            changed, self._changed = self._changed, []
            waiting = deque(_batches(changed))
            pause_seconds = min(PAUSE_SECONDS, seconds / max(1, len(waiting)))
            try:
                while waiting:
                    await self._write(waiting.popleft())
                    if waiting:
                        await asyncio.sleep(pause_seconds)
            except StoreUnavailable:
                _log.warning("the usage could not be written yet: the tables do not answer")
            finally:
                self._changed[:0] = [row for batch in waiting for row in batch]
            self._forget()

    async def close(self) -> None:
        """Stop the timer, and write everything. What the tables do not take now is lost, and logged."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait([self._flushing])
        await self.flush()
        if self._changed:
            _log.error("the usage in %d rows is lost: the tables do not answer", len(self._changed))

    def _counts(self, who: Credential, model: str, began_at: datetime) -> list[int]:
        """What to count in; it will be written before long."""
        # Nearly every call began within the same hour: one object for it is hashed only once.
        if self._hour <= began_at < self._hour_ends:
            hour = self._hour
        else:
            hour = self._hour = began_at.replace(minute=0, second=0, microsecond=0)
            self._hour_ends = hour + _HOUR
        key = (who.event_code, hour, who.user, model)
        row = self._rows.get(key) or self._new_row(key)
        if not row.is_changed:
            self._mark(row)
            self._start_flushing()
        return row.counts

    def _new_row(self, key: _Key) -> _Row:
        if len(self._rows) >= MOST_COUNTED:
            event_code, hour, _, model = key
            key = (event_code, hour, OTHERS, model)
        return self._rows.setdefault(key, _Row(key, self._writer))

    def _mark(self, row: _Row) -> None:
        if not row.is_changed:
            row.is_changed = True
            self._changed.append(row)

    def _start_flushing(self) -> None:
        """The platform kills workers, it does not stop them: so counts are written while there is time."""
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_while_changed())

    async def _flush_while_changed(self) -> None:
        while self._changed or self._doubtful:
            await asyncio.sleep(self._flush_seconds)
            await self.flush(self._flush_seconds / 2)

    async def _write(self, batch: list[_Row]) -> None:
        """Write one batch; if that fails, its rows count as changed again, after all others."""
        told = [UsageRow(*row.key, Counts(*row.counts)) for row in batch]
        for row in batch:
            row.is_changed = False
        try:
            await self._store.write_usage(told, batch[0].writer)
        except BaseException:
            for row in batch:
                row.failed_at = self._clock()
                self._mark(row)
            raise
        for row in batch:
            row.told_at = self._clock()
            if row.told_at < row.failed_at + DOUBT_SECONDS:
                self._doubtful.append(row)

    def _recall_doubtful(self) -> None:
        now = self._clock()
        while self._doubtful and now >= self._doubtful[0].failed_at + DOUBT_SECONDS:
            self._mark(self._doubtful.popleft())

    def _forget(self) -> None:
        """Let old rows go, and where there are too many, those that were written longest ago.

        Who is counted again after that gets rows of another writer: the table keeps both, to be summed.
        """
        kept_from, over = self._now() - KEPT, len(self._rows) - MOST_KEPT
        written = [row for row in self._rows.values() if not row.is_changed]
        gone = [row for row in written if row.hour < kept_from]
        if len(gone) < over:
            gone = heapq.nsmallest(over, written, key=lambda row: row.told_at)
        for row in gone:
            del self._rows[row.key]
        if gone:
            self._writer = _new_writer()


def _new_writer() -> str:
    return f"{_INSTANCE}-{next(_numbers)}"


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows that can be written together, in the order in which they came."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.event_code, row.writer), []).append(row)
    for group in groups.values():
        for first in range(0, len(group), AT_ONCE):
            yield group[first : first + AT_ONCE]
