"""`POST /v1/event/claim`: an attendee takes a name, and gets its pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from ..core.errors import (
    InvalidEventToken,
    InvalidJson,
    InvalidRequest,
    NameTaken,
    NoSeatsLeft,
    RateLimited,
    StoreUnavailable,
    wrong_member,
)
from ..core.models import CLAIM, ROSTER, Event
from ..core.texts import organiser
from ..events.admission import admit
from ..events.credentials import is_event_code, name_problem
from ..events.lookup import Events
from ..events.passes import is_like_pass, is_surely_pass, pass_of
from ..events.rate_limit import RateLimits
from ..functions.http import Response
from ..tables.attendees import Attendees, Claimed
from .outgoing import json_response

AT_ONCE = 100
PER_SECOND = 10
"""The most claims of one event on an instance: at once, and in each second after that."""

_EXAMPLE = '{"event_code": "hackathon", "user": "anna"}'
_NO_CLAIM = "This event has no passes. Use {}/{} as your API key."
_ROSTER = "At this event, the organiser gives everyone a pass. Ask {} for yours."

_MISTYPED = (
    "'{0}' looks like a name with a pass. If you have a pass, use {1}/{0} as your API key, and check each "
    "character. To take a name, send it without a pass, as in '{2}'."
)
_MISTYPED_OF_TAKEN = (
    "The name '{0}' is taken, and '{1}' looks like its pass. If it is your pass, check each character, or "
    "ask {2}. If it is your name, write '-' in place of the last dot."
)


class _Wanted(msgspec.Struct, frozen=True):
    event_code: str
    user: str


class Claims:
    """Gives out names. `clock` returns seconds and never goes back; `now` the time in UTC."""

    def __init__(
        self,
        events: Events,
        attendees: Attendees,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._events = events
        self._attendees = attendees
        self._now = now
        self._limits = RateLimits(PER_SECOND, AT_ONCE, clock)

    async def serve(self, body: bytes) -> Response:
        """The pass of a name that was free. No one can get it again. Raises ProxyError if there is none."""
        wanted = _parse(body)
        code, user = wanted.event_code.strip().lower(), wanted.user.strip().lower()
        if not is_event_code(code):
            raise InvalidEventToken
        if problem := name_problem(user):
            raise InvalidRequest(problem, param="user")
        now = self._now()
        self._check(await self._events.find(code), user, now)
        if not self._limits.of(code).take():
            raise RateLimited("Too many people take a name at this moment. Try again in a second.", 1)
        event = await self._events.read(code)  # with its latest secret, seats and released names
        self._check(event, user, now)
        await self._check_form(event, user)
        outcome = await self._attendees.claim(event.ledger_code, user, event.seats, now)
        if outcome is Claimed.NAME_TAKEN:
            raise NameTaken(_taken(event, user), param="user")
        if outcome is Claimed.NO_SEATS_LEFT:
            raise NoSeatsLeft(f"All {event.seats:,} seats of this event are taken. Ask {organiser(event)}.")
        return _response(await self._latest(event), user)

    async def _check_form(self, event: Event, user: str) -> None:
        """A mistyped pass is no new name: its owner would then have two."""
        name = user.rpartition(".")[0]
        if is_surely_pass(user):
            text = _MISTYPED.format(user, event.code, name)
            raise InvalidRequest(text, param="user")
        if is_like_pass(user) and await self._attendees.is_taken(event.ledger_code, name):
            raise NameTaken(_MISTYPED_OF_TAKEN.format(name, user, organiser(event)), param="user")

    async def _latest(self, event: Event) -> Event:
        """The event after the name was taken: its earlier pass may have been made void a moment before."""
        try:
            return await self._events.read(event.code)
        except StoreUnavailable:
            return event

    def _check(self, event: Event, user: str, now: datetime) -> None:
        """A name can be taken before the event starts."""
        admit(event, user, max(now, event.starts_at))
        if event.access == ROSTER:
            raise InvalidRequest(_ROSTER.format(organiser(event)))
        if event.access != CLAIM:
            raise InvalidRequest(_NO_CLAIM.format(event.code, user))


def _parse(body: bytes) -> _Wanted:
    try:
        return msgspec.json.decode(body, type=_Wanted)
    except msgspec.ValidationError as error:
        text = f"The body must be an object such as {_EXAMPLE}."
        raise InvalidRequest(text, param=wrong_member(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The body is not valid JSON. Send an object such as {_EXAMPLE}.") from error


def _response(event: Event, user: str) -> Response:
    fields = {
        "object": "event.claim",
        "event_code": event.code,
        "user": user,
        "api_key": f"{event.code}/{pass_of(event, user)}",
    }
    return json_response(fields, {b"cache-control": b"no-store"})


def _taken(event: Event, user: str) -> str:
    whom = organiser(event)
    return f"The name '{user}' is taken. If it is yours, ask {whom} to release it. Otherwise, take another."
