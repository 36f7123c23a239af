"""The calls that run on this instance, by user: no user holds up the others."""

from __future__ import annotations

from ..core.errors import RateLimited, plural
from ..core.models import DEFAULT_PARALLEL, Credential, Event
from .amounts import NOTHING

RETRY_SECONDS = 1


class Running:
    """The calls of one user that run now."""

    __slots__ = ("calls", "held")

    def __init__(self) -> None:
        self.calls = 0
        self.held = NOTHING
        """What they hold of the event's total, or wait for."""


class RunningCalls:
    """The calls of all users that run now. A user without calls takes no memory."""

    def __init__(self) -> None:
        self._users: dict[Credential, Running] = {}

    def __len__(self) -> int:
        return len(self._users)

    def enter(self, credential: Credential, event: Event) -> None:
        """Note that a call begins. Call `leave` exactly once at its end.

        Raises:
            RateLimited: the user has as many running calls as the event allows.
        """
        user = self._users.get(credential) or self._users.setdefault(credential, Running())
        limit = DEFAULT_PARALLEL if event.parallel is None else event.parallel
        if user.calls >= limit:
            raise RateLimited(
                f"You have {plural(limit, 'request')} running, the most at the same time in this event. "
                "Wait until one of them ends, then try again.",
                RETRY_SECONDS,
            )
        user.calls += 1

    def leave(self, credential: Credential) -> None:
        user = self._users[credential]
        user.calls -= 1
        if not user.calls:
            del self._users[credential]

    def of(self, credential: Credential) -> Running:
        """The calls of one user. Empty for a user who has none."""
        return self._users.get(credential) or Running()
