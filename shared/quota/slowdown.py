"""Slows down users whose requests the model refuses again and again.

A refused request costs no tokens, but while it runs, it holds tokens that others could use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import ceil

from ..core.errors import RateLimited
from ..core.models import Credential
from .minutes import MINUTE

FREE_REFUSALS = 20
"""How many requests of one user may be refused within a minute before further ones have to wait."""


class Slowdown:
    """The requests that were refused within the last minute. `clock` returns seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._refused: dict[Credential, deque[float]] = {}

    def __len__(self) -> int:
        return len(self._refused)

    def note(self, credential: Credential) -> None:
        """The model, or its context length, has refused a request of this user."""
        refused = self._refused.setdefault(credential, deque(maxlen=FREE_REFUSALS))
        refused.append(self._clock())

    def check(self, credential: Credential) -> None:
        """Raises RateLimited: too many requests of this user were refused."""
        refused = self._refused.get(credential)
        if refused is None or len(refused) < FREE_REFUSALS:
            return
        wait = MINUTE - (self._clock() - refused[0])
        if wait > 0:
            raise RateLimited(
                f"The model has refused your last {FREE_REFUSALS} requests. Read the errors and correct your "
                f"request. You can try again in {ceil(wait)} s.",
                wait,
            )

    def forget(self) -> None:
        """Forget users without a refused request in the last minute."""
        now = self._clock()
        for credential, refused in list(self._refused.items()):
            if now - refused[-1] >= MINUTE:
                del self._refused[credential]
