"""A deployment as programs and people read it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from shared.core.models import MANAGED_IDENTITY, Deployment, Health

COLUMNS = ("model", "deployment", "endpoint", "prio", "weight", "auth", "price", "active", "last seen")
NUMBERS = ("prio", "weight")


def fields(one: Deployment, health: Health | None) -> dict[str, Any]:
    """For JSON; times in UTC."""
    return asdict(one) | {"health": None if health is None else _health_fields(health)}


def _health_fields(health: Health) -> dict[str, str | None]:
    until = health.cooling_until.isoformat() if health.cooling_until else None
    return {"seen_at": health.seen_at.isoformat(), "status": health.status, "cooling_until": until}


def line(one: Deployment, health: Health | None, now: datetime) -> tuple[str, ...]:
    """What stands in `COLUMNS`."""
    fixed = (one.model, one.deployment_name, one.endpoint, str(one.priority), str(one.weight))
    return (*fixed, _auth(one), _price(one), "yes" if one.active else "no", _seen(health, now))


def _auth(one: Deployment) -> str:
    return one.auth if one.auth == MANAGED_IDENTITY else f"key in {one.auth}"


def _price(one: Deployment) -> str:
    if one.prompt_price is None or one.completion_price is None:
        return "-"
    return f"{one.prompt_price:g} / {one.completion_price:g}"


def _seen(health: Health | None, now: datetime) -> str:
    if health is None:
        return "no call yet"
    cooling = health.cooling_until is not None and health.cooling_until > now
    return f"{health.status}, {_ago(health.seen_at, now)}" + (", cooling down" if cooling else "")


def _ago(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _particulars(one: Deployment) -> dict[str, str]:
    """All but its name and place, in words."""
    return {
        "auth": _auth(one),
        "api_version": f"API version {one.api_version}",
        "output_field": f"its output cap in {one.output_field}",
        "priority": f"priority {one.priority}",
        "weight": f"weight {one.weight}",
        "price": "no price" if one.prompt_price is None else f"price {_price(one)}",
    }


def differences(before: Deployment, after: Deployment) -> list[str]:
    """What `after` has that `before` has not, in words."""
    was, told = _particulars(before), _particulars(after)
    moved = [after.endpoint] if before.endpoint != after.endpoint else []
    return [*moved, *(text for name, text in told.items() if text != was[name])]


def kept(fresh: Deployment, before: Deployment, after: Deployment) -> list[str]:
    """What `after` has from `before`, and a `fresh` one would not have, in words."""
    plain, was, told = _particulars(fresh), _particulars(before), _particulars(after)
    return [text for name, text in told.items() if text == was[name] != plain[name]]
