"""The ledger against a model: many instances, every order of events, every fault of the table.

At all times the row's `granted` covers what the row says was used, and what all instances have in hand. So
nothing is given away. Anything that is missing at the end was lost to a crash, or to a write whose outcome
cannot be known.

To try more orders: LEDGER_EXAMPLES=5000 python3 dev.py test tests/quota/test_ledger_model.py
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.quota.account import REMEMBERED_SECONDS
from shared.quota.amounts import NOTHING, UNLIMITED, Amount
from tests.fake_ledger import Fault
from tests.quota.fleet import Fleet, positive, sum_of
from tests.quota.helpers import turn_loop

pytestmark = pytest.mark.one_python

INSTANCES = 3
REQUESTS = st.sampled_from([1, 5, 40, 200, 0, UNLIMITED])
TOKENS = st.sampled_from([30, 3000, 20_000, 0, UNLIMITED])
COST = st.sampled_from([UNLIMITED, 70, 9000, 2_000_000, 0])
LIMITS = st.builds(Amount, REQUESTS, TOKENS, COST)
WANTED = st.builds(Amount, st.just(1), st.integers(1, 300), st.integers(0, 3000))
USED = st.builds(Amount, st.just(1), st.integers(0, 600), st.integers(0, 6000))
NUMBERS = st.integers(0, INSTANCES - 1)
OUTCOMES = st.lists(st.sampled_from([Fault.NONE, Fault.NONE, Fault.NONE, *Fault]), max_size=5)
"""The outcomes of the next operations; later ones wait."""


class Machine(Fleet, RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.highest_limit = NOTHING
        self.admitted = NOTHING
        """What calls used that were forwarded and ended, as the upstream reported it."""
        self.crashed = NOTHING
        """What calls held that ran on instances that crashed."""
        self.overshoot = NOTHING
        """What calls used beyond their holds."""

    @initialize(limit=LIMITS)
    def begin(self, limit: Amount) -> None:
        self.limit = self.highest_limit = limit
        # No two clocks agree.
        self.instances = [self.new_instance(60.0 * number) for number in range(INSTANCES)]

    # The events.

    @rule(number=NUMBERS, wanted=WANTED, least=WANTED, calls=st.integers(1, 3), outcomes=OUTCOMES)
    def hold(self, number: int, wanted: Amount, least: Amount, calls: int, outcomes: list[Fault]) -> None:
        instance = self.instances[number]
        for left in reversed(range(calls)):
            call = self.call(instance, wanted, least.at_most(wanted))
            self.start(instance, call, () if left else outcomes)

    @precondition(lambda self: any(instance.running for instance in self.instances))
    @rule(data=st.data(), used=USED, fails=st.booleans())
    def end_call(self, data: st.DataObject, used: Amount, fails: bool) -> None:
        instance = data.draw(st.sampled_from([one for one in self.instances if one.running]))
        held = instance.running.pop(data.draw(st.integers(0, len(instance.running) - 1)))
        if fails:
            self.settle(instance, held, NOTHING)
        else:
            self.settle(instance, held, used)
            self.admitted = self.admitted.plus(used)
            self.overshoot = self.overshoot.plus(positive(used.minus(held)))

    @precondition(lambda self: any(instance.running for instance in self.instances))
    @rule(data=st.data(), most=WANTED)
    def reduce_call(self, data: st.DataObject, most: Amount) -> None:
        """The prompt of a running call was counted, so it holds less."""
        instance = data.draw(st.sampled_from([one for one in self.instances if one.running]))
        which = data.draw(st.integers(0, len(instance.running) - 1))
        before = instance.running[which]
        held = instance.running[which] = instance.account.reduce(before, most)
        assert held == before.at_most(most)

    @rule(number=NUMBERS, outcomes=OUTCOMES)
    def give_back(self, number: int, outcomes: list[Fault]) -> None:
        self.start(self.instances[number], self.instances[number].exchange.give_back(), outcomes)

    @rule(number=NUMBERS)
    def refresh(self, number: int) -> None:
        self.start(self.instances[number], self.instances[number].exchange.refresh())

    @precondition(lambda self: self.store.waiting)
    @rule()
    def complete_waiting_operations(self) -> None:
        for _ in range(len(self.store.waiting)):
            self.resolve(0, Fault.NONE)

    @precondition(lambda self: self.store.waiting)
    @rule(which=st.integers(0, 20), outcome=st.sampled_from(Fault))
    def complete_one_operation(self, which: int, outcome: Fault) -> None:
        self.resolve(which, outcome)

    @precondition(lambda self: self.store.waiting)
    @rule()
    def outage(self) -> None:
        for _ in range(len(self.store.waiting)):
            self.resolve(0, Fault.BEFORE)

    @precondition(lambda self: self.store.late)
    @rule(data=st.data())
    def deliver_late_write(self, data: st.DataObject) -> None:
        self.store.deliver(data.draw(st.integers(0, len(self.store.late) - 1)))

    @precondition(lambda self: any(instance.tasks for instance in self.instances))
    @rule(data=st.data())
    def client_disconnects(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from([one for one in self.instances if one.tasks]))
        instance.tasks[data.draw(st.integers(0, len(instance.tasks) - 1))].cancel()
        self.run_until_blocked()

    @rule(number=NUMBERS, seconds=st.sampled_from([0.3, REMEMBERED_SECONDS, 60.0]))
    def time_passes(self, number: int, seconds: float) -> None:
        self.instances[number].clock.seconds += seconds

    @rule(limit=LIMITS)
    def change_limit(self, limit: Amount) -> None:
        self.limit = limit
        self.highest_limit = self.highest_limit.at_least(limit)

    @rule(number=NUMBERS)
    def notice_limit(self, number: int) -> None:
        self.instances[number].account.limit = self.limit

    @rule(number=NUMBERS)
    def crash(self, number: int) -> None:
        """A write that was sent is still under way, and arrives late or never."""
        instance = self.instances[number]
        account, running = instance.account, instance.running
        self.doubts = {writer: doubt for writer, doubt in self.doubts.items() if doubt[0] is not instance}
        self.may_be_lost = self.may_be_lost.plus(instance.at_stake)
        # Its calls reached the upstream, and what they cost beyond their holds is never reported.
        self.crashed = self.crashed.plus(sum_of(running))
        self.may_be_owed = self.may_be_owed.plus(positive(NOTHING.minus(account.spare)))
        operation = instance.exchange._running
        for task in [*instance.tasks, *([operation] if operation else [])]:
            task.cancel()
        self.loop.run_until_complete(turn_loop())
        self.store.waiting = [waiting for waiting in self.store.waiting if not waiting.outcome.done()]
        self.instances[number] = self.new_instance(instance.clock.seconds)

    # The rules that hold at all times.

    @invariant()
    def granted_covers_what_was_used_and_what_is_in_hand(self) -> None:
        in_hand = sum_of(instance.in_hand for instance in self.instances)
        assert self.row.granted.covers(self.row.used.plus(in_hand)), (self.row, in_hand)

    @invariant()
    def granted_requests_stay_within_the_limit(self) -> None:
        if self.highest_limit.requests < UNLIMITED:
            assert self.row.granted.requests <= self.highest_limit.requests

    @invariant()
    def calls_stay_within_the_limit(self) -> None:
        running = sum_of(held for instance in self.instances for held in instance.running)
        gone = self.admitted.plus(self.crashed).plus(running)
        if self.highest_limit.requests < UNLIMITED:
            assert gone.requests <= self.highest_limit.requests
        if self.highest_limit.tokens < UNLIMITED:
            assert gone.tokens <= self.highest_limit.tokens + self.overshoot.tokens
        if self.highest_limit.cost < UNLIMITED:
            assert gone.cost <= self.highest_limit.cost + self.overshoot.cost

    @invariant()
    def a_write_grants_only_within_the_limit(self) -> None:
        for before, after in self.store.history:
            assert after.used.covers(before.used) and after.granted.covers(after.used)
            if after.granted.requests > before.granted.requests and self.highest_limit.requests < UNLIMITED:
                assert after.granted.requests <= self.highest_limit.requests
        self.store.history.clear()

    @invariant()
    def no_figure_is_below_zero_or_above_the_limit(self) -> None:
        for account in (instance.account for instance in self.instances):
            assert account.remaining.covers(NOTHING) and account.limit.covers(account.remaining)
            assert account.used.covers(NOTHING)

    def teardown(self) -> None:
        """The table responds again, every call ends, and everything is given back: the books must balance."""
        try:
            if self.instances:
                self.balance()
        finally:
            self.loop.run_until_complete(_cancel_all())
            self.loop.close()

    def complete_all(self) -> None:
        while self.store.late or self.store.waiting:
            if self.store.late:
                self.store.deliver()
            else:
                self.resolve(0, Fault.NONE)

    def balance(self) -> None:
        self.complete_all()
        for _ in range(3):
            for instance in self.instances:
                for held in instance.running:
                    self.settle(instance, held, held)
                    self.admitted = self.admitted.plus(held)
                instance.running.clear()
                self.start(instance, instance.exchange.give_back())
                self.complete_all()
        assert all(one.exchange.can_be_forgotten and not one.tasks for one in self.instances)
        lost = self.row.granted.minus(self.admitted.plus(self.crashed))
        assert lost.plus(self.may_be_owed).covers(NOTHING), "given away"
        assert self.may_be_lost.covers(lost), "lost more than crashes and doubts can explain"
        if not self.given_up and self.may_be_lost == self.may_be_owed == self.crashed == NOTHING:
            assert self.row.granted == self.row.used == self.admitted


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


TestLedger = Machine.TestCase
TestLedger.settings = settings(
    max_examples=int(os.environ.get("LEDGER_EXAMPLES", "300")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
