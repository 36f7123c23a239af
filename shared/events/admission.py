"""Admits a request to its event: the event must be open, and must allow the output."""

from __future__ import annotations

from datetime import datetime

from ..core.errors import EventEnded, EventInactive, EventNotStarted, InvalidRequest
from ..core.models import Event
from ..core.times import local_and_utc


def admit(event: Event, now: datetime) -> None:
    """Check that the event is open.

    Raises:
        EventInactive, EventNotStarted, EventEnded: it is closed.
    """
    organiser = f"your organiser ({event.organizer})" if event.organizer else "your organiser"
    if not event.active:
        raise EventInactive(f"The event '{event.code}' is stopped. Ask {organiser} to resume it.")
    if now < event.starts_at:
        starts = local_and_utc(event.starts_at, event.time_zone)
        raise EventNotStarted(f"The event '{event.code}' starts on {starts}. Try again then.")
    if now >= event.ends_at:
        ended = local_and_utc(event.ends_at, event.time_zone)
        raise EventEnded(f"The event '{event.code}' ended on {ended}. Ask {organiser} to extend it.")


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
