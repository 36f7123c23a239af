"""The table `quotas` in memory, held to the same contract as the real one, with faults on order."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from shared.core.errors import StoreUnavailable
from shared.quota.ledger_row import Conflict, Key, LedgerStore, Row


class Fault(Enum):
    """What becomes of one operation."""

    NONE = auto()
    CONFLICT = auto()
    """A write is refused, as if another had just written. A read is answered."""
    BEFORE = auto()
    """Unavailable; nothing was done."""
    AFTER = auto()
    """It was done, and the answer is lost."""
    LATE = auto()
    """Unavailable; the write is still on its way, and arrives at `deliver`."""


@dataclass
class Operation:
    """One that waits until somebody says what becomes of it."""

    row: Row | None
    """What it would write; None for a read."""
    done: asyncio.Future[Fault]


@dataclass
class FakeLedger:
    """`faults` are for the next operations, in order; `always` is for those after them."""

    rows: dict[Key, Row] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault = Fault.NONE
    delay_seconds: float = 0.0
    holding: bool = False
    """From now on every operation waits in `held`."""
    held: list[Operation] = field(default_factory=list)
    late: list[tuple[Key, Row]] = field(default_factory=list)
    history: list[tuple[Row, Row]] = field(default_factory=list)
    """Each write that arrived: the row before, and after."""
    _versions: count[int] = field(default_factory=lambda: count(1))

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    def order(self, faults: Iterable[Fault]) -> None:
        self.faults.extend(faults)

    async def read(self, key: Key) -> Row:
        if await self._fault("read") in {Fault.BEFORE, Fault.AFTER, Fault.LATE}:
            raise StoreUnavailable
        return self.row(key)

    async def write(self, key: Key, row: Row) -> Row:
        match await self._fault("write", row):
            case Fault.CONFLICT:
                raise Conflict
            case Fault.BEFORE:
                raise StoreUnavailable
            case Fault.LATE:
                self.late.append((key, row))
                raise StoreUnavailable
            case Fault.AFTER:
                # That others were quicker stays unsaid too.
                self._arrive(key, row)
                raise StoreUnavailable
        if not self._arrive(key, row):
            raise Conflict
        return self.row(key)

    def row(self, key: Key) -> Row:
        return self.rows.get(key, Row())

    def deliver(self, which: int = 0) -> None:
        """Let a write that was given up arrive after all."""
        self._arrive(*self.late.pop(which))

    def _arrive(self, key: Key, row: Row) -> bool:
        before = self.row(key)
        if before.version != row.version:
            return False
        self.rows[key] = row._replace(version=f"v{next(self._versions)}")
        self.history.append((before, self.rows[key]))
        return True

    async def _fault(self, kind: str, row: Row | None = None) -> Fault:
        self.calls[kind] += 1
        await asyncio.sleep(self.delay_seconds)
        if self.holding:
            operation = Operation(row, asyncio.get_running_loop().create_future())
            self.held.append(operation)
            return await operation.done
        return self.faults.popleft() if self.faults else self.always


def _is_a_store(fake: FakeLedger) -> LedgerStore:
    """For the type checker."""
    return fake
