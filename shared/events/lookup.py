"""Finds the event of a credential, and caches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..core.cache import Cache
from ..core.errors import InvalidEventToken
from ..core.models import Event


class EventStore(Protocol):
    async def event(self, code: str) -> Event | None:
        """The event with this code, if there is one.

        Raises:
            StoreUnavailable: the table cannot be read.
        """


class Events:
    """Events by code. Each is cached for some seconds."""

    def __init__(self, store: EventStore, cache_seconds: float, clock: Callable[[], float]) -> None:
        self._events: Cache[str, Event] = Cache(store.event, cache_seconds, clock)

    async def find(self, code: str) -> Event:
        """The event with this code, open or closed.

        Raises:
            InvalidEventToken: there is none.
            StoreUnavailable: the table cannot be read, and the cache has no copy.
        """
        event = self._events.fresh(code) or await self._events.get(code)
        if event is None:
            raise InvalidEventToken
        return event

    def knows(self, code: str) -> bool:
        """Whether this instance has found the event before. Does not read the table."""
        return self._events.last(code) is not None
