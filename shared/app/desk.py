"""The organiser's desk over HTTP: its figures and its actions. Nothing here runs on an attendee's call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from ..core.errors import InvalidDeskKey, InvalidEventToken
from ..core.hashing import hashed
from ..core.models import OPEN, Event
from ..desk.actions import Done, Order, find_action, read_order, read_user, with_name
from ..desk.figures import figures, state
from ..desk.keys import check_desk_key, read_desk_key
from ..desk.readings import Readings
from ..events.lookup import Events
from ..functions.http import Response
from ..tables.attendees import Attendees
from ..tables.desk import DeskTables
from .incoming import Headers, Incoming
from .outgoing import json_response

_log = logging.getLogger(__name__)


class Desk:
    """`takes_effect_seconds` is how long an instance may keep an event in memory."""

    def __init__(
        self,
        events: Events,
        attendees: Attendees,
        tables: DeskTables,
        readings: Readings,
        now: Callable[[], datetime],
        takes_effect_seconds: float,
    ) -> None:
        self._events = events
        self._attendees = attendees
        self._tables = tables
        self._readings = readings
        self._now = now
        self._takes_effect_seconds = takes_effect_seconds

    async def show(self, headers: Headers) -> Response:
        """The figures.

        Raises:
            InvalidDeskKey, RateLimited, StoreUnavailable: see `_admit`.
        """
        key, code = await self._admit(headers)
        reading = await self._readings.read(code)
        if reading is None:
            raise InvalidDeskKey
        check_desk_key(key, reading.event)  # an old key does not wait until the cache is old
        now = self._now().astimezone(reading.event.time_zone)
        shown = {"now": now} | figures(reading, self._takes_effect_seconds)
        return json_response(shown, {b"cache-control": b"no-store"})

    async def act(self, name: str, incoming: Incoming) -> Response:
        """Change the event, and say what was done.

        Raises:
            NotFound, InvalidJson, InvalidRequest: there is no such action, or its order is not valid.
            ChangedMeanwhile: what the organiser saw is no longer so.
            InvalidDeskKey, RateLimited, StoreUnavailable: see `_admit`.
        """
        key, code = await self._admit(incoming.headers)
        cached = await self._events.find(code)
        action = find_action(name)
        order = with_name(read_order(await incoming.read_body()), cached)
        latest: list[Done] = []

        def change(event: Event) -> Event:
            check_desk_key(key, event)
            latest.append(action(event, order, self._now()))
            return latest[-1].event

        if name == "release" and not await self._is_taken(cached, order):
            return json_response(self._described(Done(cached, f"The name '{order.user}' is not taken.")))
        if await self._tables.change_event(code, change) is None:
            raise InvalidDeskKey
        done = latest[-1]
        if name == "release":
            await self._attendees.remove(done.event.ledger_code, read_user(order))
        self._events.note_changed(done.event)
        self._readings.note(done.event)
        _log.info(
            "desk: %s, event %s: %s", name, hashed(code), "changed" if done.has_changed else "unchanged"
        )
        return json_response(self._described(done))

    async def _admit(self, headers: Headers) -> tuple[str, str]:
        """The desk key, and the code of the event whose key it is.

        A wrong key causes few readings: it may be newer than the event in the cache.

        Raises:
            InvalidDeskKey: the key is not that of an event.
            RateLimited: too many requests with unknown codes wait.
            StoreUnavailable: the tables do not respond.
        """
        key, code = read_desk_key(headers)
        try:
            try:
                check_desk_key(key, await self._events.find(code))
            except InvalidDeskKey:
                event = await self._events.latest(code)
                check_desk_key(key, event)
                self._readings.note(event)
        except InvalidEventToken:
            raise InvalidDeskKey from None
        return key, code

    async def _is_taken(self, event: Event, order: Order) -> bool:
        user = read_user(order)
        return event.access == OPEN or any(
            one.user == user for one in await self._attendees.list(event.ledger_code)
        )

    def _described(self, done: Done) -> dict[str, Any]:
        event, now = done.event, self._now()
        effective = now + timedelta(seconds=self._takes_effect_seconds if done.has_changed else 0)
        return {
            "object": "desk.action",
            "changed": done.has_changed,
            "message": done.text,
            "undo": done.undo,
            "takes_effect_seconds": self._takes_effect_seconds,
            "effective_at": effective.astimezone(event.time_zone),
            "state": state(event, now),
        }
