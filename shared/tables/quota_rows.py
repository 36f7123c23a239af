"""The rows of the table `quotas`: one for each user and day, and one for the total of an event."""

from __future__ import annotations

from datetime import date
from typing import Any

from ..quota.amounts import Amount
from ..quota.ledger_row import Key
from ..quota.ledger_row import Row as LedgerRow
from .columns import count, int64


def ledger_from_row(row: Any) -> LedgerRow:
    """The ledger's row. Raises one of `UNREADABLE` if it cannot be read."""
    return LedgerRow(
        granted=Amount(count(row, "requests_granted"), count(row, "tokens_granted")),
        used=Amount(count(row, "requests_used"), count(row, "tokens_used")),
        writer=str(row.get("writer", "")),
        version=row.metadata["etag"],
    )


def ledger_to_row(key: Key, row: LedgerRow) -> dict[str, Any]:
    return {
        "PartitionKey": key.event_code,
        "RowKey": key.row,
        "requests_granted": int64(row.granted.requests),
        "tokens_granted": int64(row.granted.tokens),
        "requests_used": int64(row.used.requests),
        "tokens_used": int64(row.used.tokens),
        "writer": row.writer,
    }


def quota_day(row_key: str) -> date | None:
    """The day of a user's row. None for the total of an event."""
    try:
        return date.fromisoformat(row_key.rpartition(":")[2])
    except ValueError:
        return None
