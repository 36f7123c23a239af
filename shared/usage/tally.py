"""Counts what each user uses in memory, and writes the counts to the table in the background.

A row of the table `usage` has one writer and holds everything that this writer counted. So a row can be
written again at any time, and no call waits for a write.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from math import inf
from typing import Protocol

from ..core.counts import OTHERS, Counts, Minute, UsageRow
from ..core.errors import ProxyError, StoreUnavailable, UpstreamBusy
from ..core.ids import new_id
from ..core.loops import repeat
from ..core.models import Credential, Usage

_log = logging.getLogger(__name__)

AT_ONCE = 5
"""Rows in one write. Building a larger one would delay the streams."""

PAUSE_SECONDS = 0.05
"""The pause between two writes, if there is time. Each write blocks the streams for some milliseconds."""

KEPT = timedelta(minutes=90)
"""How long a row stays in memory after its hour began. The longest call takes less than an hour."""

MOST_KEPT = 10_000
"""Rows that stay in memory after they are written."""

MOST_COUNTED = 20_000
"""An attacker with an event code can invent user names. Above this number, new users share one row."""

MOST_TOKENS = 2**62
"""Of one call. The table stores no larger number."""

DOUBT_SECONDS = 60.0
"""A write that timed out may still arrive and replace a newer row. So the newer row is written again after
this time. The service itself ends a request after 30 s."""

_HOUR = timedelta(hours=1)


class UsageStore(Protocol):
    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        """Write rows, and replace those that `writer` wrote before.

        Raises:
            StoreUnavailable: the table is unavailable. Some of the rows may be written.
        """


_Key = tuple[str, datetime, str, str]
"""Event code, hour, user, model. A plain tuple is cheaper to build, and each call builds one."""


class _Row:
    """A row of the table, as this instance counts it: by minute. The row's own counts are their sums."""

    __slots__ = (
        "event_code",
        "failed_at",
        "hour",
        "is_changed",
        "key",
        "minutes",
        "refused_for",
        "writer",
        "written_at",
    )

    def __init__(self, key: _Key, writer: str) -> None:
        self.key = key
        self.event_code, self.hour, *_ = key
        self.writer = writer
        self.minutes: dict[int, list[int]] = {}
        self.refused_for = ""
        self.is_changed = False
        self.written_at = self.failed_at = -inf

    def minute(self, began_at: datetime) -> list[int]:
        """The counts to add to, in the order of `Counts`, which itself cannot be changed."""
        found = self.minutes.get(began_at.minute)
        if found is None:
            found = self.minutes[began_at.minute] = [0] * len(Counts._fields)
        return found

    def to_usage(self) -> UsageRow:
        counts = {minute: Counts(*counts) for minute, counts in self.minutes.items()}
        minutes = {minute: _minute(one) for minute, one in counts.items()}
        return UsageRow(*self.key, reduce(Counts.plus, counts.values(), Counts()), minutes, self.refused_for)


_REQUESTS, _PROMPT_TOKENS, _COMPLETION_TOKENS, _REFUSALS, _ERRORS, _CACHED_TOKENS, _COST = range(
    len(Counts._fields)
)


class Tally:
    """Counts calls. Counting never awaits, so no count is lost when a client leaves.

    `now` returns the time in UTC. `clock` returns seconds and never goes back.
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
        self._writer = new_id()
        self._hour = self._hour_ends = datetime.min.replace(tzinfo=UTC)
        self._rows: dict[_Key, _Row] = {}
        self._changed: list[_Row] = []
        self._doubtful: deque[_Row] = deque()
        """Rows that were written soon after a failed write. That write may still arrive and replace them."""
        self._one_flush = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None

    def count_call(
        self,
        credential: Credential,
        model: str,
        began_at: datetime,
        usage: Usage,
        cost: int = 0,
        *,
        is_cut: bool = False,
    ) -> None:
        """Count a call that was forwarded and charged `cost`. A stream that was cut is also an error."""
        counts = self._row(credential, model, began_at).minute(began_at)
        counts[_REQUESTS] += 1
        counts[_PROMPT_TOKENS] += _bounded(usage.prompt_tokens)
        counts[_COMPLETION_TOKENS] += _bounded(usage.completion_tokens)
        counts[_CACHED_TOKENS] += usage.cached_tokens
        counts[_COST] += _bounded(cost)
        if is_cut:
            counts[_ERRORS] += 1

    def count_failure(
        self, credential: Credential, model: str, began_at: datetime, error: ProxyError
    ) -> None:
        """Count a failed call to a known event: a refusal of the proxy, or an error that is not the user's.

        `model` is empty if none was chosen yet.
        """
        is_error = error.status >= 500 or isinstance(error, UpstreamBusy)
        row = self._row(credential, model, began_at)
        row.minute(began_at)[_ERRORS if is_error else _REFUSALS] += 1
        row.refused_for = error.code

    async def flush(self, seconds: float = 0.0) -> None:
        """Write the rows that have changed. The pauses between the writes add up to at most `seconds`.

        Rows that cannot be written are written last in the next flush.
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
                _log.warning("the tables are unavailable: usage will be written later")
            except Exception:
                _log.exception("some usage could not be written: it will be written later, after all other")
            finally:
                self._changed[:0] = [row for batch in waiting for row in batch]
            self._forget()

    async def close(self) -> None:
        """Stop the timer, and write everything. Rows that cannot be written now are lost, and logged."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait([self._flushing])
        await self.flush()
        if self._changed:
            _log.error("the tables are unavailable: %d rows of usage are lost", len(self._changed))

    def _row(self, credential: Credential, model: str, began_at: datetime) -> _Row:
        """The row to count in. Marks it as changed, so that it is written soon."""
        # Nearly all calls began in the same hour. The hash of one shared `datetime` is computed only once.
        if self._hour <= began_at < self._hour_ends:
            hour = self._hour
        else:
            hour = self._hour = began_at.replace(minute=0, second=0, microsecond=0)
            self._hour_ends = hour + _HOUR
        key = (credential.event_code, hour, credential.user, model)
        row = self._rows.get(key) or self._new_row(key)
        if not row.is_changed:
            self._mark(row)
            self._start_flushing()
        return row

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
        """Counts are written all the time, because the platform kills workers without a warning."""
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_while_changed())

    async def _flush_while_changed(self) -> None:
        await repeat(
            lambda: self.flush(self._flush_seconds / 2),
            self._flush_seconds,
            "The writing of usage",
            lambda: self._changed or self._doubtful,
        )

    async def _write(self, batch: list[_Row]) -> None:
        """Write one batch. If that fails, mark its rows as changed, after all others."""
        rows = [row.to_usage() for row in batch]
        for row in batch:
            row.is_changed = False
        try:
            await self._store.write_usage(rows, batch[0].writer)
        except BaseException:
            for row in batch:
                row.failed_at = self._clock()
                self._mark(row)
            raise
        for row in batch:
            row.written_at = self._clock()
            if row.written_at < row.failed_at + DOUBT_SECONDS:
                self._doubtful.append(row)

    def _recall_doubtful(self) -> None:
        now = self._clock()
        while self._doubtful and now >= self._doubtful[0].failed_at + DOUBT_SECONDS:
            self._mark(self._doubtful.popleft())

    def _forget(self) -> None:
        """Remove old rows from memory. If there are still too many, also those that were written longest ago.

        Later calls of these users are counted in rows of a new writer. Reports add up all writers.
        """
        kept_from, over = self._now() - KEPT, len(self._rows) - MOST_KEPT
        written = [row for row in self._rows.values() if not row.is_changed]
        gone = [row for row in written if row.hour < kept_from]
        if len(gone) < over:
            gone = heapq.nsmallest(over, written, key=lambda row: row.written_at)
        for row in gone:
            del self._rows[row.key]
        if gone:
            self._writer = new_id()


def _minute(counts: Counts) -> Minute:
    tokens = counts.prompt_tokens + counts.completion_tokens
    return Minute(counts.requests, tokens, counts.cost, counts.refusals, counts.errors)


def _bounded(tokens: int) -> int:
    """A number that cannot spoil a sum, whatever the upstream reports."""
    if 0 <= tokens <= MOST_TOKENS:
        return tokens
    return MOST_TOKENS if tokens > 0 else 0


def _batches(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Groups rows that can be written together: of one event and one writer. Keeps their order."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.event_code, row.writer), []).append(row)
    for group in groups.values():
        for first in range(0, len(group), AT_ONCE):
            yield group[first : first + AT_ONCE]
