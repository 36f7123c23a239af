"""The ledger against a model: many instances, every order of events, every fault of the table.

What must hold at all times is the law of conservation: the row's `granted` covers what the row says was
used, and all that instances have in hand. So nothing is given away; and what is missing at the end was
lost to a crash, or to a write of which nobody can say whether it arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.core.errors import StoreUnavailable
from shared.quota.amounts import ENDLESS, NOTHING, Amount
from shared.quota.blocks import FASTEST, QUICK_SECONDS, SLOW_SECONDS
from shared.quota.ledger import REMEMBERED_SECONDS, Account, Held
from shared.quota.ledger_row import Key, Row
from tests.fake_ledger import FakeLedger, Fault

KEY = Key("model", "amy:2026-01-31")
BLOCK = Amount(4, 400)
INSTANCES = 3
REQUESTS = st.sampled_from([1, 5, 40, 200, 0, ENDLESS])
TOKENS = st.sampled_from([30, 3000, 20_000, 0, ENDLESS])
LIMITS = st.builds(Amount, REQUESTS, TOKENS)
WANTED = st.integers(1, 300)
USED = st.integers(0, 600)
FATES = st.lists(st.sampled_from([Fault.NONE, Fault.NONE, Fault.NONE, *Fault]), max_size=5)
"""What becomes of the next operations at once; those after them wait."""


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Instance:
    account: Account
    clock: Clock
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    running: list[Held] = field(default_factory=list)

    @property
    def in_hand(self) -> Amount:
        """What of `granted` is with this instance; a write under way is with nobody."""
        drawn = sum_of(held.drawn for held in self.running)
        return self.account.spare.plus(self.account.spent).plus(drawn)

    @property
    def at_stake(self) -> Amount:
        """What a crash now can lose of the user's quota."""
        doubt = self.account._doubt
        moving = doubt.returned.at_least(doubt.taken).plus(doubt.spent) if doubt else NOTHING
        return self.in_hand.at_least(NOTHING).plus(moving.at_least(NOTHING))


def sum_of(amounts: Any) -> Amount:
    total = NOTHING
    for amount in amounts:
        total = total.plus(amount)
    return total


def positive(amount: Amount) -> Amount:
    return amount.at_least(NOTHING)


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = FakeLedger(holding=True)
        self.instances: list[Instance] = []
        self.limit = NOTHING
        self.highest = NOTHING
        """The highest limit that there was."""
        self.changed = False
        self.admitted = NOTHING
        """What was forwarded and ended, as the upstream reported it."""
        self.crashed = NOTHING
        """What was under way on instances that crashed."""
        self.overshoot = 0
        """Tokens that answers cost beyond what was held for them."""
        self.may_be_lost = NOTHING
        self.may_be_owed = NOTHING
        self.doubts: dict[str, tuple[Instance, Any]] = {}
        self.given_up = 0

    # What the machine is made of.

    def new_instance(self) -> Instance:
        clock = Clock(60.0 * len(self.instances))  # no two clocks agree
        account = Account(KEY, self.store, BLOCK, clock, no_sleep)
        account.limit = self.limit
        return Instance(account, clock)

    def settle_down(self) -> None:
        """Run everything until it waits for the table."""
        for _ in range(50):
            before = (len(self.store.held), sum(len(one.tasks) for one in self.instances), self.store.total)
            self.loop.run_until_complete(_some_turns())
            for one in self.instances:
                one.tasks = [task for task in one.tasks if not self.has_ended(task)]
            if before == (len(self.store.held), sum(len(o.tasks) for o in self.instances), self.store.total):
                return

    def has_ended(self, task: asyncio.Task[Any]) -> bool:
        if not task.done():
            return False
        if not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), StoreUnavailable), task.exception()
        return True

    def begin(self, instance: Instance, work: Coroutine[Any, Any, None], fates: Iterable[Fault] = ()) -> None:
        instance.tasks.append(self.loop.create_task(work))
        self.settle_down()
        for fate in fates:
            if self.store.held:
                self.resolve(-1, fate)

    async def call(self, instance: Instance, wanted: Amount, least: Amount) -> None:
        held = await instance.account.hold(wanted, least)
        if held is not None:
            assert held.amount.covers(least) and wanted.covers(held.amount)
            instance.running.append(held)

    def resolve(self, which: int, fault: Fault) -> None:
        operation = self.store.held.pop(which % len(self.store.held))
        for one in self.instances:
            doubt = one.account._doubt
            if doubt and doubt.row is operation.row and fault not in {Fault.NONE, Fault.CONFLICT}:
                self.doubts[doubt.row.writer] = one, doubt
        if not operation.done.done():
            operation.done.set_result(fault)
        self.settle_down()
        self.watch_doubts()

    def watch_doubts(self) -> None:
        """A write whose answer was lost is remembered until its instance has found out or given up."""
        for writer, (one, doubt) in list(self.doubts.items()):
            if one.account._doubt is not doubt:
                del self.doubts[writer]
                if one.account.row.writer != writer:
                    self.given_up += 1
                    # Others wrote since: either half of it may be lost, and what was owed may be owed twice.
                    owed = positive(NOTHING.minus(doubt.returned))
                    lost = positive(doubt.returned.at_least(doubt.taken))
                    self.may_be_lost = self.may_be_lost.plus(lost).plus(owed)

    def settle(self, one: Instance, held: Held, used: Amount) -> None:
        """Within the loop: a debt begins a write."""

        async def end() -> None:
            one.account.settle(held, used)

        self.loop.run_until_complete(end())
        self.settle_down()

    def one(self, number: int) -> Instance:
        return self.instances[number % INSTANCES]

    @initialize(limit=LIMITS)
    def start(self, limit: Amount) -> None:
        self.limit = self.highest = limit
        self.instances = [self.new_instance() for _ in range(INSTANCES)]
        for number, one in enumerate(self.instances):
            one.clock.now = 60.0 * number

    # What can happen.

    @rule(
        number=st.integers(0, INSTANCES - 1),
        tokens=WANTED,
        least=WANTED,
        calls=st.integers(1, 3),
        fates=FATES,
    )
    def hold(self, number: int, tokens: int, least: int, calls: int, fates: list[Fault]) -> None:
        one = self.one(number)
        for left in reversed(range(calls)):
            call = self.call(one, Amount(1, tokens), Amount(1, min(tokens, least)))
            self.begin(one, call, () if left else fates)

    @precondition(lambda self: any(one.running for one in self.instances))
    @rule(data=st.data(), used=USED, fails=st.booleans())
    def end(self, data: st.DataObject, used: int, fails: bool) -> None:
        one = data.draw(st.sampled_from([one for one in self.instances if one.running]))
        held = one.running.pop(data.draw(st.integers(0, len(one.running) - 1)))
        if fails:
            self.settle(one, held, NOTHING)
        else:
            self.settle(one, held, Amount(1, used))
            self.admitted = self.admitted.plus(Amount(1, used))
            self.overshoot += max(0, used - held.amount.tokens)

    @rule(number=st.integers(0, INSTANCES - 1), fates=FATES)
    def give_back(self, number: int, fates: list[Fault]) -> None:
        self.begin(self.one(number), self.one(number).account.give_back(), fates)

    @rule(number=st.integers(0, INSTANCES - 1))
    def look(self, number: int) -> None:
        self.begin(self.one(number), self.one(number).account.refresh())

    @precondition(lambda self: self.store.held)
    @rule()
    def answer_those_that_wait(self) -> None:
        for _ in range(len(self.store.held)):
            self.resolve(0, Fault.NONE)

    @precondition(lambda self: self.store.held)
    @rule(which=st.integers(0, 20), fault=st.sampled_from(Fault))
    def fault(self, which: int, fault: Fault) -> None:
        self.resolve(which, fault)

    @precondition(lambda self: self.store.held)
    @rule()
    def outage(self) -> None:
        for _ in range(len(self.store.held)):
            self.resolve(0, Fault.BEFORE)

    @precondition(lambda self: self.store.late)
    @rule(data=st.data())
    def arrive_late(self, data: st.DataObject) -> None:
        self.store.deliver(data.draw(st.integers(0, len(self.store.late) - 1)))

    @precondition(lambda self: any(one.tasks for one in self.instances))
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from([one for one in self.instances if one.tasks]))
        one.tasks[data.draw(st.integers(0, len(one.tasks) - 1))].cancel()
        self.settle_down()

    @rule(number=st.integers(0, INSTANCES - 1), seconds=st.sampled_from([0.3, REMEMBERED_SECONDS, 60.0]))
    def time_passes(self, number: int, seconds: float) -> None:
        self.one(number).clock.now += seconds

    @rule(limit=LIMITS)
    def change_limit(self, limit: Amount) -> None:
        self.limit, self.changed = limit, True
        self.highest = self.highest.at_least(limit)

    @rule(number=st.integers(0, INSTANCES - 1))
    def see_limit(self, number: int) -> None:
        self.one(number).account.limit = self.limit

    @rule(number=st.integers(0, INSTANCES - 1))
    def crash(self, number: int) -> None:
        """What was sent is still under way, and arrives late or never."""
        one = self.instances[number]
        self.doubts = {writer: told for writer, told in self.doubts.items() if told[0] is not one}
        self.may_be_lost = self.may_be_lost.plus(one.at_stake)
        # Its calls reached the upstream, and nobody is left to tell what they cost beyond their hold.
        self.crashed = self.crashed.plus(sum_of(held.amount for held in one.running))
        owed = positive(NOTHING.minus(one.account.spare))
        if doubt := one.account._doubt:
            owed = owed.plus(positive(NOTHING.minus(doubt.returned)))
        undrawn = sum_of(held.amount.minus(held.drawn) for held in one.running)
        self.may_be_owed = self.may_be_owed.plus(owed).plus(undrawn)
        writing = one.account._writing
        for task in [*one.tasks, *([writing] if writing else [])]:
            task.cancel()
        self.loop.run_until_complete(_some_turns())
        self.store.held = [operation for operation in self.store.held if not operation.done.done()]
        clock = one.clock
        self.instances[number] = self.new_instance()
        self.instances[number].clock.now = clock.now

    # What must hold.

    @property
    def row(self) -> Row:
        return self.store.row(KEY)

    @invariant()
    def granted_covers_what_was_used_and_what_is_in_hand(self) -> None:
        in_hand = sum_of(one.in_hand for one in self.instances)
        assert self.row.granted.covers(self.row.used.plus(in_hand)), (self.row, in_hand)

    @invariant()
    def granted_requests_stay_within_the_limit(self) -> None:
        if self.highest.requests < ENDLESS:
            assert self.row.granted.requests <= self.highest.requests

    @invariant()
    def calls_stay_within_the_limit(self) -> None:
        running = sum_of(held.amount for one in self.instances for held in one.running)
        gone = self.admitted.plus(self.crashed).plus(running)
        if self.highest.requests < ENDLESS:
            assert gone.requests <= self.highest.requests
        if self.highest.tokens < ENDLESS:
            assert gone.tokens <= self.highest.tokens + self.overshoot

    @invariant()
    def a_write_grants_only_within_the_limit(self) -> None:
        for before, after in self.store.history:
            assert after.used.covers(before.used) and after.granted.covers(after.used)
            if after.granted.requests > before.granted.requests and self.highest.requests < ENDLESS:
                assert after.granted.requests <= self.highest.requests
        self.store.history.clear()

    @invariant()
    def nothing_shown_is_below_zero_or_above_the_limit(self) -> None:
        for one in self.instances:
            assert one.account.remaining.covers(NOTHING) and one.account.limit.covers(one.account.remaining)
            assert one.account.used.covers(NOTHING)

    def teardown(self) -> None:
        """The table answers again, every call ends, and everything is given back: the books must balance."""
        try:
            if self.instances:
                self.balance()
        finally:
            self.loop.run_until_complete(_cancel_all())
            self.loop.close()

    def answer_all(self) -> None:
        while self.store.late or self.store.held:
            if self.store.late:
                self.store.deliver()
            else:
                self.resolve(0, Fault.NONE)

    def balance(self) -> None:
        self.answer_all()
        for _ in range(3):
            for one in self.instances:
                for held in one.running:
                    self.settle(one, held, Amount(1, held.amount.tokens))
                    self.admitted = self.admitted.plus(Amount(1, held.amount.tokens))
                one.running.clear()
                self.begin(one, one.account.give_back())
                self.answer_all()
        assert all(one.account.is_settled and not one.tasks for one in self.instances)
        row = self.row
        charged = self.admitted.plus(self.crashed)
        lost = row.granted.minus(charged)
        assert lost.plus(self.may_be_owed).covers(NOTHING), "given away"
        assert self.may_be_lost.covers(lost), "lost more than crashes and doubts can explain"
        if not self.given_up and self.may_be_lost == self.may_be_owed == self.crashed == NOTHING:
            assert row.granted == row.used == self.admitted


async def _some_turns() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


TestLedger = Machine.TestCase
TestLedger.settings = settings(
    max_examples=700,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# Orders of events that are rare enough to be told one by one.

REQUEST = Amount(1)
TWENTY = Amount(20, ENDLESS)


def account(store: FakeLedger, limit: Amount = TWENTY, clock: Clock | None = None) -> Account:
    made = Account(KEY, store, Amount(8, 800), clock or Clock(), no_sleep)
    made.limit = limit
    return made


async def spend(one: Account, calls: int = 1) -> int:
    """How many of the calls were admitted; each costs one request."""
    held = [await one.hold(REQUEST, REQUEST) for _ in range(calls)]
    for each in filter(None, held):
        one.settle(each, REQUEST)
    return len(list(filter(None, held)))


async def test_a_return_of_which_nobody_can_tell_whether_it_arrived_is_not_spent_again() -> None:
    store, limit = FakeLedger(), Amount(80, ENDLESS)
    one, other = account(store, limit), account(store, limit)
    await spend(one)
    store.order([Fault.AFTER])
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    assert await spend(other) == 1
    admitted = 2 + await spend(one, 100) + await spend(other, 100)
    assert 80 - 5 <= admitted <= 80 and store.row(KEY).granted.requests <= 80


async def test_a_return_that_arrives_late_is_not_spent_again() -> None:
    store, limit = FakeLedger(), Amount(80, ENDLESS)
    one, other = account(store, limit), account(store, limit)
    await spend(one)
    store.order([Fault.LATE])
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.order([Fault.NONE, Fault.LATE])  # the same again, later still
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.deliver(1)
    store.deliver(0)
    admitted = 1 + await spend(one, 2)
    store.order([Fault.LATE])
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.order([Fault.NONE, Fault.BEFORE])
    with pytest.raises(StoreUnavailable):
        await spend(one)  # as long as it is in doubt, nothing of it is spent
    store.deliver()
    assert admitted + await spend(one, 50) + await spend(other, 100) + await spend(one, 50) == 80
    for each in (one, other):
        await each.give_back()
    assert store.row(KEY).granted == store.row(KEY).used == Amount(80)


async def test_what_another_instance_gave_back_is_found_by_one_that_was_out() -> None:
    store, clock = FakeLedger(), Clock()
    one, other = account(store, clock=clock), account(store)
    holds = [await other.hold(REQUEST, REQUEST) for _ in range(20)]
    assert await spend(one) == 0
    for held in filter(None, holds):
        other.release(held)
    await other.give_back()
    assert await spend(one) == 0, "remembered for a moment"
    clock.now += REMEMBERED_SECONDS
    assert await spend(one, 21) == 20


async def test_a_lowered_limit_takes_back_what_was_granted_under_the_higher() -> None:
    store = FakeLedger()
    one, other = account(store, Amount(200, ENDLESS)), account(store, Amount(200, ENDLESS))
    assert await spend(one) + await spend(other) == 2
    one.limit = other.limit = Amount(2, ENDLESS)
    assert await spend(one) + await spend(other) == 0
    assert store.row(KEY).granted.requests <= 3
    assert one.remaining.requests == 0


async def test_a_limit_that_was_lowered_while_a_call_waited_holds_for_it() -> None:
    store = FakeLedger(holding=True)
    one = account(store)
    waiting = asyncio.ensure_future(one.hold(REQUEST, REQUEST))
    await _some_turns()
    one.limit = NOTHING
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    assert await waiting is None
    assert store.row(KEY).granted == NOTHING


async def test_what_was_used_without_a_limit_counts_when_one_is_set() -> None:
    store, endless = FakeLedger(), Amount(ENDLESS, ENDLESS)
    instances = [account(store, endless) for _ in range(2)]
    for one in instances:
        assert await spend(one, 6) == 6
        await one.give_back()
        one.limit = TWENTY
    assert [await spend(one, 20) for one in instances] == [8, 0]


async def test_a_row_that_an_organiser_deletes_begins_anew_and_never_goes_below_zero() -> None:
    store = FakeLedger()
    one = account(store, Amount(200, ENDLESS))
    await spend(one)
    store.rows.clear()
    await one.give_back()
    assert store.row(KEY).granted == store.row(KEY).used == Amount(1)


async def test_an_account_whose_table_is_away_does_not_spend_above_a_lowered_limit() -> None:
    store = FakeLedger()
    one = account(store, Amount(200, ENDLESS))
    assert await spend(one, 2) == 2
    store.always = Fault.BEFORE
    assert await spend(one, 2) == 2
    one.limit = Amount(1, ENDLESS)
    with pytest.raises(StoreUnavailable):
        await spend(one)


async def test_the_table_is_told_of_a_debt_at_once_and_others_give_out_the_less() -> None:
    store, limit = FakeLedger(), Amount(ENDLESS, 1000)
    one, other = account(store, limit), account(store, limit)
    holds = [await one.hold(Amount(1, 100), REQUEST) for _ in range(4)]
    for held in filter(None, holds):
        one.settle(held, Amount(1, 240))
    await _some_turns()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 960
    assert await other.hold(Amount(1, 100), Amount(1, 50)) is None
    rest = await other.hold(Amount(1, 100), Amount(1, 40))
    assert rest is not None and rest.amount.tokens == 40


async def test_a_debt_that_falls_into_another_write_is_told_after_it() -> None:
    store, limit = FakeLedger(), Amount(ENDLESS, 1000)
    one = account(store, limit)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    store.holding = True
    looking = asyncio.ensure_future(one.refresh())
    await _some_turns()
    one.settle(held, Amount(1, 900))
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    await looking
    await _some_turns()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 900


async def test_a_debt_that_cannot_be_told_is_owed_until_it_can() -> None:
    store, limit = FakeLedger(), Amount(ENDLESS, 1000)
    one = account(store, limit)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    store.order([Fault.BEFORE])
    one.settle(held, Amount(1, 950))
    await _some_turns()
    assert store.row(KEY).used.tokens == 0
    assert await one.hold(Amount(1, 100), Amount(1, 51)) is None
    assert store.row(KEY).used.tokens == 950


async def test_tokens_without_a_limit_are_no_debt_and_cost_no_write() -> None:
    store = FakeLedger()
    one = account(store)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    one.settle(held, Amount(1, 1000))
    await _some_turns()
    assert store.calls == {"write": 1}


async def test_blocks_grow_while_calls_are_fast_and_shrink_again() -> None:
    store, clock = FakeLedger(), Clock()
    one = account(store, Amount(100_000, ENDLESS), clock)

    async def blocks(seconds: float) -> list[int]:
        """What each of ten writes took, with that much time between."""
        taken: list[int] = []
        while len(taken) < 10:
            granted = store.row(KEY).granted.requests
            await spend(one)
            if store.row(KEY).granted.requests > granted:
                taken.append(store.row(KEY).granted.requests - granted)
                clock.now += seconds
        return taken

    assert await blocks(QUICK_SECONDS / 2) == [8, 32, *[8 * FASTEST] * 8]
    assert await blocks(SLOW_SECONDS) == [8 * FASTEST] * 10
    assert await blocks(SLOW_SECONDS * 2) == [8 * FASTEST, 64, 32, 16, *[8] * 6]


@pytest.mark.parametrize(("used", "next_block"), [(100, 8 * FASTEST), (20, 4 * FASTEST)])
async def test_a_block_that_goes_back_half_unused_is_followed_by_a_smaller_one(
    used: int, next_block: int
) -> None:
    store, clock = FakeLedger(), Clock()
    one = account(store, Amount(100_000, ENDLESS), clock)
    await spend(one, 8)
    await spend(one, used)  # of a block that is as large as can be, since no time passed
    clock.now += 60
    await one.give_back()
    assert store.row(KEY).granted == store.row(KEY).used
    before = store.row(KEY).granted.requests
    await spend(one)
    assert store.row(KEY).granted.requests - before == next_block


async def test_a_call_that_comes_in_the_moment_in_which_a_write_ends_waits_for_the_next() -> None:
    store = FakeLedger(holding=True)
    one = account(store)
    first = asyncio.ensure_future(one.hold(REQUEST, REQUEST))
    await _some_turns()
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    second = asyncio.ensure_future(one.hold(Amount(2), Amount(2)))  # runs before anybody is told of that end
    assert await second is not None and await first is not None
