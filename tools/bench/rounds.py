"""The run: every scenario against every target, in each of several rounds."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

from tools.azurite import ACCOUNT, KEY, Azurite

from . import load, loops, targets
from .measure import cpu_seconds, resident_bytes
from .requests import Kind, requests
from .tap import Tap, tapped
from .targets import Target

APP, PASSTHROUGH, UPSTREAM = "app", "pass-through", "upstream"
_ALL: Final = (APP, PASSTHROUGH, UPSTREAM)


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    kind: Kind
    connections: int
    users: int = 100
    targets: tuple[str, ...] = _ALL


PLAIN_1 = Scenario("plain, 1 connection", Kind.PLAIN, 1)
PLAIN_16 = Scenario("plain, 16 connections", Kind.PLAIN, 16)
PLAIN_64 = Scenario("plain, 64 connections", Kind.PLAIN, 64)
ONE_USER = Scenario("plain, 16 connections, 1 user", Kind.PLAIN, 16, 1, (APP,))
STREAMS = Scenario("16 streams at full speed", Kind.STREAM, 16)
PACED = Scenario("50 paced streams", Kind.PACED, 50)
SCENARIOS: Final = (PLAIN_16, ONE_USER, PLAIN_1, PLAIN_64, STREAMS, PACED)


@dataclass(frozen=True, slots=True)
class Plan:
    rounds: int = 5
    seconds: float = 1.5
    warm_seconds: float = 0.5
    memory_answers: int = 100_000
    """The app answers at least so many before its memory is told; 0 leaves it at the rounds."""
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
    samples: dict[tuple[Scenario, str], list[Sample]] = field(default_factory=dict)
    first_answer_seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    """Wrong answers, by target and what was wrong."""
    memory: list[tuple[int, int]] = field(default_factory=list)
    """Answers of the app so far, and the bytes that it occupied then."""


def run(plan: Plan, say: Callable[[str], None]) -> Results:
    """Raises ChildError or load.Failed."""
    with (
        Azurite(None) as azurite,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=loops.new) as runner,
    ):
        return runner.run(_run(plan, azurite.port, Path(folder), say))


async def _run(plan: Plan, tables_port: int, folder: Path, say: Callable[[str], None]) -> Results:
    results = Results(plan)
    async with targets.mock(folder) as upstream, tapped(tables_port) as tap:
        tables = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"TableEndpoint=http://127.0.0.1:{tap.port}/{ACCOUNT};"
        )
        await targets.seed(tables, upstream.port)
        async with _Stage.opened(results, upstream, tap, folder, tables) as stage:
            for number in range(plan.rounds):
                say(f"round {number + 1} of {plan.rounds}")
                await stage.starts(number)
                await stage.round(number)
            await stage.fill_memory()
    return results


class _Stage:
    """The targets, all of them running through all rounds, and what was measured of them."""

    def __init__(self, results: Results, upstream: Target, tap: Tap, folder: Path, tables: str) -> None:
        self._results = results
        self._tap = tap
        self._folder = folder
        self._tables = tables
        self._upstream = upstream
        self._targets = {UPSTREAM: upstream}
        self._answers = 0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, results: Results, upstream: Target, tap: Tap, folder: Path, tables: str
    ) -> AsyncIterator["_Stage"]:
        stage = cls(results, upstream, tap, folder, tables)
        async with AsyncExitStack() as stack:
            for name in (APP, PASSTHROUGH):
                stage._targets[name] = await stack.enter_async_context(stage._started(name))
            yield stage

    def _started(self, name: str) -> AbstractAsyncContextManager[Target]:
        if name == APP:
            return targets.app(self._folder, self._tables)
        return targets.passthrough(self._folder, self._upstream.port)

    async def starts(self, number: int) -> None:
        """One start of each, beside those that serve."""
        for name in _rotated((APP, PASSTHROUGH), number):
            async with self._started(name) as target:
                self._results.first_answer_seconds.setdefault(name, []).append(target.first_answer_seconds)

    async def round(self, number: int) -> None:
        for scenario in SCENARIOS:
            for name in _rotated(scenario.targets, number):
                sample = await self._sample(scenario, self._targets[name])
                self._results.samples.setdefault((scenario, name), []).append(sample)

    async def fill_memory(self) -> None:
        plan, until = self._results.plan, perf_counter() + self._results.plan.memory_seconds
        while self._answers < plan.memory_answers and perf_counter() < until:
            await self._sample(PLAIN_16, self._targets[APP])

    async def _sample(self, scenario: Scenario, target: Target) -> Sample:
        plan, sent = self._results.plan, requests(scenario.kind, users=scenario.users)
        paced = scenario.kind is Kind.PACED
        async with load.running(target.port, sent, scenario.connections, paced=paced) as tally:
            await asyncio.sleep(plan.warm_seconds)
            warm_answers = tally.answers
            tally.reset()
            before = self._read(target)
            await asyncio.sleep(plan.seconds)
            after = self._read(target)
            sample = _sample(before, after, tally)
        for what, count in tally.failures.items():
            self._results.failures[f"{target.name}: {what}"] += count
        if target.name == APP:
            self._answers += warm_answers + sample.answers
            if (memory := resident_bytes(target.pid)) is not None:
                self._results.memory.append((self._answers, memory))
        return sample

    def _read(self, target: Target) -> "_Reading":
        own = os.times()
        return _Reading(
            perf_counter(),
            cpu_seconds(target.pid),
            own.user + own.system,
            cpu_seconds(self._upstream.pid),
            self._tap.requests,
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    cpu: float | None
    generator_cpu: float
    upstream_cpu: float | None
    table_calls: int


def _sample(before: _Reading, after: _Reading, tally: load.Tally) -> Sample:
    return Sample(
        after.at - before.at,
        tally.answers,
        len(tally.delays) or tally.chunks,  # paced streams last longer than the sample
        tally.delays,
        _used(before.cpu, after.cpu),
        after.generator_cpu - before.generator_cpu,
        _used(before.upstream_cpu, after.upstream_cpu),
        after.table_calls - before.table_calls,
    )


def _used(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _rotated(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Nobody is always the first: what the one before leaves behind falls on each in turn."""
    first = number % len(names)
    return names[first:] + names[:first]
