"""How fast an event uses what it has, and when that runs out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from ..core.counts import Minute
from .sums import RECENT_MINUTES, minute_of, plus

_LONGEST = timedelta(days=366)
"""Later, nothing runs out."""


class Rate(NamedTuple):
    """What is used in a minute, and over how many minutes it was measured."""

    requests: float = 0.0
    tokens: float = 0.0
    cost: float = 0.0
    minutes: float = 0.0


def rate_of(minutes: Mapping[int, Minute], now: datetime) -> Rate:
    """The rate of the last `RECENT_MINUTES`, or since the first call if that is less.

    The minute of the first call does not count if a later one is complete: it was not used as a whole.
    """
    this = minute_of(now)
    used = sorted(at for at, counts in minutes.items() if counts.requests and at <= this)
    if not used:
        return Rate()
    begins = max(this - RECENT_MINUTES, used[0] if this - used[0] < 2 else used[0] + 1)
    sums = plus((Minute(), *(minutes[at] for at in used if at >= begins)))
    elapsed = max(now.timestamp() / 60 - begins, 0.5)
    return Rate(sums.requests / elapsed, sums.tokens / elapsed, sums.cost / elapsed, elapsed)


def runs_out_at(left: int, per_minute: float, now: datetime) -> datetime | None:
    """When nothing is left at this rate. None if that is not to be expected."""
    if left <= 0 or per_minute <= 0:
        return None
    after = left / per_minute
    return now + timedelta(minutes=after) if after < _LONGEST.total_seconds() / 60 else None
