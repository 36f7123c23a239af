"""The burst guard: limits the calls of a user within a minute. Each instance counts alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import ceil

from ..core.errors import RateLimited
from ..core.models import Credential
from ..core.texts import plural

MINUTE = 60.0
_NONE = "This event's limit is 0 requests per minute. Ask your organiser to raise it."


class Minutes:
    """The calls of each user within the last minute. `clock` returns seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._calls: dict[Credential, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @contextmanager
    def count(self, credential: Credential, limit: int) -> Iterator[None]:
        """Count a call, from its start. A call that raises inside the block is not counted.

        Raises:
            RateLimited: the user has made `limit` calls already.
        """
        calls, now = self._calls.setdefault(credential, deque()), self._clock()
        while calls and now - calls[0] >= MINUTE:
            calls.popleft()
        if len(calls) >= limit:
            if not limit:
                raise RateLimited(_NONE, MINUTE)
            wait = MINUTE - (now - calls[-limit])
            again = f"Try again in {plural(ceil(wait), 'second')}."
            raise RateLimited(f"Too many requests: the limit is {limit:,} per minute. {again}", wait)
        calls.append(now)
        try:
            yield
        except BaseException:
            with suppress(ValueError):
                calls.remove(now)
            raise

    def forget(self) -> None:
        """Forget users without calls in the last minute."""
        now = self._clock()
        for credential, calls in list(self._calls.items()):
            if not calls or now - calls[-1] >= MINUTE:
                del self._calls[credential]
