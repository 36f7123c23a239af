"""How large a block an account takes from its row: as large as the pace of its calls asks for.

Decision 7 says why (docs/decisions/0007-blocks-grow-with-the-pace.md).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from .amounts import NOTHING, Amount

SHARE: Final = 16
"""A block is this part of what remains: it shrinks to one as the limit comes near."""

QUICK_SECONDS: Final = 4.0
"""A block that was used up sooner is followed by one that lasts twice as long as this at the same pace: so a
fast caller costs few table calls, and a crash costs nobody more than some seconds of his own calls."""
SLOW_SECONDS: Final = 16.0
"""One that lasted longer is followed by one half as large; so is one that went back half unused."""
FASTEST: Final = 16
"""The most that blocks grow by that."""


class Blocks:
    """Those of one account. `largest` is as much as one holds while calls are slow.

    `clock` gives seconds and never goes back.
    """

    __slots__ = ("_clock", "_growth", "_largest", "_latest", "_taken_at")

    def __init__(self, largest: Amount, clock: Callable[[], float]) -> None:
        self._largest = largest
        self._clock = clock
        self._growth = 1
        """By how much blocks have grown."""
        self._latest = NOTHING
        """The one that was taken last; nothing, once its pace is known."""
        self._taken_at = 0.0

    def share(self, free: Amount) -> Amount:
        """The next block, where so much is free."""
        largest = Amount(self._largest.requests * self._growth, self._largest.tokens * self._growth)
        return Amount(free.requests // SHARE, free.tokens // SHARE).at_most(largest)

    def took(self, block: Amount) -> None:
        """A block has come, which may be larger than its share: as large as a call needs."""
        self._latest, self._taken_at = block, self._clock()

    def used_up(self) -> None:
        """The latest is used up: how long did it last?"""
        if self._latest == NOTHING:
            return
        lasted_seconds = self._clock() - self._taken_at
        if lasted_seconds < QUICK_SECONDS:
            grown = self._growth * 2 * QUICK_SECONDS / max(lasted_seconds, 0.001)
            self._growth = min(ceil(grown), FASTEST)
        elif lasted_seconds > SLOW_SECONDS:
            self._slow_down()
        self._latest = NOTHING

    def gave_back(self, unused: Amount) -> None:
        """So much of the latest goes back."""
        if self._latest != NOTHING and unused.plus(unused).covers(self._latest):
            self._slow_down()
        self._latest = NOTHING

    def _slow_down(self) -> None:
        self._growth = max(self._growth // 2, 1)
