"""The size of the next block that an account takes from its row: it follows the pace of the calls.

docs/decisions/0007-blocks-grow-with-the-pace.md explains why.
"""

from __future__ import annotations

from math import ceil

from .amounts import NOTHING, Amount

SHARE = 16
"""A block is at most this fraction of what remains, so blocks shrink to 1 near the limit."""

QUICK_SECONDS = 4.0
"""If a block was used up faster, the next one is so large that it lasts twice this time at the same pace. So
a fast caller needs few table calls, and a crash costs a user only what they use within some seconds."""
SLOW_SECONDS = 16.0
"""If a block lasted longer, or was returned half unused, the next one is half as large."""
MAX_GROWTH = 16


class Blocks:
    """The blocks of one account. `largest` is the largest block while calls are slow.

    Times are in seconds, of a clock that never goes back.
    """

    __slots__ = ("_growth", "_largest", "_latest", "_taken_at")

    def __init__(self, largest: Amount) -> None:
        self._largest = largest
        self._growth = 1
        self._latest = NOTHING
        """The block that was taken last; nothing once its pace is known."""
        self._taken_at = 0.0

    def share(self, free: Amount) -> Amount:
        """The size of the next block when the row has `free` left."""
        largest = Amount(self._largest.requests * self._growth, self._largest.tokens * self._growth)
        return Amount(free.requests // SHARE, free.tokens // SHARE).at_most(largest)

    def take(self, block: Amount, now: float) -> None:
        """Note that `block` was taken. It is larger than the share if a call needs more."""
        self._latest, self._taken_at = block, now

    def use_up(self, now: float) -> None:
        """Note that the latest block is used up, and choose the growth of the next one."""
        if self._latest == NOTHING:
            return
        lasted_seconds = now - self._taken_at
        if lasted_seconds < QUICK_SECONDS:
            grown = self._growth * 2 * QUICK_SECONDS / max(lasted_seconds, 0.001)
            self._growth = min(ceil(grown), MAX_GROWTH)
        elif lasted_seconds > SLOW_SECONDS:
            self._slow_down()
        self._latest = NOTHING

    def give_back(self, unused: Amount) -> None:
        """Note that `unused` of the latest block is given back."""
        if self._latest != NOTHING and unused.plus(unused).covers(self._latest):
            self._slow_down()
        self._latest = NOTHING

    def _slow_down(self) -> None:
        self._growth = max(self._growth // 2, 1)
