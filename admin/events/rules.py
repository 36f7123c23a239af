"""What an event must be, and how options become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from admin import times
from admin.faults import Fault
from admin.options import names
from shared.core.models import Event

LONGEST_NAME = 200


def created(code: str, starts: str, ends: str, time_zone: str, models: str, **rest: Any) -> Event:
    """The event that these options describe.

    Raises:
        Fault: they describe none.
    """
    zone, listed = times.zone(time_zone), _models(models)
    rest["default_model"] = rest["default_model"] or (listed[0] if listed else None)
    event = Event(
        code=code,
        starts_at=times.moment(starts, zone),
        ends_at=times.moment(ends, zone, closing=True),
        time_zone=zone,
        models=listed,
        **rest,
    )
    check(event)
    return event


def changed(event: Event, changes: dict[str, Any]) -> Event:
    """The event with the options that were given; those that are None were not.

    Raises:
        Fault: it would be none.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    starts, ends, models = (given.pop(name, None) for name in ("starts", "ends", "models"))
    zone = times.zone(given.pop("time_zone", event.time_zone.key))
    unlimited = given.pop("no_limit")
    if both := [name for name in unlimited if name.replace("-", "_") in given]:
        raise Fault(f"Give --{both[0]} or --no-limit {both[0]}, not both.")
    given |= {name.replace("-", "_"): None for name in unlimited}
    given["active"] = given.pop("resume") or event.active
    if given.pop("no_default_model"):
        given["default_model"] = None
    if models is not None:
        given["models"] = _models(models)
    if starts is not None:
        given["starts_at"] = times.moment(starts, zone)
    if ends is not None:
        given["ends_at"] = times.moment(ends, zone, closing=True)
    updated = replace(event, time_zone=zone, **given)
    check(updated)
    return updated


def _models(text: str) -> tuple[str, ...]:
    listed = names(text)
    if text and not listed:
        raise Fault(f'--models {text!r} names no model: write a,b, or "" for every one.')
    return listed


def check(event: Event) -> None:
    """Raises Fault where it cannot be an event."""
    if not event.name.strip() or len(event.name) > LONGEST_NAME or not event.name.isprintable():
        raise Fault(f"--name is a text of 1 to {LONGEST_NAME} characters, in one line.")
    if len(event.organizer) > LONGEST_NAME or not event.organizer.isprintable():
        raise Fault(f"--organizer is a text of at most {LONGEST_NAME} characters, in one line.")
    if event.ends_at <= event.starts_at:
        raise Fault(
            f"The event ends before it starts: {times.shown(event.ends_at, event.time_zone)} is not after "
            f"{times.shown(event.starts_at, event.time_zone)} ({event.time_zone.key})."
        )
    if event.models and event.default_model and event.default_model not in event.models:
        raise Fault(
            f"The default model {event.default_model!r} is not one of {', '.join(event.models)}: name one of "
            "them with --default-model, or none with --no-default-model."
        )


def check_models(asked: Iterable[str | None], served: set[str]) -> None:
    """Raises Fault where nothing serves one of them."""
    missing = list(dict.fromkeys(name for name in asked if name and name not in served))
    if not missing:
        return
    alike = {name.lower(): name for name in sorted(served)}
    close = [alike[name] for name in get_close_matches(missing[0].lower(), alike, 1)]
    hint = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(sorted(served)) or 'none'}."
    raise Fault(
        f"No deployment serves {', '.join(missing)}. {hint} `manage.py deployments add` adds another."
    )
