"""The row of an account in the table `quotas`, a write to it, and the interface of the table."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, Protocol

from .amounts import NOTHING, Amount


class Key(NamedTuple):
    """A row of the table `quotas`: partition key and row key."""

    event_code: str
    row: str


class LedgerRow(NamedTuple):
    """One account in the table. `version` is its ETag, or None when there is no row yet."""

    granted: Amount = NOTHING
    used: Amount = NOTHING
    writer: str = ""
    """The name of the last write. If the response to a write is lost, it shows whether the write arrived."""
    version: str | None = None


NO_ROW = LedgerRow()
"""A row that is not in the table yet."""


class Purpose(Enum):
    """Why the row is written. Every write also reports what was spent, and takes what is owed."""

    TAKE = auto()
    """To take another block."""
    REPORT = auto()
    """To report a debt."""
    GIVE_BACK = auto()
    """To return what is spare."""


class Change(NamedTuple):
    """One write to the row. `limit` is the limit that it was planned under."""

    row: LedgerRow
    returned: Amount
    taken: Amount
    spent: Amount
    limit: Amount

    @property
    def is_empty(self) -> bool:
        return self.taken == self.returned and self.spent == NOTHING


class Conflict(Exception):
    """The row has changed since it was read."""


class LedgerStore(Protocol):
    async def read_ledger(self, key: Key) -> LedgerRow:
        """The row, or an empty one if there is none.

        Raises:
            StoreUnavailable: the table does not respond.
        """

    async def write_ledger(self, key: Key, row: LedgerRow) -> LedgerRow:
        """Write the row if it still has `row.version`; returns it with its new version.

        Raises:
            Conflict: the row has another version.
            StoreUnavailable: the table does not respond. The row may have been written.
        """
