"""Races and faults of the ledger that random runs meet too rarely."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.errors import StoreUnavailable
from shared.quota.account import REMEMBERED_SECONDS, Account
from shared.quota.amounts import NO_LIMIT, NOTHING, UNLIMITED, Amount
from shared.quota.blocks import MAX_GROWTH, QUICK_SECONDS, SLOW_SECONDS, Blocks
from shared.quota.exchange import Exchange
from shared.quota.ledger_row import Key
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import Clock, no_sleep, turn_loop

KEY = Key("hackathon", "amy:2026-01-31")
REQUEST = Amount(1)
TWENTY = Amount(20, UNLIMITED)


def open_account(store: FakeLedger, limit: Amount = TWENTY, clock: Clock | None = None) -> Exchange:
    """The account on one more instance."""
    account = Account(KEY, Blocks(Amount(8, 800)), 0.0, limit=limit)
    return Exchange(account, store, clock or Clock(), no_sleep)


async def spend(one: Exchange, calls: int = 1) -> int:
    """Make calls of one request each; returns how many were admitted."""
    holds = [await one.hold(REQUEST, REQUEST) for _ in range(calls)]
    claims = [claim for claim in holds if claim is not None]
    for claim in claims:
        one.settle(claim, REQUEST)
    return len(claims)


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
    for claim in filter(None, holds):
        other.release(claim)
    await other.give_back()
    assert await spend(one) == 0, "a refusal is remembered for a second"
    clock.now += REMEMBERED_SECONDS
    assert await spend(one, 21) == 20


async def test_lowered_limit_takes_back_the_grant_made_under_the_higher_limit() -> None:
    store = FakeLedger()
    one, other = open_account(store, Amount(200, UNLIMITED)), open_account(store, Amount(200, UNLIMITED))
    assert await spend(one) + await spend(other) == 2
    one.account.limit = other.account.limit = Amount(2, UNLIMITED)
    assert await spend(one) + await spend(other) == 0
    assert store.row(KEY).granted.requests <= 3
    assert one.account.remaining.requests == 0


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
    assert await spend(one, 2) == 2
    store.always = Fault.BEFORE
    assert await spend(one, 2) == 2
    one.account.limit = Amount(1, UNLIMITED)
    with pytest.raises(StoreUnavailable):
        await spend(one)


async def test_debt_is_reported_at_once_and_other_instances_give_out_less() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one, other = open_account(store, limit), open_account(store, limit)
    holds = [await one.hold(Amount(1, 100), REQUEST) for _ in range(4)]
    for claim in filter(None, holds):
        one.settle(claim, Amount(1, 240))
    await turn_loop()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 960
    assert await other.hold(Amount(1, 100), Amount(1, 50)) is None
    rest = await other.hold(Amount(1, 100), Amount(1, 40))
    assert rest is not None and rest.amount.tokens == 40


async def test_debt_during_another_operation_is_reported_after_it() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one = open_account(store, limit)
    claim = await one.hold(Amount(1, 100), REQUEST)
    assert claim is not None
    store.paused = True
    refreshing = asyncio.ensure_future(one.refresh())
    await turn_loop()
    one.settle(claim, Amount(1, 900))
    store.resume()
    await refreshing
    await turn_loop()
    assert store.row(KEY).used.tokens == store.row(KEY).granted.tokens == 900


async def test_debt_that_cannot_be_reported_is_owed_until_it_can() -> None:
    store, limit = FakeLedger(), Amount(UNLIMITED, 1000)
    one = open_account(store, limit)
    claim = await one.hold(Amount(1, 100), REQUEST)
    assert claim is not None
    store.faults.append(Fault.BEFORE)
    one.settle(claim, Amount(1, 950))
    await turn_loop()
    assert store.row(KEY).used.tokens == 0
    assert await one.hold(Amount(1, 100), Amount(1, 51)) is None
    assert store.row(KEY).used.tokens == 950


async def test_tokens_without_a_limit_are_no_debt_and_cost_no_write() -> None:
    store = FakeLedger()
    one = open_account(store)
    claim = await one.hold(Amount(1, 100), REQUEST)
    assert claim is not None
    one.settle(claim, Amount(1, 1000))
    await turn_loop()
    assert store.calls == {"write": 1}


async def test_blocks_grow_while_calls_are_fast_and_shrink_again() -> None:
    store, clock = FakeLedger(), Clock()
    one = open_account(store, Amount(100_000, UNLIMITED), clock)

    async def blocks(seconds: float) -> list[int]:
        """The sizes of the next ten blocks, each `seconds` after the last."""
        taken: list[int] = []
        while len(taken) < 10:
            granted = store.row(KEY).granted.requests
            await spend(one)
            if store.row(KEY).granted.requests > granted:
                taken.append(store.row(KEY).granted.requests - granted)
                clock.now += seconds
        return taken

    assert await blocks(QUICK_SECONDS / 2) == [8, 32, *[8 * MAX_GROWTH] * 8]
    assert await blocks(SLOW_SECONDS) == [8 * MAX_GROWTH] * 10
    assert await blocks(SLOW_SECONDS * 2) == [8 * MAX_GROWTH, 64, 32, 16, *[8] * 6]


@pytest.mark.parametrize(("used", "next_block"), [(100, 8 * MAX_GROWTH), (20, 4 * MAX_GROWTH)])
async def test_block_given_back_half_unused_is_followed_by_a_smaller_one(used: int, next_block: int) -> None:
    store, clock = FakeLedger(), Clock()
    one = open_account(store, Amount(100_000, UNLIMITED), clock)
    await spend(one, 8)
    await spend(one, used)  # of the largest block, since no time passed
    clock.now += 60
    await one.give_back()
    assert store.row(KEY).granted == store.row(KEY).used
    before = store.row(KEY).granted.requests
    await spend(one)
    assert store.row(KEY).granted.requests - before == next_block


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
