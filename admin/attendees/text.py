"""Attendees and their passes, as JSON, CSV and text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from admin import times
from admin.attendees.people import Line
from admin.csv_text import to_csv
from admin.events.text import PLACEHOLDER_URL
from shared.core.models import OWN_LIMITS, Event
from shared.core.money import amount_text, money_text
from shared.core.texts import plural
from shared.events.passes import pass_of
from shared.quota.amounts import NOTHING, Amount

if TYPE_CHECKING:
    from shared.tables.attendees import AttendeeRow

COLUMNS = (
    "name",
    "source",
    "team",
    "last seen",
    "today",
    "left today",
    "requests",
    "tokens",
    "refused",
    "notes",
)
NUMBERS = ("requests", "tokens", "refused")


def own_limits(event: Event, user: str) -> str:
    """`$0.50 per day, 500 requests per day`: what differs from the event for one attendee."""
    own = event.exceptions.get(user, {})
    limits = {name: f"{own[name]:,} {name.replace('_', ' ')}" for name in OWN_LIMITS if name in own}
    if "cost_per_day" in own:
        limits["cost_per_day"] = f"{money_text(own['cost_per_day'], event.currency)} per day"
    return ", ".join(limits.values())


def given_back(event: Event, user: str, amount: Amount) -> str:
    """What `attendees reset` has given back."""
    if amount == NOTHING:
        return f"{user!r} has used nothing today. Is the name right? See `attendees list {event.code}`."
    money = [money_text(amount.cost, event.currency)] if event.has_budget else []
    parts = [*money, plural(amount.requests, "request"), plural(amount.tokens, "token")]
    return (
        f"Gave {', '.join(parts)} of today back to {user!r}.\n"
        "Requests that run now still count, and those of the last seconds."
    )


def to_fields(line: Line) -> dict[str, Any]:
    """For JSON. Times are in UTC."""
    requests, tokens, cost = line.limits
    requests_left, tokens_left, cost_left = line.left
    return {
        "user": line.user,
        "source": line.source or None,
        "team": line.team,
        "note": line.note,
        "added_at": line.added_at.isoformat() if line.added_at else None,
        "started": line.last_hour is not None,
        "last_hour": line.last_hour.isoformat() if line.last_hour else None,
        "requests": line.requests,
        "tokens": line.tokens,
        "refusals": line.refusals,
        "refused_often": line.is_refused_often,
        "requests_today": line.today.requests,
        "tokens_today": line.today.tokens,
        "cost_today": _money(line.today.cost),
        "requests_per_day": requests,
        "tokens_per_day": tokens,
        "budget_per_day": _money(cost),
        "requests_left_today": requests_left,
        "tokens_left_today": tokens_left,
        "budget_left_today": _money(cost_left),
        "own_limits": line.has_own_limits,
        "blocked": line.blocked,
    }


def _money(cost: int | None) -> float | None:
    """In units of the event's currency."""
    return None if cost is None else float(amount_text(cost))


def people_csv(lines: Sequence[Line]) -> str:
    rows = [to_fields(line) for line in lines]
    header = list(rows[0]) if rows else ["user"]
    return to_csv(header, [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> Any:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def row(line: Line, event: Event, now: datetime) -> tuple[str, ...]:
    """The cells of `COLUMNS`."""
    used = line.today
    cost = used.cost if event.has_budget else None
    return (
        line.user,
        line.source or "-",
        line.team or "-",
        _last_seen(line.last_hour, event.time_zone, now),
        _amounts((used.requests, used.tokens, cost), event.currency) or "-",
        _amounts(line.left, event.currency) or "no limit",
        f"{line.requests:,}",
        f"{line.tokens:,}",
        f"{line.refusals:,}",
        ", ".join(_remarks(line)),
    )


def _remarks(line: Line) -> list[str]:
    found = {
        "blocked": line.blocked,
        "own limits": line.has_own_limits,
        "refused again and again": line.is_refused_often,
    }
    return [*(text for text, holds in found.items() if holds), *([line.note] if line.note else [])]


def _last_seen(hour: datetime | None, zone: ZoneInfo, now: datetime) -> str:
    """Usage is kept by the hour."""
    if hour is None:
        return "not started"
    return "this hour" if now - hour < timedelta(hours=1) else times.format_local(hour, zone)


def _amounts(amounts: tuple[int | None, int | None, int | None], currency: str) -> str:
    requests, tokens, cost = amounts
    parts = [
        "" if cost is None else money_text(cost, currency),
        "" if requests is None else plural(requests, "request"),
        "" if tokens is None else plural(tokens, "token"),
    ]
    return ", ".join(filter(None, parts))


def link(url: str | None, event: Event, key: str) -> str:
    """The page with the form filled in. The browser does not send the part after `#`."""
    return f"{url or PLACEHOLDER_URL}/#{quote(key, safe='/@+')}"


def pass_fields(attendee: AttendeeRow, event: Event, url: str | None) -> dict[str, str]:
    """For JSON, CSV and cards."""
    key = f"{event.code}/{pass_of(event, attendee.user)}"
    return {
        "user": attendee.user,
        "team": attendee.team,
        "note": attendee.note,
        "key": key,
        "address": f"{url or PLACEHOLDER_URL}/v1",
        "link": link(url, event, key),
    }
