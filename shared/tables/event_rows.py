"""The rows of the table `events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from ..core.ids import is_long_enough
from ..core.models import (
    ACCESS,
    BLOCKED,
    BUDGETS,
    HIGHEST_PARALLEL,
    LIMITS,
    OPEN,
    OWN_LIMITS,
    PASS_NUMBER,
    Event,
    Own,
)
from ..core.times import find_zone
from .columns import LARGEST, Reader, Row, currency, flag, int64, limit, names, text, time

EVENT_ROW = "event"
"""The row key of every event. The partition key is its code."""

SECRETS = frozenset({"id_secret", "pass_secret", "desk_secret"})
"""Columns whose values are never shown."""

_OPTIONAL = (*LIMITS, *BUDGETS, "seats")


def event_from_row(row: Row) -> Event:
    """The event in this row. Raises one of `UNREADABLE` if it cannot be read."""
    return Event(code=row["PartitionKey"], **{name: read(row, name) for name, read in COLUMNS.items()})


def event_to_row(event: Event) -> dict[str, Any]:
    limits = {name: value for name in _OPTIONAL if (value := getattr(event, name)) is not None}
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
        "tools": ",".join(event.tools),
        "store_responses": event.store_responses,
        "id_secret": event.id_secret,
        "currency": event.currency,
        "access": event.access,
        "pass_secret": event.pass_secret,
        "desk_secret": event.desk_secret,
        "exceptions": exceptions_to_text(event.exceptions),
        "first_code": event.first_code,
        **{name: int64(value) for name, value in limits.items()},
    }


def changed_event_to_row(row: Row, _before: Event, after: Event) -> dict[str, Any]:
    """`row` with the changes. Its other columns, which a later version may have written, stay."""
    return {name: value for name, value in row.items() if name not in _OPTIONAL} | event_to_row(after)


def exceptions_to_text(exceptions: Mapping[str, Own]) -> str:
    """The column `exceptions`. Empty if there are none."""
    return msgspec.json.encode(exceptions).decode() if exceptions else ""


def _exceptions(row: Row, name: str) -> dict[str, Own]:
    value = text(row, name)
    if not value:
        return {}
    found: dict[str, Own] = msgspec.json.decode(
        value, type=dict[str, dict[str, Any]]
    )  # its error is a ValueError
    for own in found.values():
        numbers = [own[member] for member in (*OWN_LIMITS, PASS_NUMBER) if member in own]
        are_wrong = any(type(one) is not int or not 0 <= one <= LARGEST for one in numbers)
        if are_wrong or type(own.get(BLOCKED, False)) is not bool:
            raise ValueError(f"{name} has a wrong value")
    return found


def _access(row: Row, name: str) -> str:
    """Refuse an event without a secret: every tag would be easy to make."""
    value = text(row, name) or OPEN
    if value not in ACCESS:
        raise ValueError(f"{name} is none of {', '.join(ACCESS)}")
    if value != OPEN and not text(row, "pass_secret"):
        raise ValueError(f"{name} is {value}, but there is no pass_secret")
    return value


def _id_secret(row: Row, name: str) -> str:
    """Empty if it is too short: then the event gets another one, like an event of an earlier version."""
    value = text(row, name)
    return value if is_long_enough(value) else ""


def _zone(row: Row, name: str) -> ZoneInfo:
    return find_zone(text(row, name) or "UTC")


def _optional_text(row: Row, name: str) -> str | None:
    return text(row, name) or None


def _parallel(row: Row, name: str) -> int | None:
    value = limit(row, name)
    if value is not None and not 1 <= value <= HIGHEST_PARALLEL:
        raise ValueError(f"{name} is not a number from 1 to {HIGHEST_PARALLEL}")
    return value


COLUMNS: dict[str, Reader] = {
    "name": text,
    "starts_at": time,
    "ends_at": time,
    "active": flag,
    "organizer": text,
    "time_zone": _zone,
    "models": names,
    "default_model": _optional_text,
    **dict.fromkeys(LIMITS, limit),
    **dict.fromkeys(BUDGETS, limit),
    "currency": currency,
    "parallel": _parallel,
    "tools": names,
    "store_responses": flag,
    "id_secret": _id_secret,
    "access": _access,
    "pass_secret": text,
    "desk_secret": text,
    "seats": limit,
    "exceptions": _exceptions,
    "first_code": text,
}
"""How each field of an event is read."""
