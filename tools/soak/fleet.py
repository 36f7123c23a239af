"""The instances, what is sent to each, and the faults: kills, failing tables, failing deployments."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from random import Random
from time import monotonic

from shared.quota.amounts import Amount
from tools.attack.stage import Instance, Stage
from tools.simulator import Behaviour, CutStream, Failure, RateLimited, ResetBeforeHeaders, Slow, StreamError
from tools.tap import TableTap

from .accounts import Account

BLOCK_SECONDS, UNCOUNTED_SECONDS = 10.0, 17.0
"""A kill loses a block (docs/quota.md), and the counts since the last writes (docs/metering.md): those of
twice PROXY_USAGE_FLUSH_SECONDS, the time of the writes, and what runs on after its client left."""
MOST_HELD, MOST_USED = Amount(1, 340, 1200), Amount(1, 100, 600)
"""Of a call of the load: at the most, and in the mean of several."""
MOST_OVER = Amount(0, 160, 700)
"""By how much the bound of a call that was cut or left is above what was billed."""
FAULTS: tuple[Behaviour, ...] = (
    RateLimited(retry_after=1),
    Failure(500),
    Failure(503),
    ResetBeforeHeaders(),
    CutStream(after=8),
    CutStream(after=20, cut="reset"),
    StreamError(after=8),
    Slow(headers_seconds=3),
)
_KILL_SECONDS, _OUTAGE_SECONDS, _FAULT_SECONDS = 150.0, 240.0, 1.0
"""The mean time between two."""


@dataclass(slots=True)
class Sent:
    account: Account
    instance: Instance
    user: str
    began_at: float = field(default_factory=monotonic)
    ended_at: float | None = None
    is_served: bool = True
    """False once it is refused."""


@dataclass(slots=True)
class Fleet:
    stage: Stage
    tap: TableTap
    stack: AsyncExitStack
    random: Random
    seconds: float
    ends_at: float = 0.0
    instances: list[Instance] = field(default_factory=list)
    """The first one is never killed: its memory is measured."""
    killed: set[int] = field(default_factory=set)
    """By process id."""
    sent: deque[Sent] = field(default_factory=partial(deque, maxlen=20_000))
    done: Counter[str] = field(default_factory=Counter)
    tables_failed_at: float = -1000.0
    tables_healed_at: float = -1000.0

    async def start(self) -> None:
        self.instances.append(await asyncio.to_thread(self.stack.enter_context, self.stage.instance()))

    async def make_faults(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._often(_KILL_SECONDS, self._kill))
            group.create_task(self._often(_OUTAGE_SECONDS, self._fail_tables))
            group.create_task(self._often(_FAULT_SECONDS, self._fail_upstream))

    async def _often(self, mean_seconds: float, fault: Callable[[], Awaitable[None]]) -> None:
        mean = min(mean_seconds, self.seconds / 4)
        while True:
            pause = mean * self.random.uniform(0.5, 1.5)
            if monotonic() + pause > self.ends_at:
                return
            await asyncio.sleep(pause)
            await fault()

    async def _kill(self) -> None:
        victim = self.instances.pop(self.random.randrange(1, len(self.instances)))
        self.killed.add(victim.child.pid)
        self.done["kills"] += 1
        now = monotonic()
        # While the tables fail, nothing is given back or written.
        since = self.tables_failed_at if self.tables_failed(UNCOUNTED_SECONDS) else now
        self._allow_block(victim, since, now, idle_seconds=BLOCK_SECONDS)
        for sent in self._sent_to(victim, since - UNCOUNTED_SECONDS, now):
            sent.account.lose(MOST_USED.times(sent.is_served))
        await asyncio.to_thread(victim.child.kill)
        await asyncio.sleep(self.random.uniform(0, 3))
        await self.start()

    async def _fail_tables(self) -> None:
        refuses = self.random.random() < 0.5
        began = self.tables_failed_at = monotonic()
        outage = asyncio.sleep(min(self.random.uniform(5, 20), self.seconds / 4))
        if refuses:
            async with self.tap.refusing():
                await outage
        else:
            self.tap.passing.clear()
            self.tap.returning.clear()
            await outage
            self.tap.passing.set()
            self.tap.returning.set()
        self.tap.requests.clear()  # a long soak has no use for them
        self.tables_healed_at = monotonic()
        self.done["refused tables" if refuses else "silent tables"] += 1
        for instance in self.instances:  # a write whose response is lost can lose a block
            until = began + 1 if refuses else self.tables_healed_at
            self._allow_block(instance, began, until, idle_seconds=0)

    async def _fail_upstream(self) -> None:
        deployment = self.random.choice(list(self.stage.deployments))
        self.stage.simulator.behave(deployment, self.random.choice(FAULTS))
        self.done["faults of deployments"] += 1

    def tables_failed(self, within_seconds: float) -> bool:
        """Whether the tables fail, or did a short time ago."""
        fail = self.tables_failed_at > self.tables_healed_at
        return fail or monotonic() - self.tables_healed_at < within_seconds

    def _sent_to(self, instance: Instance, since: float, until: float) -> list[Sent]:
        """The calls that ran at some moment between the two."""
        return [
            sent
            for sent in self.sent
            if sent.instance is instance and sent.began_at < until and (sent.ended_at or until) >= since
        ]

    def _allow_block(self, instance: Instance, since: float, until: float, *, idle_seconds: float) -> None:
        """What was used in ten seconds or a thousandth of the limit, and what the running calls hold.

        Of the accounts with a call between the two, or at most `idle_seconds` before.
        """
        accounts = {id(sent.account) for sent in self._sent_to(instance, since - idle_seconds, until)}
        lately = self._sent_to(instance, since - BLOCK_SECONDS, until)
        used = [sent.account for sent in lately if sent.is_served and id(sent.account) in accounts]
        held = {sent.user: sent.account for sent in self._sent_to(instance, since, until)}.values()
        for account in used:
            account.lose(MOST_USED)
        for account in held:
            account.lose(MOST_HELD)
        for account in {id(account): account for account in (*used, *held)}.values():
            account.lose(account.limit.divided_by(1000))
