"""The rows of the table `usage`: one for each user, model, hour and writer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..core.models import Counts, UsageRow
from .columns import Row, count, int64

_HOUR = "%Y-%m-%dT%H"


def usage_from_row(row: Row) -> UsageRow:
    """The usage in this row. Raises one of `UNREADABLE` if it cannot be read."""
    hour, user, rest = row["RowKey"].split(":", 2)
    return UsageRow(
        event_code=row["PartitionKey"],
        hour=datetime.strptime(hour, _HOUR).replace(tzinfo=UTC),
        user=user,
        model=rest.rpartition(":")[0],
        counts=Counts(*(count(row, name) for name in Counts._fields)),
    )


def usage_to_row(usage: UsageRow, writer: str) -> dict[str, Any]:
    """Neither `writer` nor a user's name contains a colon, so the row key can be split again."""
    counts = zip(Counts._fields, usage.counts, strict=True)
    return {
        "PartitionKey": usage.event_code,
        "RowKey": f"{usage.hour:{_HOUR}}:{usage.user}:{usage.model}:{writer}",
        **{name: int64(value) for name, value in counts},
    }


def usage_rows_before(hour: datetime) -> str:
    """The row key at which the usage of this hour begins. All earlier usage sorts before it."""
    return f"{hour.astimezone(UTC):{_HOUR}}"
