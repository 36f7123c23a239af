"""The memory and the open descriptors of the instances, and whether they grow."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression

from tools.attack.stage import Instance
from tools.processes import resident_bytes

_MOST_GROWTH = (8.0, 10.0)
"""In MB and descriptors, of the line that fits the second half of the run best."""
_LEAST_SAMPLES = 120
"""With fewer, nothing is judged: an instance still warms up."""
SECONDS = 10.0


@dataclass(slots=True)
class Samples:
    _first: list[tuple[float, float]] = field(default_factory=list)
    """MB and descriptors of the first instance, which is never killed."""
    _most: tuple[float, float] = (0.0, 0.0)
    """Of any instance."""
    last: str = ""

    def __len__(self) -> int:
        return len(self._first)

    def take(self, instances: list[Instance]) -> None:
        every = [_sizes(one.child.pid) for one in instances]
        self.last = ", ".join(f"{megabytes:.0f} MB {descriptors}" for megabytes, descriptors in every)
        self._first.append(every[0])
        self._most = tuple(map(max, zip(self._most, *every, strict=True)))

    def growth(self) -> Iterator[tuple[str, float, float, float]]:
        """What, how much in the second half, the limit, and the most of any instance."""
        half = self._first[len(self) // 2 :]
        for what, sizes, limit, most in zip(
            ("MB", "descriptors"), zip(*half, strict=True), _MOST_GROWTH, self._most, strict=True
        ):
            slope = linear_regression(range(len(sizes)), sizes).slope if len(sizes) > 1 else 0.0
            yield what, slope * len(sizes), limit, most

    def failures(self) -> Iterator[str]:
        for what, grown, limit, _ in self.growth():
            if grown > limit and len(self) >= _LEAST_SAMPLES:
                yield f"an instance grew by {grown:.1f} {what} in the second half"

    def __str__(self) -> str:
        return "; ".join(
            f"{grown:+.1f} {what} in the second half (limit {limit:+.0f}), at most {most:.0f} in any instance"
            for what, grown, limit, most in self.growth()
        )


def _sizes(pid: int) -> tuple[float, float]:
    """MB and descriptors; 0 where the system has no /proc, or once the process has ended."""
    try:
        return resident_bytes(pid) / 2**20, len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0.0, 0.0
