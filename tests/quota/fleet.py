"""Several instances of one account on one loop, whose table operations wait until a test decides their outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from shared.core.errors import StoreUnavailable
from shared.quota.account import Account
from shared.quota.amounts import NOTHING, Amount
from shared.quota.exchange import Exchange
from shared.quota.ledger_row import Change, Key, LedgerRow
from shared.quota.pace import Pace
from tests.clock import Clock
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import no_sleep, turn_loop

KEY = Key("model", "amy:2026-01-31")


@dataclass
class Instance:
    exchange: Exchange
    clock: Clock
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    running: list[Amount] = field(default_factory=list)
    """What each running call holds."""

    @property
    def account(self) -> Account:
        return self.exchange.account

    @property
    def in_hand(self) -> Amount:
        """The part of `granted` that this instance has. A write under way belongs to no instance."""
        in_hand = self.account.spare.plus(self.account.spent).plus(sum_of(self.running))
        assert self.account.in_hand == in_hand
        return in_hand

    @property
    def at_stake(self) -> Amount:
        """What a crash now can lose of the user's quota."""
        doubt = self.account.doubt
        moving = doubt.returned.at_least(doubt.taken).plus(doubt.spent) if doubt else NOTHING
        return positive(self.in_hand).plus(positive(moving))


def sum_of(amounts: Iterable[Amount]) -> Amount:
    total = NOTHING
    for amount in amounts:
        total = total.plus(amount)
    return total


def positive(amount: Amount) -> Amount:
    return amount.at_least(NOTHING)


def owed(change: Change) -> Amount:
    return positive(NOTHING.minus(change.returned))


class Fleet:
    """Several instances that share one account, and what may be lost or owed between them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = FakeLedger(paused=True)
        self.instances: list[Instance] = []
        self.limit = NOTHING
        self.may_be_lost = NOTHING
        self.may_be_owed = NOTHING
        self.doubts: dict[str, tuple[Instance, Change]] = {}
        self.given_up = 0

    @property
    def row(self) -> LedgerRow:
        return self.store.row(KEY)

    def new_instance(self, now: float) -> Instance:
        clock = Clock(now)
        account = Account(KEY, Pace(now), now, limit=self.limit)
        return Instance(Exchange(account, self.store, clock, no_sleep), clock)

    def progress(self) -> tuple[int, int, int]:
        tasks = sum(len(instance.tasks) for instance in self.instances)
        return len(self.store.waiting), tasks, self.store.total_calls

    def run_until_blocked(self) -> None:
        """Run everything until it waits for the table."""
        for _ in range(50):
            before = self.progress()
            self.loop.run_until_complete(turn_loop())
            for instance in self.instances:
                instance.tasks = [task for task in instance.tasks if not self.has_ended(task)]
            if before == self.progress():
                return

    def has_ended(self, task: asyncio.Task[Any]) -> bool:
        if not task.done():
            return False
        if not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), StoreUnavailable), task.exception()
        return True

    def start(
        self, instance: Instance, work: Coroutine[Any, Any, None], outcomes: Iterable[Fault] = ()
    ) -> None:
        instance.tasks.append(self.loop.create_task(work))
        self.run_until_blocked()
        for outcome in outcomes:
            if self.store.waiting:
                self.resolve(-1, outcome)

    async def call(self, instance: Instance, wanted: Amount, least: Amount) -> None:
        held = await instance.exchange.hold(wanted, least)
        if held is not None:
            assert held.covers(least) and wanted.covers(held)
            instance.running.append(held)

    def resolve(self, which: int, outcome: Fault) -> None:
        operation = self.store.waiting.pop(which % len(self.store.waiting))
        for instance in self.instances:
            doubt = instance.account.doubt
            if doubt and doubt.row is operation.row and outcome not in {Fault.NONE, Fault.CONFLICT}:
                self.doubts[doubt.row.writer] = instance, doubt
        if not operation.outcome.done():
            operation.outcome.set_result(outcome)
        self.run_until_blocked()
        self.watch_doubts()

    def watch_doubts(self) -> None:
        """Remember a write whose response was lost until its instance has found it or given up."""
        for writer, (instance, doubt) in list(self.doubts.items()):
            if instance.account.doubt is not doubt:
                del self.doubts[writer]
                if instance.account.row.writer != writer:
                    self.given_up += 1
                    # Others wrote since. Either half of it may be lost, and a debt may be owed twice.
                    lost = positive(doubt.returned.at_least(doubt.taken))
                    self.may_be_lost = self.may_be_lost.plus(lost).plus(owed(doubt))

    def settle(self, instance: Instance, held: Amount, used: Amount) -> None:
        """Settle within the loop, because a debt starts a write."""

        async def end() -> None:
            instance.exchange.settle(held, used)

        self.loop.run_until_complete(end())
        self.run_until_blocked()
