"""Limits how many new user names an instance admits: a client can invent any number of them."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import RateLimited
from ..core.models import Credential
from .rate_limit import RateLimits

AT_ONCE = 300
PER_SECOND = 20
"""The most new names of one event: at once, and in each second after that."""

MOST_KNOWN = 10_000
"""Names in each half of the memory. A name is forgotten if it is not used while as many others come."""


class Newcomers:
    """The users that this instance has admitted. `clock` returns seconds and never goes back."""

    def __init__(
        self,
        clock: Callable[[], float],
        per_second: float = PER_SECOND,
        at_once: float = AT_ONCE,
        most_known: int = MOST_KNOWN,
    ) -> None:
        self._recent: set[Credential] = set()
        self._older: set[Credential] = set()
        self._limits = RateLimits(per_second, at_once, clock)
        self._most_known = most_known

    def admit(self, credential: Credential) -> None:
        """Let a call of this user continue. Its event was found before. Makes no table call.

        Raises:
            RateLimited: too many new names of this event. Never for a user who was admitted before.
        """
        if credential in self._recent:
            return
        if credential not in self._older and not self._limits.of(credential.event_code).take():
            raise RateLimited("Too many new user names at this event. Try again in a second.", 1)
        self._recent.add(credential)
        if len(self._recent) >= self._most_known:
            self._recent, self._older = set(), self._recent
