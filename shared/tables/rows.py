"""The formats of the rows: what stands in Table Storage, and the values that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from azure.data.tables import EdmType, EntityProperty

from ..core.models import API_V1, MANAGED_IDENTITY, Counts, Deployment, Event, Health, UsageRow
from ..quota.amounts import Amount
from ..quota.ledger_row import Key
from ..quota.ledger_row import Row as LedgerRow

EVENT_ROW: Final = "event"
OUTPUT_FIELDS: Final = ("max_completion_tokens", "max_tokens")

PRIVATE_SETTINGS: Final = (
    "PROXY_",
    "AZUREWEBJOBS",
    "AZURE_CLIENT_",
    "WEBSITE_",
    "IDENTITY_",
    "APPLICATIONINSIGHTS",
)

HEALTH: Final = ("health_seen_at", "health_status", "health_cooling_until")

_HOUR: Final = "%Y-%m-%dT%H"

Row = Mapping[str, Any]

UNREADABLE: Final = (KeyError, ValueError, TypeError, ArithmeticError, OSError)
"""What a row edited by hand can raise; OSError is how ZoneInfo says that a name is a folder's."""


def event_from_row(row: Row) -> Event:
    """Raises one of `UNREADABLE` where the row is not an event."""
    return Event(
        code=row["PartitionKey"],
        name=_text(row, "name"),
        starts_at=_time(row["starts_at"]),
        ends_at=_time(row["ends_at"]),
        active=_flag(row.get("active", True)),
        organizer=_text(row, "organizer"),
        time_zone=ZoneInfo(_text(row, "time_zone") or "UTC"),
        models=_names(_text(row, "models")),
        default_model=_text(row, "default_model") or None,
        **{name: _limit(row.get(name)) for name in LIMITS},
    )


LIMITS: Final = (
    "max_output_tokens",
    "requests_per_day",
    "tokens_per_day",
    "requests_per_minute",
    "requests_total",
    "tokens_total",
)


def event_to_row(event: Event) -> dict[str, Any]:
    limits = {name: value for name in LIMITS if (value := getattr(event, name)) is not None}
    return {
        "PartitionKey": event.code,
        "RowKey": EVENT_ROW,
        "name": event.name,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "active": event.active,
        "organizer": event.organizer,
        "time_zone": event.time_zone.key,
        "models": ",".join(event.models),
        "default_model": event.default_model or "",
        **{name: EntityProperty(value, EdmType.INT64) for name, value in limits.items()},
    }


def deployment_from_row(row: Row) -> Deployment:
    """Raises one of `UNREADABLE` where the row is not a deployment."""
    return Deployment(
        model=row["PartitionKey"],
        id=row["RowKey"],
        endpoint=_address(_text(row, "endpoint")),
        deployment_name=_required(row, "deployment_name"),
        api_version=_text(row, "api_version") or API_V1,
        auth=_auth(_text(row, "auth") or MANAGED_IDENTITY),
        priority=int(_plain(row.get("priority", 1))),
        weight=int(_plain(row.get("weight", 1))),
        prompt_price=_price(row.get("prompt_price")),
        completion_price=_price(row.get("completion_price")),
        output_field=_output_field(_text(row, "output_field") or "max_completion_tokens"),
        active=_flag(row.get("active", True)),
    )


def deployment_to_row(deployment: Deployment) -> dict[str, Any]:
    prices = {"prompt_price": deployment.prompt_price, "completion_price": deployment.completion_price}
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
        **{name: price for name, price in prices.items() if price is not None},
    }


def changed_deployment_to_row(row: Row, before: Deployment, after: Deployment) -> dict[str, Any]:
    """`row` with the change alone; what it tells of the health goes where that is of another target."""
    gone = ("prompt_price", "completion_price") + (() if before.target == after.target else HEALTH)
    return {name: value for name, value in row.items() if name not in gone} | deployment_to_row(after)


def _text(row: Row, name: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value


def _required(row: Row, name: str) -> str:
    if not (value := _text(row, name)):
        raise ValueError(f"{name} is empty")
    return value


def _output_field(value: str) -> str:
    if value not in OUTPUT_FIELDS:
        raise ValueError(f"output_field is none of {', '.join(OUTPUT_FIELDS)}")
    return value


def _plain(value: Any) -> Any:
    """A number as such: the library wraps those that are stored as Int64."""
    return value.value if isinstance(value, EntityProperty) else value


def ledger_from_row(row: Any) -> LedgerRow:
    """Raises KeyError, ValueError or TypeError where the row is not an account."""
    granted, used = (
        Amount(_count(row[f"requests_{part}"]), _count(row[f"tokens_{part}"])) for part in ("granted", "used")
    )
    return LedgerRow(granted, used, str(row.get("writer", "")), row.metadata["etag"])


def ledger_to_row(key: Key, row: LedgerRow) -> dict[str, Any]:
    return {
        "PartitionKey": key.event_code,
        "RowKey": key.row,
        "requests_granted": EntityProperty(row.granted.requests, EdmType.INT64),
        "tokens_granted": EntityProperty(row.granted.tokens, EdmType.INT64),
        "requests_used": EntityProperty(row.used.requests, EdmType.INT64),
        "tokens_used": EntityProperty(row.used.tokens, EdmType.INT64),
        "writer": row.writer,
    }


def usage_from_row(row: Row) -> UsageRow:
    """Raises one of `UNREADABLE` where the row is no usage."""
    hour, user, rest = row["RowKey"].split(":", 2)
    model = rest.rpartition(":")[0]
    counts = Counts(*(_count(row[name]) for name in Counts._fields))
    return UsageRow(
        row["PartitionKey"], datetime.strptime(hour, _HOUR).replace(tzinfo=UTC), user, model, counts
    )


def usage_to_row(usage: UsageRow, writer: str) -> dict[str, Any]:
    """`writer` names one instance for as long as it lives; neither it nor a user's name has a colon."""
    counts = zip(Counts._fields, usage.counts, strict=True)
    return {
        "PartitionKey": usage.event_code,
        "RowKey": f"{usage.hour:{_HOUR}}:{usage.user}:{usage.model}:{writer}",
        **{name: EntityProperty(value, EdmType.INT64) for name, value in counts},
    }


def usage_rows_before(hour: datetime) -> str:
    """Where in the order of the row keys the usage of that hour begins."""
    return f"{hour.astimezone(UTC):{_HOUR}}"


def quota_day(row_key: str) -> date | None:
    """The day of a user's row in the table `quotas`; None for the total of an event."""
    try:
        return date.fromisoformat(row_key.rpartition(":")[2])
    except ValueError:
        return None


def health_from_row(row: Row) -> Health | None:
    """None where nothing readable tells it: it is no more than a hint."""
    try:
        seen_at, until = _time(row["health_seen_at"]), _time(row["health_cooling_until"])
        return Health(seen_at, _required(row, "health_status"), until if until > seen_at else None)
    except UNREADABLE:
        return None


def health_to_row(deployment: Deployment, health: Health) -> dict[str, Any]:
    """Only the columns of the health, merged into the deployment's row; a column cannot be made empty."""
    return {
        "PartitionKey": deployment.model,
        "RowKey": deployment.id,
        "health_seen_at": health.seen_at,
        "health_status": health.status,
        "health_cooling_until": health.cooling_until or health.seen_at,
    }


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError("not a time")
    # The library's own kind of datetime is left behind here.
    return datetime.combine(value.date(), value.time(), value.tzinfo or UTC).astimezone(UTC)


def _limit(value: Any) -> int | None:
    number = _plain(value)
    if number is None or number == "":
        return None
    if isinstance(number, bool) or int(number) < 0:
        raise ValueError("a limit is a number from 0 up")
    return int(number)


def _count(value: Any) -> int:
    """Nothing is taken for 0 here: that would give the quota out again."""
    count = _plain(value)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError("a count is a whole number from 0 up")
    return count


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _price(value: Any) -> float | None:
    price = _plain(value)
    return None if price is None or price == "" else float(price)


def _auth(value: str) -> str:
    """The app's own settings are no keys: a row that names one would send it to the row's endpoint."""
    if value.upper().startswith(PRIVATE_SETTINGS):
        raise ValueError("this setting is the app's own")
    return value


def _address(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in {"https", "http"} or not address.hostname or address.port == 0:
        raise ValueError("an endpoint begins with https://")
    return value.rstrip("/")
