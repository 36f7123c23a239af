"""An event as JSON and as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from admin import times
from shared.core.models import LIMITS, Event

_HELLO = 'messages=[{"role": "user", "content": "Hello"}]'
PLACEHOLDER_URL = "https://YOUR-APP.azurewebsites.net"


def to_fields(event: Event) -> dict[str, Any]:
    """For JSON. Times are in UTC."""
    return {name: getattr(event, name) for name in event.__slots__} | {
        "time_zone": event.time_zone.key,
        "starts_at": event.starts_at.isoformat(),
        "ends_at": event.ends_at.isoformat(),
    }


def state(event: Event, now: datetime) -> str:
    if not event.active:
        return "stopped"
    if now < event.starts_at:
        return "not open yet"
    return "open" if now < event.ends_at else "ended"


def period(event: Event) -> str:
    starts, ends = (times.format_local(at, event.time_zone) for at in (event.starts_at, event.ends_at))
    return f"{starts} to {ends}, {event.time_zone.key}"


def models(event: Event) -> str:
    if not event.models:
        default = f" (default {event.default_model})" if event.default_model else ""
        return f"all deployed models{default}"
    return ", ".join(f"{name} (default)" if name == event.default_model else name for name in event.models)


def details(event: Event, now: datetime) -> str:
    """Everything about an event, line by line."""
    lines = {
        "code": event.code,
        "name": event.name,
        "state": state(event, now),
        "dates": period(event),
        "dates in UTC": f"{event.starts_at:%Y-%m-%d %H:%M} to {event.ends_at:%Y-%m-%d %H:%M}",
        "models": models(event),
        "organizer": event.organizer or "-",
    }
    for name in LIMITS:
        limit = getattr(event, name)
        lines[name.replace("_", " ")] = "no limit" if limit is None else f"{limit:,}"
    return "\n".join(f"{name:20} {value}" for name, value in lines.items())


def invitation(event: Event, url: str | None) -> str:
    """What an organiser sends to attendees and shows on a slide."""
    base, key = f"{url or PLACEHOLDER_URL}/v1", f"{event.code}/YOUR-GITHUB-NAME"
    model = event.default_model or (event.models[0] if event.models else "MODEL")
    return f"""\
Created event {event.name!r}. Give attendees:

  Endpoint   {base}
  API key    {key}

For a slide:

  {event.name}
  Open {period(event)}
  Models: {models(event)}
{_limits_of_each(event)}
  from openai import OpenAI
  client = OpenAI(base_url="{base}", api_key="{key}")
  client.chat.completions.create(model="{model}", {_HELLO})

Before the event, test it: python3 manage.py events check {event.code} --user YOUR-GITHUB-NAME"""


def _limits_of_each(event: Event) -> str:
    limits = {
        "requests per day": event.requests_per_day,
        "tokens per day": event.tokens_per_day,
        "requests per minute": event.requests_per_minute,
    }
    parts = [f"{limit:,} {unit}" for unit, limit in limits.items() if limit is not None]
    return f"  Your limits: {', '.join(parts)}\n" if parts else ""
