"""An event as JSON and as text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from admin import times
from shared.core.models import CHAT, CLAIM, DEFAULT_PARALLEL, LIMITS, OPEN, UTC_ZONE, Deployment, Event
from shared.core.money import money_text
from shared.core.texts import plural

if TYPE_CHECKING:
    from admin.rows import BadRow

_HELLO = 'messages=[{"role": "user", "content": "Hello"}]'
_DEFAULTS = {"parallel": f"{DEFAULT_PARALLEL} (default)"}
PLACEHOLDER_URL = "https://YOUR-APP.azurewebsites.net"


def to_fields(event: Event) -> dict[str, Any]:
    """For JSON, without secrets. Times are in UTC."""
    from shared.tables.event_rows import SECRETS

    return {name: getattr(event, name) for name in event.__slots__ if name not in SECRETS} | {
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
    return times.format_period(event.starts_at, event.ends_at, event.time_zone)


def key(event: Event) -> str:
    """The API key, with placeholders for what differs."""
    return f"{event.code}/YOUR-GITHUB-NAME" + ("" if event.access == OPEN else ".PASS")


def models(event: Event, deployed: Iterable[str] = ()) -> str:
    """The models of the event. If it has no list, those that are deployed now, if they are given."""
    names = event.models or sorted(deployed)
    if not names:
        default = f" (default {event.default_model})" if event.default_model else ""
        return f"all deployed models{default}"
    return ", ".join(f"{name} (default)" if name == event.default_model else name for name in names)


def chat_model(event: Event, deployments: Iterable[Deployment]) -> str | None:
    """A model that attendees can use in chat: the default one if it can."""
    served = {one.model: one.apis for one in deployments if one.active}
    names = [event.default_model, *(event.models or sorted(served))]
    return next((name for name in names if name and CHAT in served.get(name, ())), None)


def budgets(event: Event) -> str:
    """`$200.00, $2.00 per day`."""
    found = [(event.cost_total, ""), (event.cost_per_day, " per day")]
    parts = [f"{money_text(cost, event.currency)}{per}" for cost, per in found if cost is not None]
    return ", ".join(parts) or "-"


def details(event: Event, now: datetime) -> str:
    """Everything about an event, line by line."""
    lines = {
        "code": event.code,
        "name": event.name,
        "state": state(event, now),
        "dates": period(event),
        "dates in UTC": period(replace(event, time_zone=UTC_ZONE)),
        "models": models(event),
        "organizer": event.organizer or "-",
    }
    for label, cost in (("budget", event.cost_total), ("budget per day", event.cost_per_day)):
        lines[label] = "no limit" if cost is None else money_text(cost, event.currency)
    for name in LIMITS:
        limit, default = getattr(event, name), _DEFAULTS.get(name, "no limit")
        lines[name.replace("_", " ")] = default if limit is None else f"{limit:,}"
    lines["access"] = event.access
    lines["seats"] = "no limit" if event.seats is None else f"{event.seats:,}"
    lines["exceptions"] = f"for {plural(len(event.exceptions), 'attendee')}" if event.exceptions else "none"
    if event.first_code:
        lines["first code"] = event.first_code
    lines["hosted tools"] = ", ".join(event.tools) or "none"
    lines["stored responses"] = "yes" if event.store_responses else "no"
    return "\n".join(f"{name:20} {value}" for name, value in lines.items())


def bad_details(bad: BadRow) -> str:
    """The columns of a row that cannot be read, line by line."""
    fields = bad.fields
    lines = {"code": fields["code"], **fields["columns"]}
    return "\n".join([*(f"{name:20} {value}" for name, value in lines.items()), "", bad.message])


def desk_link(event: Event, url: str | None) -> str:
    """The address of the event's desk. Anyone who has it can change the event."""
    from shared.desk.keys import desk_key

    return f"{url or PLACEHOLDER_URL}/desk#{desk_key(event)}"


def links(event: Event, url: str | None) -> dict[str, str | None]:
    """For JSON: the app's address, and that of the event's desk."""
    return {"url": url, "desk_url": desk_link(event, url)}


def invitation(event: Event, url: str | None, deployments: Collection[Deployment]) -> str:
    """What an organiser sends to attendees and shows on a slide, and the organiser's own desk."""
    base, api_key = f"{url or PLACEHOLDER_URL}/v1", key(event)
    model = chat_model(event, deployments) or next(iter(event.models), "MODEL")
    return f"""\
Created event {event.name!r}. Give attendees:

  Endpoint   {base}
  API key    {api_key}
{_how(event, url or PLACEHOLDER_URL)}
For a slide:

  {event.name}
  Open {period(event)}
  Models: {models(event, {one.model for one in deployments if one.active})}
{_limits_of_each(event)}
  from openai import OpenAI
  client = OpenAI(base_url="{base}", api_key="{api_key}")
  client.chat.completions.create(model="{model}", {_HELLO})

Before the event, test it: python3 manage.py events check {event.code} --user {api_key.partition("/")[2]}

To watch and steer the event, open your desk, also on a phone. This link is for organisers only:

  {desk_link(event, url)}"""


def _how(event: Event, url: str) -> str:
    """How attendees get their passes."""
    if event.access == CLAIM:
        return f"  Page       {url}/#{event.code} (everyone takes a name there, and gets its pass)\n"
    if event.access == OPEN:
        return ""
    return f"  Passes     `attendees import {event.code} FILE`, then `attendees passes {event.code}`\n"


_LIMIT_TEXTS = {
    "requests_total": "{:,} requests in all",
    "tokens_total": "{:,} tokens in all",
    "requests_per_day": "{:,} requests a day for each attendee",
    "tokens_per_day": "{:,} tokens a day for each attendee",
    "requests_per_minute": "{:,} requests a minute for each attendee",
    "max_output_tokens": "{:,} output tokens for each request",
}


def limits(event: Event) -> list[str]:
    """The limits that are set, in words. Without those in money."""
    found = {name: getattr(event, name) for name in _LIMIT_TEXTS}
    return [_LIMIT_TEXTS[name].format(limit) for name, limit in found.items() if limit is not None]


def _limits_of_each(event: Event) -> str:
    limits = (
        ("request", " per day", event.requests_per_day),
        ("token", " per day", event.tokens_per_day),
        ("request", " per minute", event.requests_per_minute),
        ("request", " at the same time", event.parallel),
    )
    parts = [f"{plural(limit, unit)}{when}" for unit, when, limit in limits if limit is not None]
    if event.cost_per_day is not None:
        parts.insert(0, f"{money_text(event.cost_per_day, event.currency)} per day")
    return f"  Your limits: {', '.join(parts)}\n" if parts else ""
