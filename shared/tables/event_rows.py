"""The rows of the table `events`."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from ..core.models import LIMITS, Event
from .columns import Row, flag, int64, limit, names, text, time

EVENT_ROW = "event"
"""The row key of every event. The partition key is its code."""


def event_from_row(row: Row) -> Event:
    """The event in this row. Raises one of `UNREADABLE` if it cannot be read."""
    return Event(
        code=row["PartitionKey"],
        name=text(row, "name"),
        starts_at=time(row, "starts_at"),
        ends_at=time(row, "ends_at"),
        active=flag(row, "active"),
        organizer=text(row, "organizer"),
        time_zone=ZoneInfo(text(row, "time_zone") or "UTC"),
        models=names(row, "models"),
        default_model=text(row, "default_model") or None,
        **{name: limit(row, name) for name in LIMITS},
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
        **{name: int64(value) for name, value in limits.items()},
    }
