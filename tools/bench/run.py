"""The run: every scenario against every target, in each of several rounds."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from math import nan
from operator import sub
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Final, NamedTuple

from tools import loops
from tools.azurite import Azurite
from tools.processes import ChildError, resident_bytes
from tools.tap import TableTap

from .load import Failed, Tally, running
from .results import Plan, Results, Sample
from .scenarios import PLAIN_16, SCENARIOS, Scenario, requests
from .targets import PASSTHROUGH, UPSTREAM, Program, Target, last_lines, our_program, seed, started

_QUIET: Final = 0.3
"""Part of a core. An idle target stays below it."""
_QUIET_SECONDS: Final = 5
"""The longest wait for a target to become idle."""


def run(plan: Plan, app: str, peers: Sequence[Program], left_out: Mapping[str, str]) -> Results:
    """Raises ChildError or Failed, but not for a fault of a peer: that is among the results."""
    results = Results(plan, app, tuple(peer.name for peer in peers), faults={**left_out})
    with (
        Azurite(None) as azurite,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=loops.new) as runner,
    ):
        runner.run(_run(results, azurite.port, Path(folder), peers))
    return results


async def _run(results: Results, tables_port: int, folder: Path, peers: Sequence[Program]) -> None:
    async with TableTap(tables_port).open() as tap, started(our_program(UPSTREAM), folder) as upstream:
        tables = tap.connection_string
        await seed(tables, upstream.port)
        programs = [our_program(results.app, tables), our_program(PASSTHROUGH), *peers]
        by_name = {program.name: program for program in programs}
        rounds = _Rounds(results, by_name, folder, tap, upstream, {UPSTREAM: upstream})
        async with rounds.all_started():
            for number in range(results.plan.rounds):
                print(f"round {number + 1} of {results.plan.rounds}", file=sys.stderr, flush=True)
                await rounds.start_each(number)
                await rounds.measure_all(number)
            await rounds.fill_memory()


class _Reading(NamedTuple):
    at: float
    cpu: float
    generator_cpu: float
    upstream_cpu: float
    table_calls: float


@dataclass(slots=True)
class _Rounds:
    """The targets, all of them running through all rounds."""

    results: Results
    programs: Mapping[str, Program]
    folder: Path
    tap: TableTap
    upstream: Target
    targets: dict[str, Target] = field(default_factory=dict)
    responses: int = 0
    """Of the app so far."""

    @asynccontextmanager
    async def all_started(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for name in self.results.proxies:
                with self._keeping_fault(name):
                    starting = started(self.programs[name], self.folder, self.upstream.port)
                    self.targets[name] = await stack.enter_async_context(starting)
            yield

    async def start_each(self, number: int) -> None:
        """One more start of each, beside those that serve, for the time to the first response."""
        for name in self._in_turn(self.results.proxies, number):
            with self._keeping_fault(name):
                async with started(self.programs[name], self.folder, self.upstream.port) as target:
                    seconds = target.first_response_seconds
                self.results.first_response_seconds.setdefault(name, []).append(seconds)

    async def measure_all(self, number: int) -> None:
        for scenario, take in ((one, take) for one in SCENARIOS for take in range(one.takes)):
            for name in self._in_turn(self.results.targets(scenario), number + take):
                with self._keeping_fault(name, f'in "{scenario.name}": '):
                    sample = await self._measure(scenario, self.targets[name])
                    self.results.samples.setdefault((scenario, name), []).append(sample)
                await becomes_quiet(self.targets[name])

    async def fill_memory(self) -> None:
        plan, until = self.results.plan, perf_counter() + self.results.plan.memory_seconds
        while self.responses < plan.memory_responses and perf_counter() < until:
            await self._measure(PLAIN_16, self.targets[self.results.app])

    def _in_turn(self, names: tuple[str, ...], number: int) -> list[str]:
        """Another begins in each round: each is disturbed in turn by the one before."""
        first = number % len(names)
        return [name for name in names[first:] + names[:first] if name not in self.results.faults]

    @contextmanager
    def _keeping_fault(self, name: str, where: str = "") -> Iterator[None]:
        """A peer takes no further part after a fault. One of our own ends the run."""
        try:
            yield
        except (ChildError, Failed, OSError) as error:
            if name not in self.results.peers:
                raise
            log = f". Its last lines:\n{last_lines(self.targets[name].log)}" if where else ""
            self.results.faults[name] = f"{where}{error}{log}"

    async def _measure(self, scenario: Scenario, target: Target) -> Sample:
        plan = self.results.plan
        async with running(target.port, scenario, requests(scenario, target.key)) as tally:
            await asyncio.sleep(plan.warm_seconds)
            warm_responses = tally.responses
            tally.reset()
            before = self._read(target)
            await asyncio.sleep(plan.seconds)
            after = self._read(target)
            sample = _sample(before, after, tally)
            responses = warm_responses + tally.responses
        if target.name in self.results.peers and not sample.rate:
            raise Failed(f"no response in {plan.seconds:g} s")
        for failure, count in tally.failures.items():
            self.results.failures[f"{target.name}: {failure}"] += count
        if memory := resident_bytes(target.pid):
            self.results.resident[target.name] = memory
            if target.name == self.results.app:
                self.responses += responses
                self.results.memory.append((self.responses, memory))
        return sample

    def _read(self, target: Target) -> _Reading:
        own, upstream = os.times(), self.upstream.cpu_seconds()
        cpu = nan if target.name == UPSTREAM else target.cpu_seconds()
        return _Reading(perf_counter(), cpu, own.user + own.system, upstream, len(self.tap.requests))


def _sample(before: _Reading, after: _Reading, tally: Tally) -> Sample:
    used, delays = _Reading(*map(sub, after, before)), tally.delays
    done = len(delays) or tally.chunks or tally.responses
    percents = quantiles(delays, n=100, method="inclusive") if len(delays) > 1 else [nan] * 99
    return Sample(
        rate=done / used.at,
        cpu=used.cpu / (done or nan) * 1000,
        p50=percents[49] * 1000,
        p99=percents[98] * 1000,
        table_calls=used.table_calls / (tally.responses or nan),
        busy=used.cpu / used.at,
        generator_busy=used.generator_cpu / used.at,
        upstream_busy=used.upstream_cpu / used.at,
    )


async def becomes_quiet(
    target: Target, seconds: float = _QUIET_SECONDS, *, share: float = _QUIET, within: float = 0.1
) -> None:
    """Until it has ended its work for closed connections, which would disturb the next target.

    Then it takes less than `share` of a core `within` so many seconds. Waits at most for `seconds`.
    """
    until, before = perf_counter() + seconds, target.cpu_seconds()
    while perf_counter() < until:
        await asyncio.sleep(within)
        after = target.cpu_seconds()
        if not after - before >= share * within:  # true for nan too
            return
        before = after
