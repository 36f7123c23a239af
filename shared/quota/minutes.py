"""The burst guard: how many calls a user may make within a minute, as this instance alone counts them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import Final

from ..core.errors import RateLimited
from ..core.models import Credential

MINUTE: Final = 60.0


class Minutes:
    """The calls of each user within the last minute. `clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: dict[Credential, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def counted(self, who: Credential, limit: int) -> Iterator[None]:
        """Counts a call at once, so that calls that come together count one another; not one that is refused.

        Raises:
            RateLimited: there were as many as `limit` already.
        """
        calls, now = self._calls.setdefault(who, deque()), self._clock()
        while calls and now - calls[0] >= MINUTE:
            calls.popleft()
        if len(calls) >= limit:
            wait = MINUTE - (now - calls[-limit]) if limit else MINUTE
            raise RateLimited(f"More than {limit} requests in a minute. Try again in {ceil(wait)} s.", wait)
        calls.append(now)
        try:
            yield
        except BaseException:
            with suppress(ValueError):
                calls.remove(now)
            raise

    def forget(self) -> None:
        """Whoever has not called for a minute."""
        now = self._clock()
        for who in [who for who, calls in self._calls.items() if not calls or now - calls[-1] >= MINUTE]:
            del self._calls[who]
