"""One account's row in the table `quotas`, and what the ledger asks of its store."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .amounts import NOTHING, Amount


class Key(NamedTuple):
    """A row of the table `quotas`: partition key and row key."""

    event_code: str
    row: str


class Row(NamedTuple):
    """One account in the table. `version` is its ETag; None where there is no row yet."""

    granted: Amount = NOTHING
    used: Amount = NOTHING
    writer: str = ""
    """Who wrote it last: tells after a lost answer whether the write arrived."""
    version: str | None = None


class Conflict(Exception):
    """The row has changed since it was read."""


class LedgerStore(Protocol):
    async def read(self, key: Key) -> Row:
        """The row; an empty one where there is none.

        Raises:
            StoreUnavailable: the table does not answer.
        """

    async def write(self, key: Key, row: Row) -> Row:
        """Write if nobody has since `row.version`; returns the row with its new version.

        Raises:
            Conflict: somebody has.
            StoreUnavailable: the table does not answer: whether it wrote is not known.
        """
