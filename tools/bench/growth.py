"""`--growth`: whether a call costs more with more users, events or deployments, or with longer bodies.

Each point of a curve has an app and tables of its own. All points of a curve take part in every round, as the
targets of the benchmark do.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from statistics import median
from typing import Final

from tools import loops
from tools.azurite import Azurite
from tools.processes import resident_bytes

from . import chart, report
from .load import Failed, running
from .results import Plan
from .run import becomes_quiet
from .scenarios import LARGE_WINDOW, MODEL, PLAIN_16, body_of, event_code, request
from .targets import UPSTREAM, Target, our_program, seed, started

PLAN: Final = Plan(rounds=7, seconds=1.5, warm_seconds=0.5)
ACTIVE: Final = 10
"""The calls that count are of the last so many users. The others have called once."""
USERS_OF_EVENT: Final = 200
"""At most. An instance admits 300 new users of an event at once."""
GIVE_BACK_SECONDS: Final = 20
"""After its first call a user's grant is given back, and the usage is written."""
MOST_SETTLE_SECONDS: Final = 300
TOLERANCE: Final = 1.25
MEASURABLE: Final = 100
"""First calls. The system counts the CPU of a process in units of 10 ms."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one instance has to do with."""

    users: int = ACTIVE
    events: int = 1
    deployments: int = 1
    model: str = MODEL
    kilobytes: int = 0
    """Of the body; 0 leaves it short."""

    def requests(self, first: int = 0) -> Iterator[bytes]:
        """One of each user, from the user with this number on."""
        body = _long_body(self.model, self.kilobytes * 1000) if self.kilobytes else body_of(PLAIN_16)
        for n in range(first, self.users):
            yield request(f"api-key: {event_code(n % self.events)}/user-{n}", body)


@dataclass(frozen=True, slots=True)
class Curve:
    name: str
    values: tuple[int, ...]
    stage: Callable[[int], Stage]


CURVES: Final = (
    Curve(
        "users known",
        (10, 1_000, 10_000, 100_000),
        lambda users: Stage(users, events=-(-users // USERS_OF_EVENT)),
    ),
    Curve("events known", (10, 100, 1_000), lambda events: Stage(users=events, events=events)),
    Curve("deployments", (1, 10, 25, 50), lambda number: Stage(deployments=number)),
    Curve("KB of a body", (1, 100, 400, 1_000), lambda size: Stage(model=LARGE_WINDOW, kilobytes=size)),
    Curve(f"KB, {MODEL}", (1, 100, 200, 400), lambda size: Stage(kilobytes=size)),
)
QUICK: Final = (
    Curve("users known", (10, 40), lambda users: Stage(users, events=users // 10)),
    Curve("KB of a body", (1, 10), lambda size: Stage(kilobytes=size)),
)


@dataclass(slots=True)
class Point:
    value: int
    stage: Stage
    target: Target
    cpu: list[float] = field(default_factory=list)
    """Microseconds for a call, one value for each round."""
    first_call: float = 0.0
    """Microseconds for the first call of a user, with what follows from it later."""
    megabytes: float = 0.0

    async def meet_all(self) -> None:
        """One call of each user."""
        self.first_call = -self.target.cpu_seconds()
        sent = chain(self.stage.requests(), cycle(self._active()))
        async with running(self.target.port, PLAIN_16, sent) as tally:
            while tally.total < self.stage.users:  # noqa: ASYNC110 - a tally has no event
                await asyncio.sleep(0.05)

    async def settle(self) -> None:
        """Until its grants are given back and its usage is written."""
        await becomes_quiet(self.target, MOST_SETTLE_SECONDS, share=0.03, within=1.0)
        self.first_call = (self.first_call + self.target.cpu_seconds()) / self.stage.users * 1e6

    async def measure(self, plan: Plan) -> None:
        async with running(self.target.port, PLAIN_16, cycle(self._active())) as tally:
            await asyncio.sleep(plan.warm_seconds)
            responses, cpu = tally.total, self.target.cpu_seconds()
            await asyncio.sleep(plan.seconds)
            used = self.target.cpu_seconds() - cpu
            self.cpu.append(used / max(1, tally.total - responses) * 1e6)
        await becomes_quiet(self.target)
        self.megabytes = resident_bytes(self.target.pid) / 1e6

    def _active(self) -> list[bytes]:
        return list(self.stage.requests(self.stage.users - ACTIVE))


Grown = dict[str, list[Point]]
"""The points by the name of their curve."""


def run(app: str, curves: Sequence[Curve], plan: Plan) -> Grown:
    """Raises ChildError or Failed."""
    if sys.platform != "linux":
        raise Failed("--growth needs Linux: it reads the CPU and the memory of processes from /proc.")
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loops.new) as runner:
        return runner.run(_run(app, curves, plan, Path(folder)))


async def _run(app: str, curves: Sequence[Curve], plan: Plan, folder: Path) -> Grown:
    grown: Grown = {}
    async with started(our_program(UPSTREAM), folder) as upstream:
        for curve in curves:
            print(curve.name, file=sys.stderr, flush=True)
            async with AsyncExitStack() as stack:
                points = grown[curve.name] = []
                for value in curve.values:
                    stage = curve.stage(value)
                    target = await stack.enter_async_context(_started(app, stage, folder, upstream.port))
                    points.append(Point(value, stage, target))
                await _measure(points, plan)
    return grown


async def _measure(points: Sequence[Point], plan: Plan) -> None:
    for point in points:
        await point.meet_all()
    if points[-1].stage.users >= MEASURABLE:
        await asyncio.sleep(GIVE_BACK_SECONDS)
    for point in points:
        await point.settle()
    for number in range(plan.rounds):
        for point in points if number % 2 else reversed(points):
            await point.measure(plan)


@asynccontextmanager
async def _started(app: str, stage: Stage, folder: Path, upstream_port: int) -> AsyncIterator[Target]:
    with Azurite(None) as azurite:
        tables = azurite.connection_string
        await seed(tables, upstream_port, events=stage.events, deployments=stage.deployments)
        async with started(our_program(app, tables), folder) as target:
            yield target


def _long_body(model: str, size: int) -> str:
    """A conversation, which a client sends anew with each turn."""
    turn = "The user and the assistant talk about glove boxes, and each turn repeats what was said before. "
    pair = [{"role": "user", "content": turn * 6}, {"role": "assistant", "content": turn * 3}]
    messages = json.dumps(pair)[1:-1]
    return f'{{"model":"{model}","messages":[{",".join([messages] * max(1, size // len(messages)))}]}}'


def text(grown: Grown, plan: Plan, app: str) -> str:
    rows = []
    for name, points in grown.items():
        values = " / ".join(f"{point.value:,}" for point in points)
        cells = [" / ".join(f"{y:,.0f}" for _, y in curve) for curve in (_cpu(points), _memory(points))]
        rows.append([name, values, *cells, _verdict(_cpu(points), _memory(points))])
        if first := _first_calls(points):
            values = " / ".join(f"{x:,}" for x, _ in first)
            cells = [" / ".join(f"{y:,.0f}" for _, y in first), ""]
            rows.append([f"{name}: their first calls", values, *cells, _verdict(first)])
    head = "| what grows | values | CPU of a call, µs | memory, MB | curves |"
    origin = f"{report.origin(' --growth')}, {plan.rounds} rounds of {plan.seconds:g} s. Measured: `{app}`."
    return f"{origin}\n\n{report.table(head, rows)}"


def svg(grown: Grown) -> str:
    rows = [
        [chart.Panel(f"{unit}: {name}", curve(points)) for name, points in grown.items()]
        for unit, curve in (("µs", _cpu), ("MB", _memory))
    ]
    return chart.panels("CPU of a call and memory, by what an instance has to do with", rows)


def bends(points: Sequence[tuple[int, float]]) -> bool:
    """Whether a point lies above the straight line through the two before it, by more than noise."""
    for (x0, y0), (x1, y1), (x2, y2) in zip(points, points[1:], points[2:], strict=False):
        rise = max(0.0, y1 - y0) / (x1 - x0)
        if y2 > TOLERANCE * (y1 + rise * (x2 - x1)):
            return True
    return False


def _verdict(*curves: Sequence[tuple[int, float]]) -> str:
    return "**bend upwards**" if any(map(bends, curves)) else "do not bend"


def _cpu(points: Sequence[Point]) -> list[tuple[int, float]]:
    return [(point.value, median(point.cpu)) for point in points]


def _memory(points: Sequence[Point]) -> list[tuple[int, float]]:
    return [(point.value, point.megabytes) for point in points]


def _first_calls(points: Sequence[Point]) -> list[tuple[int, float]]:
    """Of points with enough of them for the clock of the processes."""
    return [(point.value, point.first_call) for point in points if point.stage.users >= MEASURABLE]
