"""The rows of the table `quotas`: one for each user and day, and one for the total of an event."""

from __future__ import annotations

from datetime import date
from typing import Any

from ..quota.amounts import Amount
from ..quota.ledger_row import Key, LedgerRow
from .columns import count, int64, new_count


def ledger_from_row(row: Any) -> LedgerRow:
    """The ledger's row. Raises one of `UNREADABLE` if it cannot be read."""
    if not (version := row.metadata["etag"]):
        raise ValueError("the row has no ETag")  # it would count as a row that does not exist yet
    return LedgerRow(
        granted=Amount(
            count(row, "requests_granted"), count(row, "tokens_granted"), new_count(row, "cost_granted")
        ),
        used=Amount(count(row, "requests_used"), count(row, "tokens_used"), new_count(row, "cost_used")),
        writer=str(row.get("writer", "")),
        version=version,
    )


def ledger_to_row(key: Key, row: LedgerRow) -> dict[str, Any]:
    return {
        "PartitionKey": key.event_code,
        "RowKey": key.row,
        "requests_granted": int64(row.granted.requests),
        "tokens_granted": int64(row.granted.tokens),
        "requests_used": int64(row.used.requests),
        "tokens_used": int64(row.used.tokens),
        "cost_granted": int64(row.granted.cost),
        "cost_used": int64(row.used.cost),
        "writer": row.writer,
    }


def quota_day(row_key: str) -> date | None:
    """The day of a user's row. None for the total of an event."""
    try:
        return date.fromisoformat(row_key.rpartition(":")[2])
    except ValueError:
        return None
