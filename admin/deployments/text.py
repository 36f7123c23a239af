"""A deployment as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from admin.deployments.prices import price_text
from shared.core.models import DEFAULT_CURRENCY, MANAGED_IDENTITY, Deployment, Health

COLUMNS = (
    "model",
    "apis",
    "deployment",
    "id",
    "endpoint",
    "priority",
    "weight",
    "auth",
    "price",
    "active",
    "last seen",
)
NUMBERS = ("priority", "weight")


def to_fields(deployment: Deployment, health: Health | None) -> dict[str, Any]:
    """For JSON. Times are in UTC."""
    return properties(deployment) | {"health": None if health is None else _health_fields(health)}


def properties(deployment: Deployment) -> dict[str, Any]:
    """For JSON: prices are numbers."""
    return {
        name: float(value) if isinstance(value, Decimal) else value
        for name, value in asdict(deployment).items()
    } | {"long_prices": None if deployment.long_prices is None else str(deployment.long_prices)}


def _health_fields(health: Health) -> dict[str, str | None]:
    until = health.cooling_until.isoformat() if health.cooling_until else None
    return {"seen_at": health.seen_at.isoformat(), "status": health.status, "cooling_until": until}


def row(deployment: Deployment, health: Health | None, now: datetime) -> tuple[str, ...]:
    """The cells of `COLUMNS`."""
    return (
        deployment.model,
        ", ".join(deployment.apis),
        deployment.deployment_name,
        deployment.id,
        deployment.endpoint,
        str(deployment.priority),
        str(deployment.weight),
        _auth(deployment),
        price(deployment),
        "yes" if deployment.active else "no",
        _last_seen(health, now),
    )


def _auth(deployment: Deployment) -> str:
    return deployment.auth if deployment.auth == MANAGED_IDENTITY else f"key in {deployment.auth}"


def price(deployment: Deployment) -> str:
    """The prices, in the order prompt and completion."""
    prompt, completion = deployment.prompt_price, deployment.completion_price
    if prompt is None:
        return "-"
    if not (prompt or completion):
        return "free"
    currency = "" if deployment.currency == DEFAULT_CURRENCY else f" {deployment.currency}"
    text = price_text(prompt, deployment.cached_prompt_price, completion)
    if (long := deployment.long_prices) is not None:
        text += f"; above {long.above:,} tokens {price_text(long.prompt, long.cached, long.completion)}"
    return f"{text}{currency}"


def _last_seen(health: Health | None, now: datetime) -> str:
    if health is None:
        return "not used yet"
    is_cooling = health.cooling_until is not None and health.cooling_until > now
    return f"{health.status}, {_age(health.seen_at, now)}" + (", cooling down" if is_cooling else "")


def _age(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _properties(deployment: Deployment) -> dict[str, str]:
    return {
        "endpoint": f"endpoint {deployment.endpoint}",
        "auth": _auth(deployment),
        "api_version": f"API version {deployment.api_version}",
        "apis": f"APIs {', '.join(deployment.apis)}",
        "output_field": f"output field {deployment.output_field}",
        "priority": f"priority {deployment.priority}",
        "weight": f"weight {deployment.weight}",
        "price": "no price" if deployment.prompt_price is None else f"price {price(deployment)}",
    }


def differences(before: Deployment, after: Deployment) -> list[str]:
    """The properties that `after` has and `before` has not."""
    old, new = _properties(before), _properties(after)
    return [text for name, text in new.items() if text != old[name]]


def kept_properties(default: Deployment, before: Deployment, after: Deployment) -> list[str]:
    """The properties that did not change, and are not those of a new deployment."""
    fresh, old, new = _properties(default), _properties(before), _properties(after)
    del new["endpoint"]  # it is how the deployment was found
    return [text for name, text in new.items() if text == old[name] != fresh[name]]
