"""The usage of one event, as the tables have it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from admin.events.codes import ledger_code, no_such_event
from shared.core.counts import UsageRow
from shared.core.models import UTC_ZONE, Deployment, Event
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.tables import Tables


class EventUsage(NamedTuple):
    """The usage of an event, and what a report needs besides."""

    event: Event
    rows: list[UsageRow]
    deployments: list[Deployment]
    problems: list[str]
    """A sentence about each row that cannot be read."""


async def read_usage(tables: Tables, code: str) -> EventUsage:
    """The usage of an event, which may be deleted. Raises CommandError if it never existed."""
    found = await tables.find_event(code.strip())
    known = ledger_code(found, code)
    rows, problems = await tables.read_usage(known) if is_event_code(known) else ([], [])
    if found is None and not rows:
        raise await no_such_event(tables, code)
    if not isinstance(found, Event):
        problems += [found.message] if found else []
        found = _event_without_row(known, rows)
    return EventUsage(found, rows, await tables.deployments(), problems)


def _event_without_row(code: str, rows: list[UsageRow]) -> Event:
    """Stands for an event that is deleted, or whose row cannot be read."""
    hours = [row.hour for row in rows] or [datetime.now(UTC)]
    return Event(code, code, min(hours), max(hours), active=False, time_zone=UTC_ZONE)
