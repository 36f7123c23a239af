"""Token buckets: how often something may happen."""

from __future__ import annotations

from collections.abc import Callable

MOST_EVENTS = 1000


class RateLimit:
    """Allows `per_second` on average, and `burst` at once. `clock` returns seconds and never goes back."""

    __slots__ = ("_burst", "_clock", "_left", "_per_second", "_seen_at")

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._seen_at = clock()

    def take(self) -> bool:
        """Whether it may happen once more now. If so, it counts."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen_at) * self._per_second)
        self._seen_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def give_back(self) -> None:
        """What was taken last does not count after all."""
        self._left += 1


class RateLimits:
    """A rate limit for each event. Those of the most recent `MOST_EVENTS` are kept."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._limits: dict[str, RateLimit] = {}

    def of(self, event_code: str) -> RateLimit:
        limit = self._limits.get(event_code)
        if limit is None:
            if len(self._limits) >= MOST_EVENTS:
                del self._limits[next(iter(self._limits))]
            limit = self._limits[event_code] = RateLimit(self._per_second, self._burst, self._clock)
        return limit
