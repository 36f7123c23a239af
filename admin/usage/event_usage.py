"""The usage of one event, as the tables have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from admin.events.codes import find_event, unknown_event
from shared.core.models import UTC_ZONE, Deployment, Event, UsageRow
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.tables import Tables


class EventUsage(NamedTuple):
    """The usage of an event, and what a report needs besides."""

    event: Event
    rows: list[UsageRow]
    deployments: list[Deployment]


async def read_usage(tables: Tables, code: str) -> EventUsage:
    """The usage of an event, which may be deleted. Raises CommandError if it never existed."""
    event = await find_event(tables, code)
    known = code.strip().lower()
    rows = await tables.usage(known) if is_event_code(known) else []
    if event is None and not rows:
        raise unknown_event(code)
    return EventUsage(event or _deleted_event(known, rows), rows, await tables.deployments())


def _deleted_event(code: str, rows: list[UsageRow]) -> Event:
    hours = [row.hour for row in rows]
    return Event(code, code, min(hours), max(hours), active=False, time_zone=UTC_ZONE)
