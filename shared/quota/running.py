"""The users whose calls run on this instance: no user holds up the others."""

from __future__ import annotations

from ..core.errors import RateLimited
from ..core.models import DEFAULT_PARALLEL, Credential, Event
from ..core.texts import plural
from .amounts import NOTHING
from .standing import Standing

RETRY_SECONDS = 1
MOST_KEPT = 2000
"""Above this number of users, those without running calls are forgotten: a client can invent any number."""


class Running:
    """The calls of one user that run now, and what is left to the user."""

    __slots__ = ("calls", "held", "standing")

    def __init__(self) -> None:
        self.calls = 0
        self.held = NOTHING
        """What they hold of the event's total, or wait for."""
        self.standing: Standing | None = None
        """As the latest call of the user found it."""


class RunningCalls:
    """The calls of all users that run now."""

    def __init__(self) -> None:
        self._users: dict[Credential, Running] = {}

    def __len__(self) -> int:
        return len(self._users)

    def begin(self, credential: Credential, event: Event) -> None:
        """Note that a call begins. Call `end` exactly once at its end.

        Raises:
            RateLimited: the user has as many running calls as the event allows.
        """
        user = self.of(credential)
        limit = DEFAULT_PARALLEL if event.parallel is None else event.parallel
        if user.calls >= limit:
            raise RateLimited(
                f"You have {plural(limit, 'request')} running, the most at the same time in this event. "
                "Wait until one of them ends, then try again.",
                RETRY_SECONDS,
            )
        user.calls += 1

    def end(self, credential: Credential) -> None:
        self._users[credential].calls -= 1

    def of(self, credential: Credential) -> Running:
        """The calls of one user."""
        user = self._users.get(credential)
        if user is None:
            if len(self._users) >= MOST_KEPT:
                self.forget()
            user = self._users[credential] = Running()
        return user

    def forget(self) -> None:
        """Forget users without running calls, and what is left to the others: their accounts may be gone."""
        self._users = {credential: user for credential, user in self._users.items() if user.calls}
        for user in self._users.values():
            user.standing = None
