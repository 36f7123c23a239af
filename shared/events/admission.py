"""What an event allows: whether it is open for a user, the user's own limits, and the output limit."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from ..core.errors import AttendeeBlocked, EventEnded, EventInactive, EventNotStarted, InvalidRequest
from ..core.models import BLOCKED, OWN_LIMITS, Event
from ..core.texts import organiser
from ..core.times import local_and_utc


def admit(event: Event, user: str, now: datetime) -> None:
    """Check that the event is open, and for this user.

    Raises:
        EventInactive, EventNotStarted, EventEnded: it is closed.
        AttendeeBlocked: the organiser has blocked the user.
    """
    if not event.active:
        raise EventInactive(f"The event '{event.code}' is stopped. Ask {organiser(event)} to resume it.")
    if now < event.starts_at:
        starts = local_and_utc(event.starts_at, event.time_zone)
        raise EventNotStarted(f"The event '{event.code}' starts on {starts}. Try again then.")
    if now >= event.ends_at:
        ended = local_and_utc(event.ends_at, event.time_zone)
        raise EventEnded(f"The event '{event.code}' ended on {ended}. Ask {organiser(event)} to extend it.")
    if event.exceptions and is_blocked(event, user):
        who = organiser(event)
        raise AttendeeBlocked(f"{who[0].upper()}{who[1:]} has blocked '{user}' at this event. Talk to them.")


def is_blocked(event: Event, user: str) -> bool:
    """Whether the organiser has blocked the user."""
    own = event.exceptions.get(user)
    return bool(own and own.get(BLOCKED))


def with_own_limits(event: Event, user: str) -> Event:
    """The event with the user's own limits in place of its own. The only place that knows them."""
    own = event.exceptions.get(user)
    limits = {name: own[name] for name in OWN_LIMITS if name in own} if own else None
    return replace(event, **limits) if limits else event


def output_limit(event: Event, choices: int) -> int | None:
    """The most output tokens for each choice, so that all together stay within the event's limit.

    None where the event has no limit.

    Raises:
        InvalidRequest: there are more choices than the event allows tokens.
    """
    limit = event.max_output_tokens
    if limit is None:
        return None
    if limit < choices:
        advice = "Send a smaller 'n'." if limit else "Ask your organiser to raise the limit."
        raise InvalidRequest(
            f"This event allows {limit:,} output tokens for a request, and n={choices:,} needs at least "
            f"{choices:,}. {advice}",
            param="n",
        )
    return limit // choices
