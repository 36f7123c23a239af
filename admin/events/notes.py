"""Notes on an event that is valid, but perhaps not what the organiser wants."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from admin.events import text as event_text
from admin.events.totals import TOTALS, Change
from admin.options import BUDGETS, option_name
from shared.core.models import CLAIM, LIMITS, OPEN, OWN_LIMITS, ROSTER, Deployment, Event
from shared.core.money import money_text
from shared.core.texts import plural

SHORTEST_CODE = 10
"""Characters. A shorter code is easy to guess."""

DAYS = {"budget": "budget_per_day", "requests_total": "requests_per_day", "tokens_total": "tokens_per_day"}
"""The limit of each attendee and day for each limit of the whole event."""

LONG_DAYS = 731
"""A longer event is perhaps a mistyped year."""

_SHORT_PROMPT_TOKENS = 32
"""About the cost of a question of one word, with its framing."""


def for_new_event(
    event: Event, url: str | None, deployments: Collection[Deployment], now: datetime
) -> list[str]:
    notes = _on_length(event, now) + _on_code(event) + _on_limits(event) + _on_seats(event)
    if not deployments:
        notes.insert(0, "No model is deployed yet. To add one, use `deployments add`.")
    if url is None:
        notes.append("The address above is a placeholder. Set PROXY_URL in the environment or .env.")
    return notes


def for_changed_event(change: Change, options: Mapping[str, Any], now: datetime) -> list[str]:
    """The limits of the event are checked only if `options` has one."""
    event, notes = change.after, list[str]()
    if change.has_void_passes:
        notes.append(
            "The exceptions could not be read, so every pass is void now. To print the new ones, use "
            f"`attendees passes {event.code}`."
        )
    if options["starts"] or options["ends"] or options["extend"] or options["time_zone"]:
        notes.append(f"The dates are now {event_text.period(event)}.")
        notes += _on_length(event, now)
    if options["currency"] is not None:
        notes.append(f"What the event has spent before keeps its number, in {event.currency}.")
    if not event.active:
        notes.append(f"The event is stopped. To reopen it, use `events update {event.code} --resume`.")
    notes += _on_end(event, now)
    if options["no_limit"] or any(options[name] is not None for name in (*BUDGETS, *LIMITS)):
        notes += _on_limits(event)
        notes += _on_totals(change)
        notes += _on_first_day_limit(change, now)
    if options["access"]:
        notes += _on_access(event)
    if options["access"] or options["seats"] is not None:
        notes += _on_seats(event) or _on_taken_seats(event, change.taken)
    return notes


def _on_length(event: Event, now: datetime) -> list[str]:
    """A year that is mistyped."""
    days = (event.ends_at - max(now, event.starts_at)).days
    return [f"The event will be open for {days:,} days. Is the year right?"] if days > LONG_DAYS else []


def _on_code(event: Event) -> list[str]:
    """A chosen code, or a word of a name without quotes."""
    if len(event.code) >= SHORTEST_CODE or event.access == ROSTER:
        return []
    return [
        f"The event code is {event.code!r}. It is short: everyone who guesses it can use the event. Without "
        "CODE, `events create` makes up one that is hard to guess."
    ]


def _on_access(event: Event) -> list[str]:
    """What a change of the access means for keys that attendees have."""
    if event.access == OPEN:
        return [f"Everyone who knows the code can use any name: keys are {event_text.key(event)}."]
    how = "take their names on the page" if event.access == CLAIM else "get their passes from you"
    return [f"Keys are now {event_text.key(event)}. Keys without a pass stop working: attendees {how}."]


def _on_seats(event: Event) -> list[str]:
    if event.seats is None:
        return []
    if event.access != CLAIM:
        return [f"--seats has no effect with --access {event.access}. Use --access claim."]
    if event.seats == 0:
        return ["With --seats 0, no one can take a name. To remove it, use --no-limit seats."]
    return []


def _on_taken_seats(event: Event, taken: int) -> list[str]:
    seats = event.seats
    if not seats or taken < seats:
        return []
    if taken == seats:
        return [f"All {seats:,} seats are taken, so no one else can take a name."]
    return [
        f"{taken:,} names are taken already, more than --seats {seats}. They keep their passes, and no one "
        "else can take a name. To free one, use `attendees release`."
    ]


def _on_totals(change: Change) -> list[str]:
    """What counts toward a new limit of the whole event, and whether a limit is used up."""
    notes, event = [], change.after
    for name, (column, unit) in TOTALS.items():
        limit = getattr(event, column)
        if limit is None or change.used is None:
            continue
        option, used = option_name(name), getattr(change.used, unit)
        did, shown = _used_text(unit, used, event)
        if change.is_new(column) and used:
            one = "counts" if used == 1 or unit == "cost" else "count"
            notes.append(f"The {shown} that the event has {did} so far {one} toward {option}.")
        elif change.is_new(column) and unit == "cost" and change.usage.requests:
            requests = plural(change.usage.requests, "request")
            zero = money_text(0, event.currency)
            notes.append(
                f"The event has used {requests} so far. No cost of them is known, so {option} begins at "
                f"{zero}."
            )
        if 0 < limit <= used:
            is_now = money_text(limit, event.currency) if unit == "cost" else f"{limit:,}"
            notes.append(
                f"The event has {did} {shown} already, and {option} is {is_now}: every request is refused."
            )
    return notes


def _used_text(unit: str, used: int, event: Event) -> tuple[str, str]:
    if unit == "cost":
        return "spent", money_text(used, event.currency)
    return "used", plural(used, unit.removesuffix("s"))


def _on_first_day_limit(change: Change, now: datetime) -> list[str]:
    """Attendees have no row of the day while no limit of the day is set."""
    before, after = (
        any(getattr(event, name) is not None for name in OWN_LIMITS)
        for event in (change.before, change.after)
    )
    if before or not after or change.after.starts_at > now:
        return []
    return ["What attendees used before this change does not count toward their limits of today."]


def _on_end(event: Event, now: datetime) -> list[str]:
    if event.ends_at > now:
        return []
    return [f"The event has ended. To extend it, use `events update {event.code} --ends DATE`."]


def _on_limits(event: Event) -> list[str]:
    if not event.has_budget and all(getattr(event, name) is None for name in LIMITS):
        return [
            "The event has no limits. To set one, use "
            f"`events update {event.code} --budget AMOUNT` or --requests-per-day N."
        ]
    limits = {name: getattr(event, name) for name in LIMITS}
    limits |= {option: getattr(event, name) for option, name in BUDGETS.items()}
    notes = (_on_limit(name, limit, event) for name, limit in limits.items() if limit is not None)
    return [note for note in (*notes, *_on_small_totals(limits, event)) if note]


def _on_small_totals(limits: Mapping[str, int | None], event: Event) -> Iterator[str]:
    """Two limits that are perhaps mixed up."""
    for total, day in DAYS.items():
        most, of_one = limits[total], limits[day]
        if most and of_one is not None and most < of_one:
            is_money = total in BUDGETS
            shown = [money_text(one, event.currency) if is_money else f"{one:,}" for one in (most, of_one)]
            yield (
                f"{option_name(total)} {shown[0]} is less than {option_name(day)} {shown[1]}: one attendee "
                "can use all of it in a day."
            )


def _on_limit(name: str, limit: int, event: Event) -> str | None:
    if limit == 0:
        option = option_name(name)
        return f"{option} 0 refuses every request. To remove the limit, use --no-limit {option[2:]}."
    return _on_small_limit(name, limit, event) if name in {"tokens_per_day", "tokens_total"} else None


def _on_small_limit(name: str, limit: int, event: Event) -> str | None:
    """Compare the limit with what the quota holds for a request with one answer."""
    from shared.quota.standing import LEAST_OUTPUT_TOKENS

    prompt, cap = _SHORT_PROMPT_TOKENS, event.max_output_tokens
    least = prompt + min(cap or LEAST_OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS)
    option = f"{option_name(name)} {limit}"
    if limit < least:
        return (
            f"{option} is too low: a question of one word and the shortest useful answer need {least} "
            "tokens. Almost every request will be refused. Raise the limit."
        )
    if cap and limit < prompt + cap:
        return (
            f"{option} is less than one request can use: its prompt and --max-output-tokens {cap}. "
            "Answers will be shorter, and a second request at the same time will be refused. Raise the limit."
        )
    return None
