"""The run: every scenario against every target, in each of several rounds."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

from tools.azurite import ACCOUNT, KEY, Azurite
from tools.official_runtime import AVAILABLE
from tools.processes import ChildError

from . import load, loops, targets
from .measure import cpu_seconds, resident_bytes
from .peers.peer import Peer
from .requests import Kind, requests
from .results import (
    LOCAL,
    PASSTHROUGH,
    PLAIN_16,
    SCENARIOS,
    UPSTREAM,
    WORKER,
    Plan,
    Results,
    Sample,
    Scenario,
)
from .tap import Tap, tapped
from .targets import Target

_QUIET: Final = 0.3
"""Of a core: what a target that is asked for nothing stays below."""
_QUIET_SECONDS: Final = 5
"""The longest that one is waited for."""


def run(
    plan: Plan, say: Callable[[str], None], peers: Sequence[Peer] = (), *, with_worker: bool = AVAILABLE
) -> Results:
    """Raises ChildError or load.Failed, but not for what a peer does: that is among the results."""
    with (
        Azurite(None) as azurite,
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=loops.new) as runner,
    ):
        return runner.run(_run(Results(plan, peers, with_worker), azurite.port, Path(folder), say))


async def _run(results: Results, tables_port: int, folder: Path, say: Callable[[str], None]) -> Results:
    plan = results.plan
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
        self._peers = {peer.name: peer for peer in results.peers}
        self._answers = 0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, results: Results, upstream: Target, tap: Tap, folder: Path, tables: str
    ) -> AsyncIterator["_Stage"]:
        stage = cls(results, upstream, tap, folder, tables)
        async with AsyncExitStack() as stack:
            for name in results.proxies:
                with stage._faults_of(name):
                    stage._targets[name] = await stack.enter_async_context(stage._started(name))
            yield stage

    def _started(self, name: str) -> AbstractAsyncContextManager[Target]:
        if name == LOCAL:
            return targets.local(self._folder, self._tables)
        if name == WORKER:
            return targets.worker(self._folder, self._tables)
        if name == PASSTHROUGH:
            return targets.passthrough(self._folder, self._upstream.port)
        return targets.peer(self._peers[name], self._folder, self._upstream.port)

    async def starts(self, number: int) -> None:
        """One start of each, beside those that serve."""
        for name in _rotated(self._results.proxies, number):
            if (name, None) in self._results.faults:
                continue
            with self._faults_of(name):
                async with self._started(name) as target:
                    seconds = target.first_answer_seconds
                self._results.first_answer_seconds.setdefault(name, []).append(seconds)

    async def round(self, number: int) -> None:
        for scenario, take in ((one, take) for one in SCENARIOS for take in range(one.takes)):
            for name in _rotated(self._results.targets(scenario), number + take):
                if self._results.fault(name, scenario):
                    continue
                target = self._targets[name]
                with self._faults_of(name, scenario):
                    sample = await self._sample(scenario, target)
                    self._results.samples.setdefault((scenario, name), []).append(sample)
                await _quiet(target)

    @contextmanager
    def _faults_of(self, name: str, scenario: Scenario | None = None) -> Iterator[None]:
        """Keeps what a peer does wrong; our own may do nothing wrong."""
        try:
            yield
        except (ChildError, load.Failed, OSError) as error:
            if name not in self._peers:
                raise
            told = str(error)
            if scenario:
                told = f"{told[:1000]}; its last lines:\n{self._targets[name].last_lines()}"
            self._results.faults[name, scenario] = told

    async def fill_memory(self) -> None:
        plan, until = self._results.plan, perf_counter() + self._results.plan.memory_seconds
        while self._answers < plan.memory_answers and perf_counter() < until:
            await self._sample(PLAIN_16, self._targets[self._results.app])

    async def _sample(self, scenario: Scenario, target: Target) -> Sample:
        plan = self._results.plan
        sent = requests(scenario.kind, users=scenario.users, credential=target.credential)
        paced = scenario.kind is Kind.PACED
        async with load.running(target.port, sent, scenario.connections, paced=paced) as tally:
            await asyncio.sleep(plan.warm_seconds)
            warm_answers = tally.answers
            tally.reset()
            before = self._read(target)
            await asyncio.sleep(plan.seconds)
            after = self._read(target)
            sample = _sample(before, after, tally)
        if target.name in self._peers and not (sample.chunks or sample.answers):
            raise load.Failed(f"{target.name} gave no whole answer in {plan.seconds:g} s")
        for what, count in tally.failures.items():
            self._results.failures[f"{target.name}: {what}"] += count
        self._keep_memory(target, warm_answers + sample.answers)
        return sample

    def _keep_memory(self, target: Target, answers: int) -> None:
        if (memory := resident_bytes(target.pid)) is None:
            return
        self._results.resident[target.name] = memory
        if target.name == self._results.app:
            self._answers += answers
            self._results.memory.append((self._answers, memory))

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
        len(tally.delays) or tally.arrived(),  # paced streams last longer than the sample
        tally.delays,
        _used(before.cpu, after.cpu),
        after.generator_cpu - before.generator_cpu,
        _used(before.upstream_cpu, after.upstream_cpu),
        after.table_calls - before.table_calls,
    )


async def _quiet(target: Target) -> None:
    """Waits until what was begun for connections that are closed now no longer disturbs the next target."""
    until, before = perf_counter() + _QUIET_SECONDS, cpu_seconds(target.pid)
    while before is not None and perf_counter() < until:
        await asyncio.sleep(0.1)
        after = cpu_seconds(target.pid)
        if after is None or after - before < _QUIET * 0.1:
            return
        before = after


def _used(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _rotated(names: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Nobody is always the first: what the one before leaves behind falls on each in turn."""
    first = number % len(names)
    return names[first:] + names[:first]
