"""The table `quotas` in memory, with faults on request. It passes the same contract tests as the real table."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from shared.core.errors import StoreUnavailable
from shared.quota.ledger_row import Conflict, Key, LedgerRow, LedgerStore


class Fault(Enum):
    """The outcome of one operation."""

    NONE = auto()
    CONFLICT = auto()
    """A write is refused, as if another instance had just written. A read succeeds."""
    BEFORE = auto()
    """Unavailable, and nothing was done."""
    AFTER = auto()
    """The operation was done, and its response is lost."""
    LATE = auto()
    """Unavailable. The write is still on its way, and arrives at `deliver`."""


@dataclass
class Operation:
    """An operation that waits for its outcome."""

    row: LedgerRow | None
    """The row to write; None for a read."""
    outcome: asyncio.Future[Fault]


@dataclass
class FakeLedger:
    """`faults` are the outcomes of the next operations, in order; `always` is the outcome after them."""

    rows: dict[Key, LedgerRow] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault = Fault.NONE
    delay_seconds: float = 0.0
    paused: bool = False
    """While set, every new operation waits in `waiting`."""
    waiting: list[Operation] = field(default_factory=list)
    late: list[tuple[Key, LedgerRow]] = field(default_factory=list)
    history: list[tuple[LedgerRow, LedgerRow]] = field(default_factory=list)
    """Each write that arrived: the row before it and after it."""
    _versions: count[int] = field(default_factory=lambda: count(1))

    @property
    def total_calls(self) -> int:
        return sum(self.calls.values())

    async def read_ledger(self, key: Key) -> LedgerRow:
        if await self._outcome("read") in {Fault.BEFORE, Fault.AFTER, Fault.LATE}:
            raise StoreUnavailable
        return self.row(key)

    async def write_ledger(self, key: Key, row: LedgerRow) -> LedgerRow:
        match await self._outcome("write", row):
            case Fault.CONFLICT:
                raise Conflict
            case Fault.BEFORE:
                raise StoreUnavailable
            case Fault.LATE:
                self.late.append((key, row))
                raise StoreUnavailable
            case Fault.AFTER:
                # A lost response hides a conflict too.
                self._arrive(key, row)
                raise StoreUnavailable
        if not self._arrive(key, row):
            raise Conflict
        return self.row(key)

    def row(self, key: Key) -> LedgerRow:
        return self.rows.get(key, LedgerRow())

    def resume(self, outcome: Fault = Fault.NONE) -> None:
        """End the pause, and give the one operation that waits its outcome."""
        self.paused = False
        (operation,) = self.waiting
        self.waiting.clear()
        operation.outcome.set_result(outcome)

    def deliver(self, which: int = 0) -> None:
        """Let a late write arrive."""
        self._arrive(*self.late.pop(which))

    def _arrive(self, key: Key, row: LedgerRow) -> bool:
        before = self.row(key)
        if before.version != row.version:
            return False
        self.rows[key] = row._replace(version=f"v{next(self._versions)}")
        self.history.append((before, self.rows[key]))
        return True

    async def _outcome(self, kind: str, row: LedgerRow | None = None) -> Fault:
        self.calls[kind] += 1
        await asyncio.sleep(self.delay_seconds)
        if self.paused:
            operation = Operation(row, asyncio.get_running_loop().create_future())
            self.waiting.append(operation)
            return await operation.outcome
        return self.faults.popleft() if self.faults else self.always


def _is_a_store(fake: FakeLedger) -> LedgerStore:
    """Lets the type checker compare the two."""
    return fake
