"""What a rehearsal has shown, as JSON and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

from admin.events.load import (
    MOST_OUTPUT_TOKENS,
    PAUSE_SECONDS,
    PROMPTS,
    Load,
    Plan,
)
from shared.core.models import Event
from shared.core.money import money_text
from shared.core.texts import plural

BUSY = "upstream_busy"
_ENDINGS = {
    "time": "The time is up.",
    "budget": "The rehearsal has used its budget.",
    "you": "You stopped it.",
}
_OWN_LIMITS = ("quota_exceeded", "budget_exceeded", "rate_limited")


def plan_text(plan: Plan, event: Event) -> str:
    """What will happen, before it happens."""
    sizes = ", ".join(f"{weight} of 10 have about {tokens:,} tokens" for weight, tokens in PROMPTS)
    minutes = "1 minute" if plan.seconds == 60 else f"{plan.seconds / 60:g} minutes"
    return (
        f"{len(plan.keys)} attendees ask {plan.model} at {plan.url} for {minutes}. They arrive in "
        f"the first half, and pause for about {PAUSE_SECONDS:g} seconds between two requests.\n"
        f"Prompts: {sizes}. Answers have at most {MOST_OUTPUT_TOKENS} tokens.\n"
        f"It costs at most {money_text(plan.budget, event.currency)}, which counts toward the event's limits."
    )


def progress(load: Load, seconds: float, currency: str) -> str:
    minutes, rest = divmod(round(seconds), 60)
    failed = sum(bool(one.code) for one in load.seen)
    return (
        f"{minutes}:{rest:02}  {plural(load.attending, 'attendee')}, {plural(len(load.seen), 'request')}, "
        f"{failed} not served, "
        f"{money_text(load.spent, currency)}"
    )


def fields(load: Load, event: Event, limits: Mapping[str, str]) -> dict[str, Any]:
    """For JSON. `limits` has the deployments that were not always available, with their last status."""
    served = [one for one in load.seen if not one.code]
    firsts = [one.first_seconds for one in served if one.first_seconds is not None]
    codes = Counter(one.code for one in load.seen if one.code)
    return {
        "event": event.code,
        "model": load.plan.model,
        "attendees": load.attending,
        "requests": len(load.seen),
        "served": len(served),
        "not_served": dict(codes.most_common()),
        "first_byte_seconds": _spread(firsts),
        "answer_seconds": _spread([one.seconds for one in served]),
        "deployments_at_their_limit": dict(limits),
        "enough_for_attendees": _enough_for(load),
        "is_lower_bound": not codes[BUSY],
        "spent": load.spent,
        "spent_per_attendee_and_hour": _per_hour(load),
        "currency": event.currency,
        "ended_by": load.ended_by,
    }


def text(load: Load, event: Event, limits: Mapping[str, str]) -> str:
    found = fields(load, event, limits)
    lines = [
        _ENDINGS[load.ended_by],
        "",
        f"Requests      {found['requests']}, of which {found['served']} were served",
        *(f"Not served    {count} x {code}" for code, count in found["not_served"].items()),
    ]
    for name, spread in (
        ("First byte", found["first_byte_seconds"]),
        ("Whole answer", found["answer_seconds"]),
    ):
        if spread:
            lines.append(f"{name:12}  {spread['median']:.1f} s, and 95 of 100 within {spread['95%']:.1f} s")
    at_limit = ", ".join(f"{name} ({status})" for name, status in limits.items())
    lines += [
        f"Bottleneck    {at_limit or 'none: no deployment was at its limit'}",
        _capacity(found),
        *_money(found, event),
    ]
    if any(code.endswith(_OWN_LIMITS) for code in found["not_served"]):
        lines.append("Limits        The event's own limits refused some requests. See `events show`.")
    return "\n".join(lines)


def _capacity(found: Mapping[str, Any]) -> str:
    if not found["requests"]:
        return "Enough for    unknown: no request was sent"
    number = found["enough_for_attendees"]
    if found["is_lower_bound"]:
        return f"Enough for    at least {number} attendees at the same time"
    return (
        f"Enough for    about {number} attendees at the same time. Give the deployments "
        "more capacity, or add others."
    )


def _money(found: Mapping[str, Any], event: Event) -> list[str]:
    per_hour = found["spent_per_attendee_and_hour"]
    lines = [f"Spent         {money_text(found['spent'], event.currency)}"]
    if not per_hour:
        return lines
    lines.append(f"Pace          {money_text(per_hour, event.currency)} for each attendee and hour of work")
    if event.cost_total is not None:
        attendees = max(1, found["attendees"])
        hours = event.cost_total / per_hour / attendees
        budget = money_text(event.cost_total, event.currency)
        lines.append(
            f"Budget        {budget} last {hours:,.1f} hours, if {attendees} attendees work all the time"
        )
    return lines


def _enough_for(load: Load) -> int:
    """The attendees whose requests the deployments would have served."""
    busy = sum(one.code == BUSY for one in load.seen)
    served = sum(not one.code for one in load.seen)
    return load.attending if not busy else floor(load.attending * served / (served + busy))


def _per_hour(load: Load) -> int:
    return round(load.spent / load.attended_seconds * 3600) if load.attended_seconds else 0


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """The median, and the value below which 95 % are."""
    found = sorted(values)
    return {"median": found[len(found) // 2], "95%": found[len(found) * 95 // 100]} if found else None
