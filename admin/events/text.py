"""An event as programs and people read it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from admin import times
from shared.core.models import LIMITS, Event

_HELLO = 'messages=[{"role": "user", "content": "Hello"}]'
UNKNOWN_URL = "https://YOUR-APP.azurewebsites.net"


def fields(event: Event) -> dict[str, Any]:
    """For JSON; times in UTC."""
    zone = {"time_zone": event.time_zone.key}
    moments = {"starts_at": event.starts_at.isoformat(), "ends_at": event.ends_at.isoformat()}
    return {**{name: getattr(event, name) for name in event.__slots__}, **zone, **moments}


def state(event: Event, now: datetime) -> str:
    if not event.active:
        return "stopped"
    if now < event.starts_at:
        return "not yet open"
    return "open" if now < event.ends_at else "over"


def period(event: Event) -> str:
    starts, ends = (times.shown(at, event.time_zone) for at in (event.starts_at, event.ends_at))
    return f"{starts} to {ends}, {event.time_zone.key}"


def models(event: Event) -> str:
    if not event.models:
        return "every one that is deployed" + (
            f" (default {event.default_model})" if event.default_model else ""
        )
    return ", ".join(f"{name} (default)" if name == event.default_model else name for name in event.models)


def shown(event: Event, now: datetime) -> list[tuple[str, str]]:
    """Everything about it, line by line."""
    limits = [
        (name.replace("_", " "), f"{value:,}" if (value := getattr(event, name)) is not None else "no limit")
        for name in LIMITS
    ]
    return [
        ("code", event.code),
        ("name", event.name),
        ("state", state(event, now)),
        ("open", period(event)),
        ("in UTC", f"{event.starts_at:%Y-%m-%d %H:%M} to {event.ends_at:%Y-%m-%d %H:%M}"),
        ("models", models(event)),
        ("organizer", event.organizer or "-"),
        *limits,
    ]


def handed_out(event: Event, url: str | None) -> str:
    """What attendees get: to send them, and for the slide."""
    base, key = f"{url or UNKNOWN_URL}/v1", f"{event.code}/YOUR-GITHUB-NAME"
    model = event.default_model or (event.models[0] if event.models else "MODEL")
    lines = [
        f"The event {event.name!r} is there. Hand out:",
        "",
        f"  Endpoint   {base}",
        f"  API key    {key}",
        "",
        "For the slide:",
        "",
        f"  {event.name}",
        f"  Open {period(event)}",
        f"  Models: {models(event)}",
        *_allowance(event),
        "",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{base}", api_key="{key}")',
        f'  client.chat.completions.create(model="{model}", {_HELLO})',
        "",
        f"Before the event: python3 manage.py events check {event.code} --user YOUR-GITHUB-NAME",
    ]
    return "\n".join(lines)


def _allowance(event: Event) -> list[str]:
    each = [
        (event.requests_per_day, "requests a day"),
        (event.tokens_per_day, "tokens a day"),
        (event.requests_per_minute, "requests a minute"),
    ]
    told = [f"{limit:,} {what}" for limit, what in each if limit is not None]
    return [f"  Each of you has {', '.join(told)}."] if told else []
