"""The figures of each measurement, and their table."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

OURS: Final = "this proxy"
AT_LEAST: Final = 0.97


@dataclass(frozen=True, slots=True)
class Row:
    """Amounts are in the unit of the limit; money is in millionths."""

    proxy: str
    instances: int
    limit: str
    allowed: int
    served: int
    """What the upstream did, whether a client read it or not."""
    reached: int | None
    """What was served at the first refusal that stayed. None: there was none in time."""
    charged: int | None = None
    """None for LiteLLM: it keeps no such figure without a database."""

    @property
    def unseen(self) -> int:
        """What was charged for calls that were cut, beyond what the upstream did for them."""
        return max(0, (self.charged or 0) - self.served)

    @property
    def failed(self) -> bool:
        """Only for this proxy: others are measured, not judged."""
        least = AT_LEAST * self.allowed
        early = self.reached is None or self.reached + self.unseen < least
        return self.proxy == OURS and (self.served > self.allowed or early)

    def __str__(self) -> str:
        parts = [self.served, self.reached, None if self.charged is None else self.unseen]
        return " / ".join("-" if part is None else f"{part / self.allowed:.3f}" for part in parts)


@dataclass(slots=True)
class Results:
    clients: int
    options: str
    rows: list[Row] = field(default_factory=list)
    left_out: str = ""
    """Why LiteLLM was not measured."""

    @property
    def failed(self) -> bool:
        return any(row.failed for row in self.rows)

    def __str__(self) -> str:
        return "\n\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        command, today = f"python3 dev.py bench --overspend{self.options} --write", datetime.now(UTC)
        machine = f"{os.cpu_count()} cores, {platform.system()} on {platform.machine()}"
        yield (
            f"Written by `{command}` on {today:%Y-%m-%d}: {self.clients} clients, {machine}, "
            f"Python {platform.python_version()}."
        )
        counts = sorted({row.instances for row in self.rows})
        head = ["proxy", "limit", "allowed", *(f"{n} instance{'s' * (n > 1)}" for n in counts)]
        yield "\n".join(map(_line, [head, ["---"] * len(head), *self._lines(counts)]))
        if self.left_out:
            yield f"LiteLLM took no part: {self.left_out}"

    def _lines(self, counts: list[int]) -> Iterator[list[str]]:
        for proxy, limit, allowed in dict.fromkeys((row.proxy, row.limit, row.allowed) for row in self.rows):
            rows = {row.instances: row for row in self.rows if (row.proxy, row.limit) == (proxy, limit)}
            yield [proxy, f"`{limit}`", f"{allowed:,}", *(_cell(rows.get(count)) for count in counts)]


def _cell(row: Row | None) -> str:
    """Bold if it failed."""
    return f"**{row}**" if row and row.failed else str(row or "")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
