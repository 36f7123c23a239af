"""The event behind a credential: known, open, and what it allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from ..core.cache import Cache
from ..core.errors import (
    EventEnded,
    EventInactive,
    EventNotStarted,
    InvalidEventToken,
    InvalidRequest,
    ModelNotFound,
)
from ..core.models import Credential, Event


class EventStore(Protocol):
    async def event(self, code: str) -> Event | None:
        """The event of that code; None when there is none.

        Raises:
            StoreUnavailable: when the table does not answer.
        """


class Events:
    """Events by code, kept in memory for some seconds."""

    def __init__(self, store: EventStore, cache_seconds: float, clock: Callable[[], float]) -> None:
        self._events: Cache[str, Event] = Cache(store.event, cache_seconds, clock)

    async def find(self, code: str) -> Event:
        """The event, open or not.

        Raises:
            InvalidEventToken: when there is none.
            StoreUnavailable: when the tables do not answer and nothing cached serves.
        """
        event = self._events.fresh(code) or await self._events.get(code)
        if event is None:
            raise InvalidEventToken
        return event

    def knows(self, code: str) -> bool:
        """Whether the event has been met here before; the tables are not asked."""
        return self._events.last(code) is not None


def admit(event: Event, now: datetime) -> None:
    """Let the call in, or say why not, with the time in UTC and in the event's own zone.

    Raises:
        EventInactive, EventNotStarted, EventEnded: the event is closed.
    """
    if not event.active:
        raise EventInactive(f"The event '{event.code}' has been stopped. Ask your organiser{_named(event)}.")
    if now < event.starts_at:
        raise EventNotStarted(
            f"The event '{event.code}' opens at {_both(event, event.starts_at)}. Try again then."
        )
    if now >= event.ends_at:
        raise EventEnded(
            f"The event '{event.code}' ended at {_both(event, event.ends_at)}. "
            f"Ask your organiser{_named(event)} if you need more time."
        )


def choose_model(event: Event, asked: str | None, deployed: frozenset[str]) -> str:
    """The model that the call is for: the one asked for, or the event's default.

    Raises:
        ModelNotFound: the event may not use it, or nothing serves it.
        InvalidRequest: none was asked for, and the event has no default.
    """
    model = asked or event.default_model
    if model is not None and model in deployed and (model in event.models or not event.models):
        return model
    usable = models(event, deployed)
    if model is not None:
        raise ModelNotFound(
            f"This event has no model {model[:64]!r}. It may use: {_listed(usable)}.", param="model"
        )
    if len(usable) != 1:
        raise InvalidRequest(f"Name a model: {_listed(usable)}.", param="model")
    return usable[0]


def models(event: Event, deployed: frozenset[str]) -> list[str]:
    """The models that the event may use and that are deployed, in the event's order."""
    return [model for model in event.models if model in deployed] if event.models else sorted(deployed)


def listing(event: Event, deployed: frozenset[str]) -> dict[str, Any]:
    """The models that the event may use, in the form of OpenAI's list of models."""
    return {"object": "list", "data": [entry(event, model) for model in models(event, deployed)]}


def entry(event: Event, model: str) -> dict[str, Any]:
    """A model in the form that it has in that list."""
    created = int(event.starts_at.timestamp())
    return {"id": model, "object": "model", "created": created, "owned_by": "azure-openai"}


def output_cap(event: Event, choices: int) -> int | None:
    """The most output tokens of each choice, so that all together stay within the event's; None without any.

    Raises:
        InvalidRequest: more choices than the event allows tokens.
    """
    if event.max_output_tokens is None:
        return None
    cap = event.max_output_tokens // choices
    if cap < 1:
        raise InvalidRequest(f"'n' may be at most {event.max_output_tokens} in this event.", param="n")
    return cap


def described(who: Credential, event: Event, deployed: frozenset[str], now: datetime) -> dict[str, Any]:
    """Who the caller is and what the event allows, as `GET /v1/event` tells it."""
    return {
        "object": "event",
        "event_code": event.code,
        "user": who.user,
        "name": event.name,
        "organizer": event.organizer,
        "open": event.active and event.starts_at <= now < event.ends_at,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "time_zone": event.time_zone.key,
        "models": models(event, deployed),
        "default_model": event.default_model,
        "max_output_tokens": event.max_output_tokens,
    }


def _listed(usable: list[str]) -> str:
    return ", ".join(usable) or "none yet; ask your organiser"


def _named(event: Event) -> str:
    return f" ({event.organizer})" if event.organizer else ""


def _both(event: Event, at: datetime) -> str:
    utc = at.strftime("%Y-%m-%d %H:%M UTC")
    if event.time_zone.key == "UTC":
        return utc
    return f"{utc} ({at.astimezone(event.time_zone).strftime('%Y-%m-%d %H:%M')} {event.time_zone.key})"
