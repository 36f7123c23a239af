"""The table `usage` in memory. It passes the same tests as the real one, and can fail on demand."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from shared.core.counts import Counts, UsageRow
from shared.core.errors import StoreUnavailable
from shared.usage.tally import UsageStore
from tests.fake_ledger import Fault


@dataclass
class FakeUsage:
    """Each write takes the next of `faults`. When they are used up, `always` applies."""

    rows: dict[tuple[object, ...], UsageRow] = field(default_factory=dict)
    writes: list[tuple[list[UsageRow], str]] = field(default_factory=list)
    """Every attempt, with its writer."""
    written_at: list[float] = field(default_factory=list)
    """The time of each attempt, by the loop's clock."""
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault = Fault.NONE
    poison: str | None = None
    """A write with a row of this user always fails."""
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear it to make writes wait."""
    late: list[tuple[list[UsageRow], str]] = field(default_factory=list)
    """Writes that timed out and have not arrived yet."""

    def __post_init__(self) -> None:
        self.passing.set()

    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        self.writes.append((list(rows), writer))
        self.written_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0)
        await self.passing.wait()
        fault = self.faults.popleft() if self.faults else self.always
        if fault is Fault.LATE:
            self.late.append((list(rows), writer))
        if fault is Fault.BEFORE or any(row.user == self.poison for row in rows):
            raise StoreUnavailable
        if fault in {Fault.NONE, Fault.AFTER}:
            self._arrive(rows, writer)
        if fault is not Fault.NONE:
            raise StoreUnavailable

    async def usage(self, event_code: str) -> list[UsageRow]:
        return [row for row in self.rows.values() if row.event_code == event_code]

    def deliver(self, index: int = 0) -> None:
        """Let a write that timed out arrive."""
        self._arrive(*self.late.pop(index))

    def total(self, user: str | None = None) -> Counts:
        """The sum of all writers' rows."""
        counts = [row.counts for row in self.rows.values() if user in {None, row.user}]
        return reduce(Counts.plus, counts, Counts())

    def _arrive(self, rows: Sequence[UsageRow], writer: str) -> None:
        self.rows.update({(*row[:4], writer): row for row in rows})


def _is_a_store(fake: FakeUsage) -> UsageStore:
    """Checked by mypy."""
    return fake
