"""Limits what unknown event codes cost: anyone can send any number of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..core.errors import InvalidEventToken, RateLimited
from ..core.loops import shared_result
from .rate_limit import RateLimit

READS_PER_SECOND = 4
"""Reads that find no event, for all clients of an instance. With the scans, fewer than 5 a second."""

SCAN_SECONDS = 2.0
"""Above that rate, unknown codes wait for a list of all codes. It is read at most this often."""

MOST_WAITING = 2000
MOST_KEPT = 1000
"""Codes that are remembered as unknown."""


class CodeStore(Protocol):
    async def event_codes(self) -> frozenset[str]:
        """The codes of all events.

        Raises:
            StoreUnavailable: the table cannot be read.
        """


class Guesses:
    """Decides whether the event of an unknown code may be read. A wrong code is unknown for `kept_seconds`.

    `clock` returns seconds and never goes back.
    """

    def __init__(
        self, store: CodeStore, kept_seconds: float, clock: Callable[[], float], scan_seconds: float
    ) -> None:
        self._store = store
        self._scan_seconds = scan_seconds
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._reads = RateLimit(READS_PER_SECOND, READS_PER_SECOND, clock)
        self._unknown_until: dict[str, float] = {}
        self._next_scan: asyncio.Task[frozenset[str]] | None = None
        self._scanned_at = clock() - scan_seconds
        self._waiting = 0

    async def admit(self, code: str) -> None:
        """Return when the event may be read. Then call `note_unknown` or `note_found`.

        Raises:
            InvalidEventToken: there is no event with this code.
            RateLimited: too many unknown codes wait.
            StoreUnavailable: the table cannot be read.
        """
        if self._unknown_until.get(code, 0.0) > self._clock():
            raise InvalidEventToken
        if not self._reads.take() and code not in await self._codes():
            self.note_unknown(code)
            raise InvalidEventToken

    def note_unknown(self, code: str) -> None:
        """There is no event with this code."""
        if self._kept_seconds <= 0:
            return
        self._unknown_until.pop(code, None)
        self._unknown_until[code] = self._clock() + self._kept_seconds
        if len(self._unknown_until) > MOST_KEPT:
            del self._unknown_until[next(iter(self._unknown_until))]

    def note_found(self) -> None:
        """The code was real: it counts as no guess, so that many new events do not wait for a scan."""
        self._reads.give_back()

    async def _codes(self) -> frozenset[str]:
        """The codes, from a scan that begins after this call. Simultaneous callers share it."""
        if self._waiting >= MOST_WAITING:
            text = "Too many requests have an unknown event code. Try again later."
            raise RateLimited(text, self._scan_seconds)
        scan = self._next_scan
        if scan is None:
            scan = self._next_scan = asyncio.create_task(self._scan())
            scan.add_done_callback(_retrieve)
        self._waiting += 1
        try:
            return await shared_result(scan)
        finally:
            self._waiting -= 1

    async def _scan(self) -> frozenset[str]:
        await asyncio.sleep(max(0.0, self._scanned_at + self._scan_seconds - self._clock()))
        self._next_scan = None  # later callers need a scan that begins later
        self._scanned_at = self._clock()
        return await self._store.event_codes()


def _retrieve(scan: asyncio.Task[frozenset[str]]) -> None:
    """If every caller has left, asyncio would log the exception as never retrieved."""
    if not scan.cancelled():
        scan.exception()
