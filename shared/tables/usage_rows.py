"""The rows of the table `usage`: one for each user, model, hour and writer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from ..core.counts import Counts, Minute, UsageRow
from .columns import LARGEST, Reader, Row, count, int64, new_count, plain, text

_HOUR = "%Y-%m-%dT%H"

_Number = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
_decode_minutes = msgspec.json.Decoder(
    dict[
        Annotated[int, msgspec.Meta(ge=0, le=59)],
        Annotated[list[_Number], msgspec.Meta(min_length=5, max_length=5)],
    ]
).decode


COLUMNS: dict[str, Reader] = {
    **dict.fromkeys(Counts._fields, count),
    "cached_tokens": new_count,
    "cost": new_count,
}
"""How each count is read."""


def usage_from_row(row: Row) -> UsageRow:
    """The usage in this row. Raises one of `UNREADABLE` if it cannot be read."""
    hour, user, rest = text(row, "RowKey").split(":", 2)
    return UsageRow(
        event_code=row["PartitionKey"],
        hour=datetime.strptime(hour, _HOUR).replace(tzinfo=UTC),
        user=user,
        model=rest.rpartition(":")[0],
        counts=Counts(*(COLUMNS[name](row, name) for name in Counts._fields)),
        minutes=_minutes(row.get("minutes")),
        refused_for=str(plain(row.get("refused_for", ""))),
    )


def usage_to_row(usage: UsageRow, writer: str) -> dict[str, Any]:
    """Neither `writer` nor a user's name contains a colon, so the row key can be split again."""
    counts = zip(Counts._fields, usage.counts, strict=True)
    return {
        "PartitionKey": usage.event_code,
        "RowKey": f"{usage.hour:{_HOUR}}:{usage.user}:{usage.model}:{writer}",
        **{name: int64(value) for name, value in counts},
        "minutes": _minutes_text(usage.minutes),
        "refused_for": usage.refused_for,
    }


def _minutes_text(minutes: Mapping[int, Minute]) -> str:
    """`{"5":[2,840,0,0,0]}`: by minute of the hour, the fields of `Minute`."""
    bounded = {minute: [min(number, LARGEST) for number in counts] for minute, counts in minutes.items()}
    return msgspec.json.encode(bounded).decode() if bounded else ""


def _minutes(value: Any) -> dict[int, Minute]:
    """Empty if they are missing or cannot be read: no sum depends on them."""
    try:
        found = _decode_minutes(value) if value else {}
        return {minute: Minute(*counts) for minute, counts in found.items()}
    except (msgspec.MsgspecError, TypeError):
        return {}


def usage_rows_before(hour: datetime) -> str:
    """The row key at which the usage of this hour begins. All earlier usage sorts before it."""
    return f"{hour.astimezone(UTC):{_HOUR}}"
