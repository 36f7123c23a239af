"""The rows of the table `deployments`: each deployment and its health."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ..core.models import API_V1, MANAGED_IDENTITY, OUTPUT_FIELDS, Deployment, Health
from .columns import UNREADABLE, Row, flag, number, price, required_text, text, time

PRIVATE_SETTINGS = (
    "PROXY_",
    "AZUREWEBJOBS",
    "AZURE_CLIENT_",
    "WEBSITE_",
    "IDENTITY_",
    "APPLICATIONINSIGHTS",
)
"""How the names of the app's own settings begin. A deployment cannot name them as its key."""

_PRICES = ("prompt_price", "completion_price")
_HEALTH = ("health_seen_at", "health_status", "health_cooling_until")


def deployment_from_row(row: Row) -> Deployment:
    """The deployment in this row. Raises one of `UNREADABLE` if it cannot be read."""
    return Deployment(
        model=row["PartitionKey"],
        id=row["RowKey"],
        endpoint=_address(text(row, "endpoint")),
        deployment_name=required_text(row, "deployment_name"),
        api_version=text(row, "api_version") or API_V1,
        auth=_auth(text(row, "auth") or MANAGED_IDENTITY),
        priority=number(row, "priority"),
        weight=number(row, "weight"),
        prompt_price=price(row, "prompt_price"),
        completion_price=price(row, "completion_price"),
        output_field=_output_field(text(row, "output_field") or OUTPUT_FIELDS[0]),
        active=flag(row, "active"),
    )


def deployment_to_row(deployment: Deployment) -> dict[str, Any]:
    prices = {name: value for name in _PRICES if (value := getattr(deployment, name)) is not None}
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
        **prices,
    }


def changed_deployment_to_row(row: Row, before: Deployment, after: Deployment) -> dict[str, Any]:
    """`row` with the changes. Its other columns stay, except for the health of a former target."""
    removed = _PRICES if before.target == after.target else _PRICES + _HEALTH
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


def _output_field(value: str) -> str:
    if value not in OUTPUT_FIELDS:
        raise ValueError(f"output_field is none of {', '.join(OUTPUT_FIELDS)}")
    return value


def _auth(value: str) -> str:
    """Refuse the app's own settings: their value would be sent to the row's endpoint."""
    if value.upper().startswith(PRIVATE_SETTINGS):
        raise ValueError("auth names one of the app's own settings")
    return value


def _address(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in {"https", "http"} or not address.hostname or address.port == 0:
        raise ValueError("endpoint is not an address that begins with https://")
    return value.rstrip("/")
