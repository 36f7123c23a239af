"""Finds the event of a credential, and caches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.cache import Cache
from ..core.errors import InvalidEventToken
from ..core.models import OPEN, Credential, Event
from .admission import with_own_limits
from .credentials import LONGEST_USER, TOO_LONG
from .guesses import SCAN_SECONDS, CodeStore, Guesses
from .newcomers import Newcomers
from .passes import check_pass, without_pass
from .rate_limit import RateLimits

LATEST_PER_SECOND, LATEST_AT_ONCE = 0.5, 5
"""How often `Events.latest` reads the row of one event."""

UNKNOWN_SHARE = 1 / 6
"""A code counts as unknown for this share of the cache's time: its event may be created at any moment."""


class EventStore(CodeStore, Protocol):
    async def event(self, code: str) -> Event | None:
        """The event with this code, if there is one.

        Raises:
            StoreUnavailable: the table cannot be read.
        """

    async def add_id_secret(self, code: str) -> str | None:
        """The secret of an event's row, written if there is none; None if there is no event.

        Raises:
            StoreUnavailable: the table does not respond.
        """


class Events:
    """Events by code. Each is cached for some seconds. Unknown codes never displace a known event."""

    def __init__(
        self,
        store: EventStore,
        cache_seconds: float,
        clock: Callable[[], float],
        scan_seconds: float = SCAN_SECONDS,
    ) -> None:
        self._store = store
        self._events: Cache[str, Event] = Cache(store.event, cache_seconds, clock)
        self._guesses = Guesses(store, cache_seconds * UNKNOWN_SHARE, clock, scan_seconds)
        self._newcomers = Newcomers(clock)
        self._latest = RateLimits(LATEST_PER_SECOND, LATEST_AT_ONCE, clock)

    async def find_for(self, credential: Credential) -> tuple[Credential, Event]:
        """The attendee of a credential, and the event as it is for this attendee, open or closed.

        The attendee's own limits take the place of the event's. Makes no table call for a pass or an
        exception: they are in the event's row.

        Raises:
            InvalidEventToken: there is none, or the pass is not that of this user.
            RateLimited: too many new users of this event, or too many requests with unknown codes.
            StoreUnavailable: the table cannot be read, and the cache has no copy.
        """
        code = credential.event_code
        event = self._events.fresh(code) or await self.find(code)
        if event.access != OPEN:
            credential = check_pass(credential, event)
        elif len((credential := without_pass(credential, event)).user) > LONGEST_USER:
            raise InvalidEventToken(TOO_LONG)
        if event.first_code:
            credential = Credential(event.first_code, credential.user)
        self._newcomers.admit(credential)
        if event.exceptions:
            event = with_own_limits(event, credential.user)
        return credential, event

    async def find(self, code: str) -> Event:
        """The event with this code, open or closed.

        Raises:
            InvalidEventToken: there is none.
            RateLimited: too many requests with unknown codes wait.
            StoreUnavailable: the table cannot be read, and the cache has no copy.
        """
        event = self._events.fresh(code) or await self._read(code)
        if event is None:
            raise InvalidEventToken
        return event

    async def read(self, code: str) -> Event:
        """The event as its row is now. For rare requests: it reads the table each time.

        Raises:
            InvalidEventToken: there is none.
            StoreUnavailable: the table cannot be read.
        """
        event = await self._store.event(code)
        if event is None:
            raise InvalidEventToken
        return event

    async def latest(self, code: str) -> Event:
        """The event as its row is now; if it is asked for too often, as this instance last saw it.

        Raises:
            InvalidEventToken, RateLimited, StoreUnavailable: see `find` and `read`.
        """
        if not self._latest.of(code).take():
            return await self.find(code)
        event = await self.read(code)
        self.note_changed(event)
        return event

    async def id_secret(self, event: Event) -> str:
        """The secret for response ids. An event of an earlier version gets one now.

        Raises:
            InvalidEventToken: the event has been deleted.
            StoreUnavailable: the table does not respond.
        """
        secret = event.id_secret or await self._store.add_id_secret(event.code)
        if secret is None:
            raise InvalidEventToken
        return secret

    def note_changed(self, event: Event) -> None:
        """The event was changed here: this instance need not wait until its copy is old."""
        self._events.put(event.code, event)

    def knows(self, code: str) -> bool:
        """Whether this instance has found the event before. Does not read the table."""
        return self._events.last(code) is not None

    async def _read(self, code: str) -> Event | None:
        may_be_guess = not self.knows(code) and not self._events.is_loading(code)
        if may_be_guess:
            await self._guesses.admit(code)
        event = await self._events.get(code)
        if event is None:
            self._guesses.note_unknown(code)
        elif may_be_guess:
            self._guesses.note_found()
        return event
