"""Races and faults of the ledger that random runs meet too rarely."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.errors import StoreUnavailable
from shared.quota.account import REMEMBERED_SECONDS, Account
from shared.quota.amounts import NO_LIMIT, NOTHING, UNLIMITED, Amount
from shared.quota.exchange import Exchange
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.pace import Pace
from tests.clock import Clock
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import no_sleep, turn_loop

KEY = Key("hackathon", "amy:2026-01-31")
REQUEST = Amount(1)
TWENTY = Amount(20, UNLIMITED)


def open_account(store: FakeLedger, limit: Amount = TWENTY, clock: Clock | None = None) -> Exchange:
    """The account on one more instance."""
    account = Account(KEY, Pace(0.0), 0.0, limit=limit)
    return Exchange(account, store, clock or Clock(), no_sleep)


async def spend(one: Exchange, calls: int = 1) -> int:
    """Make calls of one request each; returns how many were admitted."""
    holds = [await one.hold(REQUEST, REQUEST) for _ in range(calls)]
    admitted = [held for held in holds if held is not None]
    for held in admitted:
        one.settle(held, REQUEST)
    return len(admitted)


async def test_return_of_unknown_outcome_is_not_spent_again() -> None:
    store, limit = FakeLedger(), Amount(80, UNLIMITED)
    one, other = open_account(store, limit), open_account(store, limit)
    await spend(one)
    store.faults.append(Fault.AFTER)
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    assert await spend(other) == 1
    admitted = 2 + await spend(one, 100) + await spend(other, 100)
    assert 80 - 5 <= admitted <= 80 and store.row(KEY).granted.requests <= 80


async def test_return_that_arrives_late_is_not_spent_again() -> None:
    store, limit = FakeLedger(), Amount(80, UNLIMITED)
    one, other = open_account(store, limit), open_account(store, limit)
    await spend(one)
    store.faults.append(Fault.LATE)
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.faults.extend([Fault.NONE, Fault.LATE])  # the same write again
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.deliver(1)
    store.deliver(0)
    admitted = 1 + await spend(one, 2)
    store.faults.append(Fault.LATE)
    with pytest.raises(StoreUnavailable):
        await one.give_back()
    store.faults.extend([Fault.NONE, Fault.BEFORE])
    with pytest.raises(StoreUnavailable):
        await spend(one)  # nothing is spent while the outcome is unknown
    store.deliver()
    assert admitted + await spend(one, 50) + await spend(other, 100) + await spend(one, 50) == 80
    for each in (one, other):
        await each.give_back()
    assert store.row(KEY).granted == store.row(KEY).used == Amount(80)


async def test_instance_without_quota_finds_what_another_gave_back() -> None:
    store, clock = FakeLedger(), Clock()
    one, other = open_account(store, clock=clock), open_account(store)
    holds = [await other.hold(REQUEST, REQUEST) for _ in range(20)]
    assert await spend(one) == 0
    for held in filter(None, holds):
        other.settle(held, NOTHING)
    await other.give_back()
    assert await spend(one) == 0, "a refusal is remembered for a second"
    clock.seconds += REMEMBERED_SECONDS
    assert await spend(one, 21) == 20


async def test_lowered_limit_takes_back_the_grant_made_under_the_higher_limit() -> None:
    store = FakeLedger()
    one, other = open_account(store, Amount(200, UNLIMITED)), open_account(store, Amount(200, UNLIMITED))
    assert await spend(one) + await spend(other) == 2
    one.account.limit = other.account.limit = Amount(2, UNLIMITED)
    assert await spend(one) + await spend(other) == 0
    assert store.row(KEY).granted.requests <= 3
    assert one.account.remaining.requests == 0


async def test_call_without_a_cost_is_served_after_the_budget_was_lowered_below_what_was_used() -> None:
    store = FakeLedger()
    store.rows[KEY] = LedgerRow(Amount(1, 50, 900), Amount(1, 50, 900), "other", "v0")
    one = open_account(store, Amount(10, 1000, 500))
    assert await one.hold(Amount(1, 50, 0), Amount(1, 50, 0)) == Amount(1, 50, 0)
    assert await one.hold(Amount(1, 50, 1), Amount(1, 50, 1)) is None


async def test_limit_lowered_while_a_call_waits_applies_to_that_call() -> None:
    store = FakeLedger(paused=True)
    one = open_account(store)
    waiting = asyncio.ensure_future(one.hold(REQUEST, REQUEST))
    await turn_loop()
    one.account.limit = NOTHING
    store.resume()
    assert await waiting is None
    assert store.row(KEY).granted == NOTHING


async def test_usage_without_a_limit_counts_once_a_limit_is_set() -> None:
    store = FakeLedger()
    instances = [open_account(store, NO_LIMIT) for _ in range(2)]
    for one in instances:
        assert await spend(one, 6) == 6
        await one.give_back()
        one.account.limit = TWENTY
    assert [await spend(one, 20) for one in instances] == [8, 0]


async def test_row_that_an_organiser_deletes_starts_again_and_never_goes_below_zero() -> None:
    store = FakeLedger()
    one = open_account(store, Amount(200, UNLIMITED))
    await spend(one)
    store.rows.clear()
    await one.give_back()
    assert store.row(KEY).granted == store.row(KEY).used == Amount(1)


async def test_account_without_its_table_does_not_spend_above_a_lowered_limit() -> None:
    store = FakeLedger()
    one = open_account(store, Amount(200, UNLIMITED))
    assert [await spend(one) for _ in range(4)] == [1] * 4
    store.always = Fault.BEFORE
    assert await spend(one, 2) == 2
    one.account.limit = Amount(1, UNLIMITED)
    with pytest.raises(StoreUnavailable):
        await spend(one)


async def test_debt_is_reported_at_once_and_other_instances_give_out_less() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one, other = open_account(store, limit), open_account(store, limit)
    holds = [await one.hold(Amount(1, 100), REQUEST) for _ in range(4)]
    for held in filter(None, holds):
        one.settle(held, Amount(1, 240))
    await turn_loop()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 960
    assert await other.hold(Amount(1, 100), Amount(1, 50)) is None
    rest = await other.hold(Amount(1, 100), Amount(1, 40))
    assert rest is not None and rest.tokens == 40


async def test_debt_during_another_operation_is_reported_after_it() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one = open_account(store, limit)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    store.paused = True
    refreshing = asyncio.ensure_future(one.refresh())
    await turn_loop()
    one.settle(held, Amount(1, 900))
    store.resume()
    await refreshing
    await turn_loop()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 900


async def test_debt_that_cannot_be_reported_is_owed_until_it_can() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one = open_account(store, limit)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    store.faults.append(Fault.BEFORE)
    one.settle(held, Amount(1, 950))
    await turn_loop()
    assert store.row(KEY).used.tokens == 0
    assert await one.hold(Amount(1, 100), Amount(1, 51)) is None
    assert store.row(KEY).used.tokens == 950


async def test_tokens_without_a_limit_are_no_debt_and_cost_no_write() -> None:
    store = FakeLedger()
    one = open_account(store)
    held = await one.hold(Amount(1, 100), REQUEST)
    assert held is not None
    one.settle(held, Amount(1, 1000))
    await turn_loop()
    assert store.calls == {"write": 1}


async def test_blocks_follow_the_pace_of_the_calls() -> None:
    store, clock = FakeLedger(), Clock()
    one = open_account(store, Amount(10_000, UNLIMITED), clock)

    async def blocks(number: int, seconds: float) -> list[int]:
        """The sizes of the next blocks, with a call every `seconds`."""
        taken: list[int] = []
        while len(taken) < number:
            granted = store.row(KEY).granted.requests
            await spend(one)
            clock.seconds += seconds
            if store.row(KEY).granted.requests > granted:
                taken.append(store.row(KEY).granted.requests - granted)
        return taken

    assert await blocks(5, 0.0) == [11, 12, 24, 48, 96], "each is what was used so far, and the call itself"
    await blocks(5, 0.1)
    assert await blocks(5, 0.1) == [102] * 5, "what ten calls a second use in ten seconds"
    await blocks(3, 60.0)
    assert await blocks(3, 60.0) == [11, 11, 11], "a thousandth of the limit, and the call itself"


async def test_each_unit_follows_its_own_pace() -> None:
    store = FakeLedger()
    one = open_account(store, Amount(1_000_000, 1_000_000))
    for _ in range(2000):
        held = await one.hold(Amount(1, 1), Amount(1, 1))
        assert held is not None
        one.settle(held, Amount(1, 1))
    held = await one.hold(Amount(1, 100_000), Amount(1, 100_000))
    assert held is not None
    one.settle(held, Amount(1, 100_000))
    await one.hold(Amount(1, 100_000), Amount(1, 100_000))
    assert one.account.spare.requests <= 4000 and one.account.spare.tokens <= 110_000


def test_pace_forgets_what_was_used_ten_seconds_ago() -> None:
    pace = Pace(0.0)
    pace.note(Amount(7, 70), 1.0)
    assert pace.recent(Amount(1, 10), 2.0) == Amount(8, 80)
    pace.note(Amount(1, 10), 2.0)
    assert pace.recent(NOTHING, 10.9) == Amount(8, 80)
    assert pace.recent(NOTHING, 11.0) == Amount(1, 10)
    assert pace.recent(Amount(50, 500), 102.0) == Amount(5, 50), "50 in 100 seconds are 5 in 10 seconds"


async def test_call_that_arrives_as_a_write_ends_waits_for_the_next_write() -> None:
    store = FakeLedger(paused=True)
    one = open_account(store)
    first = asyncio.ensure_future(one.hold(REQUEST, REQUEST))
    await turn_loop()
    store.resume()
    second = asyncio.ensure_future(
        one.hold(Amount(2), Amount(2))
    )  # runs before the end of the write is noticed
    assert await second is not None and await first is not None
