"""What `GET /v1/desk` returns: the figures of a reading, as JSON."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

from msgspec import Raw

from ..core.counts import OTHERS, Counts, Minute
from ..core.models import BLOCKED, Deployment, Event, Health
from ..core.money import amount_text, prices_of
from ..quota.amounts import Amount
from ..quota.standing import least_call
from .forecast import Rate, rate_of, runs_out_at
from .readings import REFRESH_SECONDS, Reading
from .sums import (
    ACTIVE_MINUTES,
    NO_MINUTE,
    RECENT_MINUTES,
    SHOWN_MINUTES,
    AttendeeSums,
    Sums,
    minute_of,
    plus,
)

MOST_NAMES = 12
"""Of a list of attendees."""
STUCK_REFUSALS = 3
"""With fewer refusals in `RECENT_MINUTES`, an attendee does not count as stuck."""
CHART_STEPS = (1, 2, 5)
"""Minutes of one step of the chart: the first with which there are at most `MOST_STEPS`."""
MOST_STEPS = 90

UNITS = {"requests": "requests", "tokens": "tokens", "budget": "cost"}
"""The units in the JSON, and their names in `Amount`, `Rate` and the fields of `Event`."""
LIMIT_NAMES = {
    "requests_total": "requests_total",
    "tokens_total": "tokens_total",
    "budget": "cost_total",
    "requests_per_day": "requests_per_day",
    "tokens_per_day": "tokens_per_day",
    "budget_per_day": "cost_per_day",
    "requests_per_minute": "requests_per_minute",
    "max_output_tokens": "max_output_tokens",
}
"""The limits in the JSON, and the fields of `Event`. Those of the first three are for the whole event."""
MONEY = frozenset({"budget", "budget_per_day"})


def figures(reading: Reading, takes_effect_seconds: float) -> dict[str, Any]:
    """Everything that the desk shows. Times are in the event's time zone, with their offset."""
    event, sums, now = reading.event, reading.sums, reading.at
    rate = rate_of(sums.minutes, reading.summed_at)
    used = [one for one in reading.deployments if _is_used(event, one[0])]
    least = least_call(prices_of(deployment) for deployment, _ in used if deployment.active)
    units = [_unit(name, reading, rate, least) for name in UNITS]
    return {
        "object": "desk",
        "at": now.astimezone(event.time_zone),
        "refresh_seconds": REFRESH_SECONDS,
        "takes_effect_seconds": takes_effect_seconds,
        "event": _event(event, now),
        "units": units,
        "rate_minutes": round(rate.minutes, 1),
        "runs_out": _first_to_run_out(units),
        "recent": _recent(sums),
        "attendees": _attendees(event, sums),
        "models": _models(sums),
        "deployments": [_deployment(*one, event.time_zone) for one in used],
        "chart": _chart(sums, now, event),
    }


def state(event: Event, now: datetime) -> str:
    """`stopped`, `not_started`, `open` or `ended`."""
    if not event.active:
        return "stopped"
    if now < event.starts_at:
        return "not_started"
    return "open" if now < event.ends_at else "ended"


def shown_limit(event: Event, name: str) -> int | Raw | None:
    """A limit of `LIMIT_NAMES`. Money is a decimal number in the event's currency."""
    limit: int | None = getattr(event, LIMIT_NAMES[name])
    return limit if limit is None or name not in MONEY else money(limit)


def money(amount: float) -> Raw:
    """Millionths of the currency, as a decimal number."""
    return Raw(amount_text(round(amount)).encode())


def _event(event: Event, now: datetime) -> dict[str, Any]:
    return {
        "code": event.code,
        "name": event.name,
        "organizer": event.organizer,
        "state": state(event, now),
        "starts_at": event.starts_at.astimezone(event.time_zone),
        "ends_at": event.ends_at.astimezone(event.time_zone),
        "time_zone": event.time_zone.key,
        "currency": event.currency,
        "access": event.access,
        "limits": {name: shown_limit(event, name) for name in LIMIT_NAMES},
    }


def _unit(name: str, reading: Reading, rate: Rate, least: Amount) -> dict[str, Any]:
    """What is used and left of one unit. It is used up if less is left than `least`, a short call.

    The usage rows say how much. Where a limit is set, it is at least what its account says is used, and at
    most what the account has granted: old usage that no longer counts cannot make it more.
    """
    unit = UNITS[name]
    limit: int | None = getattr(reading.event, f"{unit}_total")
    counted = {"requests": reading.sums.total.requests, "tokens": _tokens(reading.sums.total)}
    used = counted.get(name, reading.sums.total.cost)
    left = out = None
    if limit is not None:
        granted, reported = (getattr(one, unit) for one in (reading.total.granted, reading.total.used))
        used = max(reported, min(used, granted))
        left = max(0, limit - used)
        out = runs_out_at(left, getattr(rate, unit), reading.summed_at)
    show = money if name == "budget" else round
    return {
        "unit": name,
        "used": show(used),
        "limit": None if limit is None else show(limit),
        "left": None if left is None else show(left),
        "is_used_up": left is not None and left < getattr(least, unit),
        "per_minute": show(getattr(rate, unit)),
        "runs_out_at": out and out.astimezone(reading.event.time_zone),
    }


def _first_to_run_out(units: list[dict[str, Any]]) -> dict[str, Any] | None:
    found = [(unit["runs_out_at"], unit["unit"]) for unit in units if unit["runs_out_at"]]
    return dict(zip(("at", "unit"), min(found), strict=True)) if found else None


def _tokens(counts: Counts) -> int:
    return counts.prompt_tokens + counts.completion_tokens


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "requests": counts.requests,
        "tokens": _tokens(counts),
        "budget": money(counts.cost),
        "refusals": counts.refusals,
        "errors": counts.errors,
    }


def _recent(sums: Sums) -> dict[str, Any]:
    counts = plus((NO_MINUTE, *(one for at, one in sums.minutes.items() if at > sums.now - RECENT_MINUTES)))
    return {
        "minutes": RECENT_MINUTES,
        "requests": counts.requests,
        "tokens": counts.tokens,
        "budget": money(counts.cost),
        "refusals": counts.refusals,
        "errors": counts.errors,
    }


def _attendees(event: Event, sums: Sums) -> dict[str, Any]:
    named = {name: one for name, one in sums.attendees.items() if name}
    busiest = sorted(named, key=lambda name: (-named[name].recent.tokens, -_tokens(named[name].total), name))
    stuck = [name for name, one in named.items() if _is_stuck(one)]
    stuck.sort(key=lambda name: (-_refused(named[name].recent), name))
    return {
        "seen": sum(one.is_in for one in named.values()),
        "active": sum(one.is_active for one in named.values()),
        "active_minutes": ACTIVE_MINUTES,
        "busiest": [_attendee(name, named[name]) for name in busiest[:MOST_NAMES]],
        "stuck": [_attendee(name, named[name]) for name in stuck[:MOST_NAMES]],
        "stuck_count": len(stuck),
        "others_refused": _refused(sums.attendees.get(OTHERS, AttendeeSums()).recent),
        "blocked": sorted(name for name, own in event.exceptions.items() if own.get(BLOCKED)),
    }


def _attendee(name: str, attendee: AttendeeSums) -> dict[str, Any]:
    return {
        "user": name,
        **_counts(attendee.total),
        "recent_tokens": attendee.recent.tokens,
        "recent_requests": attendee.recent.requests,
        "recent_refusals": attendee.recent.refusals,
        "recent_errors": attendee.recent.errors,
        "refused_for": attendee.refused_for or None,
    }


def _refused(counts: Minute) -> int:
    return counts.refusals + counts.errors


def _is_stuck(attendee: AttendeeSums) -> bool:
    """Whether the attendee is refused again and again, and gets hardly anything."""
    refused = _refused(attendee.recent)
    return refused >= STUCK_REFUSALS and refused >= attendee.recent.requests


def _models(sums: Sums) -> list[dict[str, Any]]:
    """The empty model stands for calls that were refused before a model was chosen."""
    models = sorted(sums.models.items(), key=lambda one: (-_tokens(one[1]), one[0]))
    return [{"model": name or None, **_counts(counts)} for name, counts in models]


def _is_used(event: Event, deployment: Deployment) -> bool:
    return not event.models or deployment.model in event.models


def _deployment(deployment: Deployment, health: Health | None, zone: tzinfo) -> dict[str, Any]:
    """Without its address: an event's organiser need not know it."""
    seen_at, cooling_until = health and health.seen_at, health and health.cooling_until
    return {
        "model": deployment.model,
        "id": deployment.id,
        "active": deployment.active,
        "status": health and health.status,
        "seen_at": seen_at and seen_at.astimezone(zone),
        "cooling_until": cooling_until and cooling_until.astimezone(zone),
    }


def _chart(sums: Sums, now: datetime, event: Event) -> dict[str, Any]:
    """The last hours in equal steps, from the first call on. The last step is not complete yet."""
    last = minute_of(now)
    shown = [at for at in sums.minutes if last - SHOWN_MINUTES < at <= last]
    length = last - min(shown, default=last) + 1
    step = next((step for step in CHART_STEPS if length <= step * MOST_STEPS), CHART_STEPS[-1])
    begins = (last - length + 1) // step * step
    points = [NO_MINUTE] * ((last - begins) // step + 1)
    for at in shown:
        points[(at - begins) // step] = plus((points[(at - begins) // step], sums.minutes[at]))
    return {
        "begins_at": datetime.fromtimestamp(begins * 60, event.time_zone),
        "step_minutes": step,
        "fields": ["requests", "tokens", "budget", "refusals", "errors"],
        "points": [[one.requests, one.tokens, money(one.cost), one.refusals, one.errors] for one in points],
    }
