"""What is measured, of whom, and what came of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from .peers.peer import Peer
from .requests import Kind

WORKER: Final = "app in the worker"
"""In the worker library of the cloud, which needs Python 3.13."""
LOCAL: Final = "app, run locally"
"""In the local Functions host, as `dev.py run` serves it."""
PASSTHROUGH, UPSTREAM = "pass-through", "upstream"
_ALL: Final = (LOCAL, PASSTHROUGH, UPSTREAM)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    kind: Kind
    connections: int
    users: int = 100
    targets: tuple[str, ...] = _ALL
    takes: int = 1
    """How often it is measured in each round."""


PLAIN_1 = Scenario("plain, 1 connection", Kind.PLAIN, 1)
PLAIN_16 = Scenario("plain, 16 connections", Kind.PLAIN, 16)
PLAIN_64 = Scenario("plain, 64 connections", Kind.PLAIN, 64)
SLOW_64 = Scenario("plain, 64 connections, upstream takes 50 ms", Kind.SLOW, 64)
ONE_USER = Scenario("plain, 16 connections, 1 user", Kind.PLAIN, 16, 1, (LOCAL,))
STREAMS = Scenario("16 streams at full speed", Kind.STREAM, 16)
PACED = Scenario("50 paced streams", Kind.PACED, 50, takes=3)
"""More often than others: the slowest 1 % tell how the streams of a take fell together."""
SCENARIOS: Final = (PLAIN_16, ONE_USER, PLAIN_1, PLAIN_64, SLOW_64, STREAMS, PACED)


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 5
    seconds: float = 2.5
    warm_seconds: float = 2.0
    """Blocks of quota grow with a user's pace for some seconds: see docs/decisions/0007."""
    memory_answers: int = 100_000
    """The app serves at least so many before its memory is read; 0 leaves it at the rounds."""
    memory_seconds: float = 45
    """For what the rounds lack of them, at most."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario against one target in one round. CPU is in seconds, None where it cannot be read."""

    seconds: float
    answers: int
    chunks: int
    delays: list[float]
    cpu: float | None
    generator_cpu: float
    upstream_cpu: float | None
    table_calls: int


@dataclass(frozen=True, slots=True)
class Results:
    plan: Plan
    peers: Sequence[Peer] = ()
    with_worker: bool = False
    samples: dict[tuple[Scenario, str], list[Sample]] = field(default_factory=dict)
    first_answer_seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    """Wrong answers, by target and what was wrong."""
    memory: list[tuple[int, int]] = field(default_factory=list)
    """Responses of the app so far, and the bytes that it occupied then."""
    resident: dict[str, int] = field(default_factory=dict)
    """The bytes that each target occupied when it was last asked."""
    faults: dict[tuple[str, Scenario | None], str] = field(default_factory=dict)
    """Why a peer has no figures in a scenario; or, with None, in any."""

    @property
    def app(self) -> str:
        """This proxy, run in one of the two ways: both at once would share tables and cores."""
        return WORKER if self.with_worker else LOCAL

    @property
    def proxies(self) -> tuple[str, ...]:
        """Every target but the upstream, each a process of its own."""
        return (self.app, PASSTHROUGH, *(peer.name for peer in self.peers))

    def targets(self, scenario: Scenario) -> tuple[str, ...]:
        """The targets of a scenario, with or without a fault."""
        if PASSTHROUGH not in scenario.targets:
            return (self.app,)
        return (*self.proxies, UPSTREAM)

    def fault(self, name: str, scenario: Scenario) -> str | None:
        return self.faults.get((name, None)) or self.faults.get((name, scenario))
