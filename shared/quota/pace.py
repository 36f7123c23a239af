"""The size of the next block that an account takes from its row: it follows the pace of the calls.

docs/decisions/0007-blocks-follow-the-pace.md explains why.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from .amounts import Amount

WINDOW_SECONDS = 10.0

SHARE = 16
"""A block is at most this fraction of what remains, so blocks shrink to 1 near the limit."""

LEAST_SHARE = 1000
"""A block has at least this fraction of the limit, however slow the calls are."""


class Pace:
    """What one account used lately. Times are in seconds, of a clock that never goes back.

    It is noted at each write to the row, not at each call, and counts as used at the time of the write.
    """

    __slots__ = ("_noted", "_noted_at")

    def __init__(self, now: float) -> None:
        self._noted: deque[tuple[float, Amount]] = deque()
        self._noted_at = now

    def note(self, spent: Amount, now: float) -> None:
        """`spent` was used since the last note. It is reported to the row now."""
        self._noted.append((now, self._lately(spent, now)))
        self._noted_at = now

    def recent(self, spent: Amount, now: float) -> Amount:
        """What calls used within about ten seconds. `spent` was used since the last note."""
        while self._noted and now - self._noted[0][0] >= WINDOW_SECONDS:
            self._noted.popleft()
        recent = self._lately(spent, now)
        for _, amount in self._noted:
            recent = recent.plus(amount)
        return recent

    def block(self, spent: Amount, limit: Amount, free: Amount, now: float) -> Amount:
        """The size of the next block when the row has `free` left: each unit by its own pace.

        It is what was used lately, so a crash loses at most that, or a thousandth of the limit.
        """
        least, share = limit.divided_by(LEAST_SHARE), free.divided_by(SHARE)
        return self.recent(spent, now).at_least(least).at_most(share)

    def _lately(self, spent: Amount, now: float) -> Amount:
        """The part of `spent` that falls into the window, if it was used evenly."""
        seconds = now - self._noted_at
        if seconds <= WINDOW_SECONDS:
            return spent
        share = WINDOW_SECONDS / seconds
        return Amount(ceil(spent.requests * share), ceil(spent.tokens * share), ceil(spent.cost * share))
