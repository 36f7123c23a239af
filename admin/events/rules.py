"""Turns options into an event, and checks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from admin import times
from admin.errors import CommandError
from admin.options import option_name, split_names
from shared.core.models import Event

LONGEST_NAME = 200


def new_event(code: str, starts: str, ends: str, time_zone: str, models: str, **rest: Any) -> Event:
    """Raises CommandError if the options are not valid."""
    zone, names = times.find_zone(time_zone), _parse_models(models)
    rest["default_model"] = rest["default_model"] or (names[0] if names else None)
    event = Event(
        code=code,
        starts_at=times.parse(starts, zone),
        ends_at=times.parse(ends, zone, is_end=True),
        time_zone=zone,
        models=names,
        **rest,
    )
    _check(event)
    return event


def change_event(event: Event, options: dict[str, Any]) -> Event:
    """The event with these options. Options that are None change nothing.

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
    given |= dict.fromkeys(unlimited)
    given["active"] = given.pop("resume") or event.active
    if given.pop("no_default_model"):
        given["default_model"] = None
    if models is not None:
        given["models"] = _parse_models(models)
    if starts is not None:
        given["starts_at"] = times.parse(starts, zone)
    if ends is not None:
        given["ends_at"] = times.parse(ends, zone, is_end=True)
    changed = replace(event, time_zone=zone, **given)
    _check(changed)
    return changed


def _parse_models(text: str) -> tuple[str, ...]:
    names = split_names(text)
    if text and not names:
        raise CommandError(f'--models {text!r} names no model. Use A,B, or "" for all deployed models.')
    return names


def _check(event: Event) -> None:
    if not event.name.strip() or len(event.name) > LONGEST_NAME or not event.name.isprintable():
        raise CommandError(f"--name must be one line of 1 to {LONGEST_NAME} characters.")
    if len(event.organizer) > LONGEST_NAME or not event.organizer.isprintable():
        raise CommandError(f"--organizer must be one line of at most {LONGEST_NAME} characters.")
    if event.ends_at <= event.starts_at:
        starts, ends = (times.format_local(at, event.time_zone) for at in (event.starts_at, event.ends_at))
        raise CommandError(
            f"The event ends before it starts: {ends} is not after {starts} ({event.time_zone.key}). "
            "Change --starts or --ends."
        )
    if event.models and event.default_model and event.default_model not in event.models:
        raise CommandError(
            f"The default model {event.default_model!r} is not one of {', '.join(event.models)}. "
            "Choose one of them with --default-model."
        )


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
