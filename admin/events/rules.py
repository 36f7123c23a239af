"""Turns options into an event, and checks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from admin import times
from admin.errors import CommandError
from admin.options import BUDGETS, option_name, split_names
from shared.apis.response_tools import OWN_TOOLS
from shared.core.ids import new_secret
from shared.core.models import PASS_NUMBER, Deployment, Event
from shared.core.money import millionths, money_text, prices_of

LONGEST_NAME = 200

HOSTED_TOOLS = (
    "web_search",
    "code_interpreter",
    "file_search",
    "image_generation",
    "mcp",
    "computer",
    "shell",
    "local_shell",
    "apply_patch",
    "tool_search",
)
"""The tools of the Responses API that are not the attendee's own functions. A name may go on, as in
`web_search_preview`."""


def new_event(
    code: str, starts: str, ends: str, time_zone: str, models: str, tools: str, **rest: Any
) -> Event:
    """An event with a new secret. Its models are not checked: see `check_models`.

    Raises:
        CommandError: the options are not valid.
    """
    zone, names = times.find_zone(time_zone), _parse_models(models)
    rest["default_model"] = rest["default_model"] or (names[0] if names else None)
    event = Event(
        code=code,
        starts_at=times.parse(starts, zone),
        ends_at=times.parse(ends, zone, is_end=True),
        time_zone=zone,
        models=names,
        tools=parse_tools(tools),
        id_secret=new_secret(),
        desk_secret=new_secret(),
        pass_secret=new_secret(),
        **_in_columns(rest),
    )
    check(event)
    return event


def change_event(event: Event, options: dict[str, Any]) -> Event:
    """The event with these options. Options that are None change nothing. The models are not checked.

    An event of an earlier version gets its secrets.

    Raises:
        CommandError: the options are not valid.
    """
    given = {name: value for name, value in options.items() if value is not None}
    starts, ends, models = (given.pop(name, None) for name in ("starts", "ends", "models"))
    zone = times.find_zone(given.pop("time_zone", event.time_zone.key))
    unlimited = {name.replace("-", "_") for name in given.pop("no_limit")}
    if both := sorted(unlimited & given.keys()):
        option = option_name(both[0])
        raise CommandError(f"Use {option} or --no-limit {option[2:]}, not both.")
    given = _in_columns(given | dict.fromkeys(unlimited))
    given["active"] = given.pop("resume") or event.active
    if given.pop("exceptions"):
        # A pass that was made void stays void: the name may have a new owner.
        voided = {user: own[PASS_NUMBER] for user, own in event.exceptions.items() if PASS_NUMBER in own}
        given["exceptions"] = {user: {PASS_NUMBER: number} for user, number in voided.items()}
    if (extend := given.pop("extend", None)) is not None:
        given["ends_at"] = _extended(event, extend)
    if given.pop("no_default_model"):
        given["default_model"] = None
    if models is not None:
        given["models"] = _parse_models(models)
    if "tools" in given:
        given["tools"] = parse_tools(given["tools"])
    if starts is not None:
        given["starts_at"] = times.parse(starts, zone)
    if ends is not None:
        given["ends_at"] = times.parse(ends, zone, is_end=True)
    secrets: dict[str, Any] = {
        name: getattr(event, name) or new_secret() for name in ("id_secret", "pass_secret", "desk_secret")
    }
    changed = replace(event, time_zone=zone, **secrets, **given)
    check(changed)
    return changed


def _extended(event: Event, extend: str) -> datetime:
    """The end with --extend: from now, if the event is over."""
    ends_at = max(event.ends_at, datetime.now(UTC)) + times.parse_duration(extend)
    if ends_at.year not in times.YEARS:
        raise CommandError(f"The event would end in the year {ends_at.year}. Use a shorter --extend.")
    return ends_at


_COLUMNS = {
    "starts": "starts_at",
    "ends": "ends_at",
    "resume": "active",
    "no_default_model": "default_model",
    **BUDGETS,
}
"""Of the options that are not named as their column."""


def replaced_columns(options: dict[str, Any]) -> set[str]:
    """The columns to which `change_event` gives a value also if their old one cannot be read."""
    absent = {name for name, value in options.items() if value is None or value is False}
    given = options.keys() - absent - {"no_limit"}
    if options["store_responses"] is not None:
        given |= {"store_responses"}
    given |= {name.replace("-", "_") for name in options["no_limit"]}
    return {_COLUMNS.get(name, name) for name in given}


def _in_columns(options: dict[str, Any]) -> dict[str, Any]:
    """The same options, with amounts of money in millionths, under the names of their columns."""
    return {
        BUDGETS.get(name, name): millionths(value) if name in BUDGETS and value is not None else value
        for name, value in options.items()
    }


def _parse_models(text: str) -> tuple[str, ...]:
    names = split_names(text)
    if text and not names:
        raise CommandError(f'--models {text!r} names no model. Use A,B, or "" for all deployed models.')
    if blank := next((name for name in names if " " in name), None):
        raise CommandError(
            f"--models {blank!r} has a space. Put commas between models: {','.join(blank.split())}."
        )
    return names


def parse_tools(text: str) -> tuple[str, ...]:
    """The hosted tools that an event may allow. Raises CommandError for any other name."""
    names = split_names(text)
    if own := next((name for name in names if name in OWN_TOOLS), None):
        raise CommandError(f"--tools {own!r} is not needed: every event allows tools of that type.")
    for name in names:
        if not any(name == known or name.startswith(f"{known}_") for known in HOSTED_TOOLS):
            raise CommandError(f"--tools {name!r} is no hosted tool. Use some of: {', '.join(HOSTED_TOOLS)}.")
    return names


def check(event: Event) -> None:
    """Raises CommandError if the name, the organizer or the dates are not valid."""
    if not event.name.strip() or len(event.name) > LONGEST_NAME or not event.name.isprintable():
        raise CommandError(f"--name must be one line of 1 to {LONGEST_NAME} characters.")
    if len(event.organizer) > LONGEST_NAME or not event.organizer.isprintable():
        raise CommandError(f"--organizer must be one line of at most {LONGEST_NAME} characters.")
    if event.ends_at <= event.starts_at:
        starts = times.format_local(event.starts_at, event.time_zone)
        ends = times.format_end(event.ends_at, event.time_zone)
        raise CommandError(
            f"The event ends before it starts: {ends} is not after {starts} ({event.time_zone.key}). "
            "Change --starts or --ends."
        )


def check_not_over(event: Event, now: datetime) -> None:
    """Raises CommandError if the event has ended."""
    if event.ends_at <= now:
        ended = f"{times.format_end(event.ends_at, event.time_zone)} ({event.time_zone.key})"
        raise CommandError(f"The event has been over since {ended}. Change --ends.")


def check_default_model(event: Event) -> None:
    """Raises CommandError if the event does not allow its default model."""
    if event.models and event.default_model and event.default_model not in event.models:
        raise CommandError(
            f"The default model {event.default_model!r} is not one of {', '.join(event.models)}. "
            "Choose one of them with --default-model."
        )


def check_currency(event: Event, changed: Event, options: dict[str, Any], spent: int) -> None:
    """Raises CommandError if a change of the currency would keep an amount: $200 is not 200 yen.

    `spent` is in millionths, and stays as it is.
    """
    if changed.currency == event.currency:
        return
    given = {name for name in BUDGETS if options[name] is not None}
    kept = {name: getattr(changed, column) for name, column in BUDGETS.items() if name not in given}
    amounts = {name: amount for name, amount in kept.items() if amount is not None}
    if not amounts and (given or not spent):
        return
    new = " ".join(f"{option_name(name)} AMOUNT" for name in amounts or ("budget",))
    has = [f"{option_name(name)} {money_text(amount, event.currency)}" for name, amount in amounts.items()]
    has += [f"spent {money_text(spent, event.currency)}"] if spent else []
    raise CommandError(
        f"--currency does not convert what the event has: {', '.join(has)}. Give the new amount in the same "
        f"command: {new}. What is spent keeps its number, in {changed.currency}."
    )


def check_budget(event: Event, deployments: Iterable[Deployment]) -> None:
    """Raises CommandError if the event has a budget, and cannot keep it: its costs are not all known."""
    if not event.has_budget:
        return
    if event.tools:
        raise CommandError(
            f"An event with a budget cannot allow hosted tools ({', '.join(event.tools)}): what they cost is "
            'not known. Use --tools "", or no budget.'
        )
    used = [one for one in deployments if one.active and (one.model in event.models or not event.models)]
    if missing := [text for one in used if (text := _missing_price(one, event.currency))]:
        one = next(one for one in used if _missing_price(one, event.currency))
        raise CommandError(
            f"An event with a budget needs the price of every model. {'. '.join(missing)}. Set it with "
            f"`deployments update {one.model} {one.id} --prompt-price P --completion-price P "
            f"--currency {event.currency}`."
        )


def _missing_price(deployment: Deployment, currency: str) -> str | None:
    prices = prices_of(deployment)
    name = f"{deployment.model} ({deployment.deployment_name})"
    if prices is None:
        return f"{name} has no price"
    return None if prices.currency == currency else f"{name} has prices in {prices.currency}, not {currency}"


def check_models(names: Iterable[str | None], deployed: set[str]) -> None:
    """Raises CommandError if one of the models is not deployed."""
    missing = list(dict.fromkeys(name for name in names if name and name not in deployed))
    if not missing:
        return
    by_lower = {name.lower(): name for name in sorted(deployed)}
    close = get_close_matches(missing[0].lower(), by_lower, 1)
    known = f"Deployed models: {', '.join(sorted(deployed)) or 'none'}."
    hint = f"Did you mean {by_lower[close[0]]}?" if close else known
    raise CommandError(
        f"No deployment serves {', '.join(missing)}. {hint} To add one, use `manage.py deployments add`."
    )
