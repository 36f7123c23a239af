"""The plan of a run, and its figures."""

from collections import Counter
from dataclasses import dataclass, field
from math import isnan

from .scenarios import Scenario
from .targets import PASSTHROUGH, UPSTREAM


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 5
    seconds: float = 2.5
    warm_seconds: float = 2.0
    """Blocks of quota grow with a user's pace for some seconds: see docs/decisions/0007."""
    memory_responses: int = 100_000
    """The app sends at least this many before its memory is read; 0 leaves it at the rounds."""
    memory_seconds: float = 45
    """The longest time for the responses that the rounds lack."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario against one target in one take. A figure that does not apply is not a number (nan)."""

    rate: float
    """Chunks or requests a second."""
    cpu: float
    """Seconds for 1,000 of them."""
    p50: float
    p99: float
    """Milliseconds."""
    table_calls: float
    """For one request."""
    busy: float
    generator_busy: float
    upstream_busy: float
    """Parts of one core."""


@dataclass(frozen=True, slots=True)
class Results:
    plan: Plan
    app: str
    """This proxy in the worker or in the local host: both at once would share tables and cores."""
    peers: tuple[str, ...] = ()
    samples: dict[tuple[Scenario, str], list[Sample]] = field(default_factory=dict)
    first_response_seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    """Wrong responses, by target and failure."""
    memory: list[tuple[int, int]] = field(default_factory=list)
    """Responses of the app so far, and the bytes that it occupied then."""
    resident: dict[str, int] = field(default_factory=dict)
    """The bytes that each target occupied at its last sample."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why a peer was left out, or for which fault it took no further part."""

    @property
    def proxies(self) -> tuple[str, ...]:
        return (self.app, PASSTHROUGH, *self.peers)

    def targets(self, scenario: Scenario) -> tuple[str, ...]:
        return (self.app,) if scenario.app_only else (*self.proxies, UPSTREAM)

    def values(self, scenario: Scenario, name: str, figure: str) -> list[float]:
        """A figure is the name of a field of `Sample`. One value for each take that has it."""
        return [value for value in self._all(scenario, name, figure) if not isnan(value)]

    def ratios(self, scenario: Scenario, name: str, figure: str, to: str = PASSTHROUGH) -> list[float]:
        """To the pass-through or another target, each within its take."""
        return [one / other for one, other in self.pairs(scenario, name, figure, to) if one and other]

    def pairs(
        self, scenario: Scenario, name: str, figure: str, to: str = PASSTHROUGH
    ) -> list[tuple[float, float]]:
        """The figure and that of the other target, for each take that has both."""
        both = zip(self._all(scenario, name, figure), self._all(scenario, to, figure), strict=False)
        return [pair for pair in both if not isnan(sum(pair))]

    def _all(self, scenario: Scenario, name: str, figure: str) -> list[float]:
        return [getattr(sample, figure) for sample in self.samples.get((scenario, name), [])]
