"""The rows of the table `deployments`: each deployment and its health."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from ..core.models import (
    API_V1,
    APIS,
    DEFAULT_APIS,
    MANAGED_IDENTITY,
    OUTPUT_FIELDS,
    Deployment,
    Health,
)
from .columns import (
    UNREADABLE,
    Reader,
    Row,
    currency,
    flag,
    long_prices,
    names,
    number,
    price,
    required_text,
    text,
    time,
)

PRIVATE_SETTINGS = (
    "PROXY_",
    "AZUREWEBJOBS",
    "AZURE_CLIENT_",
    "WEBSITE_",
    "IDENTITY_",
    "APPLICATIONINSIGHTS",
)
"""How the names of the app's own settings begin. A deployment cannot name them as its key."""

HOST = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f.]*:[0-9a-f.:]+", re.IGNORECASE)
"""A name or an IPv4 address, or an IPv6 address without its brackets."""

_PRICES = ("prompt_price", "completion_price", "cached_prompt_price")
_ALL_PRICES = (*_PRICES, "long_prices")
_HEALTH = ("health_seen_at", "health_status", "health_cooling_until")


def deployment_from_row(row: Row) -> Deployment:
    """The deployment in this row. Raises one of `UNREADABLE` if it cannot be read."""
    fields = {name: read(row, name) for name, read in COLUMNS.items()}
    return Deployment(model=required_text(row, "PartitionKey"), id=required_text(row, "RowKey"), **fields)


def deployment_to_row(deployment: Deployment) -> dict[str, Any]:
    prices = {name: f"{value:f}" for name in _PRICES if (value := getattr(deployment, name)) is not None}
    return {
        "PartitionKey": deployment.model,
        "RowKey": deployment.id,
        "endpoint": deployment.endpoint,
        "deployment_name": deployment.deployment_name,
        "api_version": deployment.api_version,
        "auth": deployment.auth,
        "priority": deployment.priority,
        "weight": deployment.weight,
        "output_field": deployment.output_field,
        "active": deployment.active,
        "apis": ",".join(deployment.apis),
        "currency": deployment.currency,
        **prices,
        **({"long_prices": str(deployment.long_prices)} if deployment.long_prices else {}),
    }


def changed_deployment_to_row(row: Row, before: Deployment, after: Deployment) -> dict[str, Any]:
    """`row` with the changes. Its other columns stay, except for the health of a former target."""
    removed = _ALL_PRICES if before.target == after.target else _ALL_PRICES + _HEALTH
    return {name: value for name, value in row.items() if name not in removed} | deployment_to_row(after)


def health_from_row(row: Row) -> Health | None:
    """The deployment's health. None if it is missing or cannot be read: health is only a hint."""
    try:
        seen_at, until = time(row, "health_seen_at"), time(row, "health_cooling_until")
        return Health(seen_at, required_text(row, "health_status"), until if until > seen_at else None)
    except UNREADABLE:
        return None


def health_to_row(deployment: Deployment, health: Health) -> dict[str, Any]:
    """The columns of the health, to be merged into the deployment's row.

    A merge cannot empty a column: a deployment that is not cooling gets the time when it was seen.
    """
    return {
        "PartitionKey": deployment.model,
        "RowKey": deployment.id,
        "health_seen_at": health.seen_at,
        "health_status": health.status,
        "health_cooling_until": health.cooling_until or health.seen_at,
    }


def _api_version(row: Row, name: str) -> str:
    return text(row, name) or API_V1


def _output_field(row: Row, name: str) -> str:
    value = text(row, name) or OUTPUT_FIELDS[0]
    if value not in OUTPUT_FIELDS:
        raise ValueError(f"{name} is none of {', '.join(OUTPUT_FIELDS)}")
    return value


def _apis(row: Row, name: str) -> tuple[str, ...]:
    """In the order of `APIS`."""
    found = {one.lower() for one in names(row, name)}
    if not found.issubset(APIS):
        raise ValueError(f"{name} has a name that is none of {', '.join(APIS)}")
    return tuple(api for api in APIS if api in found) or DEFAULT_APIS


def _auth(row: Row, name: str) -> str:
    """Refuse the app's own settings: their value would be sent to the row's endpoint."""
    value = text(row, name) or MANAGED_IDENTITY
    if value.upper().startswith(PRIVATE_SETTINGS):
        raise ValueError(f"{name} names one of the app's own settings")
    return value


def _endpoint(row: Row, name: str) -> str:
    """An address that a request can be sent to. One that cannot would fail every call that chooses it."""
    value = text(row, name)
    address = urlsplit(value)
    host = address.hostname or ""
    is_host = HOST.fullmatch(host) and host.encode().decode("idna") and "@" not in address.netloc
    if address.scheme not in {"https", "http"} or not is_host or address.port == 0:
        raise ValueError(f"{name} is not an address that begins with https://")
    return value.rstrip("/")


COLUMNS: dict[str, Reader] = {
    "endpoint": _endpoint,
    "deployment_name": required_text,
    "api_version": _api_version,
    "auth": _auth,
    "priority": number,
    "weight": number,
    "prompt_price": price,
    "completion_price": price,
    "cached_prompt_price": price,
    "long_prices": long_prices,
    "currency": currency,
    "output_field": _output_field,
    "active": flag,
    "apis": _apis,
}
"""How each field of a deployment is read."""
