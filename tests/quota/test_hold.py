"""Holds: a bound while there is plenty, an exact count when tokens are scarce, and a share for each user."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from shared.core.errors import RateLimited, StoreUnavailable
from shared.core.models import DEFAULT_PARALLEL, Credential, Event, Usage
from shared.core.money import FREE, Prices
from shared.core.quota_errors import (
    BudgetExceeded,
    EventBudgetExceeded,
    EventQuotaExceeded,
    TokenQuotaExceeded,
)
from shared.quota.amounts import NOTHING, UNLIMITED, Amount
from shared.quota.hold import Hold, Need
from shared.quota.ledger_row import LedgerRow
from shared.quota.quota import USER_SHARE, Quota
from shared.quota.running import MOST_KEPT, RunningCalls
from shared.quota.slowdown import FREE_REFUSALS, Slowdown
from tests.clock import Clock
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import AMY, BOB, KEY, NOW, TOTAL, event_with, hold_for, turn_loop


class Prompt:
    """A prompt with a bound of 1,000 tokens, which costs 200."""

    bound, exact = 1000, 200

    def __init__(self) -> None:
        self.counts = 0

    async def count(self) -> int:
        self.counts += 1
        await asyncio.sleep(0)
        return self.exact

    async def hold(
        self, quota: Quota, event: Event, output_limit: int = 100, credential: Credential = AMY
    ) -> Hold:
        need = Need(self.bound, output_limit, choices=1)
        return await quota.hold(credential, event, need, self.count, NOW)


async def test_prompt_is_not_counted_while_there_is_plenty(quota: Quota) -> None:
    prompt = Prompt()
    hold = await prompt.hold(quota, event_with(tokens_per_day=100_000))
    assert prompt.counts == 0
    assert hold.need.amount.tokens == 1100


async def test_scarce_tokens_are_held_for_the_counted_prompt(store: FakeLedger, quota: Quota) -> None:
    prompt = Prompt()
    hold = await prompt.hold(quota, event_with(tokens_per_day=400))
    assert (prompt.counts, hold.need.amount.tokens, hold.need.output_limit) == (1, 300, 100)
    hold.settle(Usage(200, 50), FREE)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.tokens == store.row(KEY).used.tokens == 250


async def test_running_call_is_counted_when_another_one_needs_its_tokens(quota: Quota) -> None:
    """1,100 of 18,000 tokens are plenty, and nine such calls hold 9,900. All cost 300 in truth."""
    event, prompts = event_with(tokens_per_day=18_000), [Prompt() for _ in range(60)]
    holds = [await prompt.hold(quota, event) for prompt in prompts]
    assert sum(hold.need.amount.tokens for hold in holds) == 60 * 300
    assert {prompt.counts for prompt in prompts} == {1}
    with pytest.raises(TokenQuotaExceeded, match="still running"):
        await Prompt().hold(quota, event)
    for hold in holds:
        hold.settle(Usage(200, 10), FREE)


async def test_prompt_is_not_counted_when_nothing_is_left(quota: Quota) -> None:
    event = event_with(tokens_per_day=300)
    (await Prompt().hold(quota, event)).settle(Usage(200, 100), FREE)
    prompt = Prompt()
    for _ in range(3):
        with pytest.raises(TokenQuotaExceeded):
            await prompt.hold(quota, event)
    assert prompt.counts <= 1


async def test_counted_prompt_can_be_held_while_the_tables_are_down(store: FakeLedger, quota: Quota) -> None:
    event = event_with(tokens_per_day=1_000_000)
    (await Prompt().hold(quota, event)).settle(Usage(200, 100), FREE)
    store.always = Fault.BEFORE
    held: list[Hold] = []
    with pytest.raises(StoreUnavailable):
        while len(held) < 100:
            held.append(await Prompt().hold(quota, event))
    assert len(held) >= 5, "1,800 tokens are in hand, and each call costs 300"
    for hold in held:
        hold.release()


async def test_unknown_usage_is_charged_as_the_counted_prompt_and_the_output_limit(
    store: FakeLedger, quota: Quota
) -> None:
    event = event_with(tokens_per_day=100_000)
    assert await (await Prompt().hold(quota, event)).settle_most(2**62, FREE) == (Usage(200, 100), 0)
    assert await (await Prompt().hold(quota, event)).settle_most(7, FREE) == (Usage(200, 7), 0)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.tokens == store.row(KEY).used.tokens == 507


async def test_hold_that_is_counted_twice_at_once_is_reduced_once(quota: Quota) -> None:
    hold = await Prompt().hold(quota, event_with(tokens_per_day=100_000))
    await asyncio.gather(hold.count_prompt(), hold.count_prompt())
    assert hold.need.amount.tokens == 300
    hold.release()
    user = hold.standing.user
    assert user is not None and user.account.held.tokens == 0


async def test_prompt_that_cannot_be_counted_is_charged_with_its_bound_and_stops_no_other(
    quota: Quota, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> int:
        raise RuntimeError("no thread")

    event = event_with(tokens_per_day=2_000)
    first = await quota.hold(AMY, event, Need(500, 100, 1), fail, NOW)
    second = await Prompt().hold(quota, event)
    assert (first.need.amount.tokens, second.need.amount.tokens) == (600, 300)
    assert await first.settle_most(7, FREE) == (Usage(500, 7), 0)
    second.release()
    assert "cannot be counted" in caplog.text


async def test_one_user_holds_at_most_a_share_of_what_remains_of_the_total(
    quota: Quota, store: FakeLedger
) -> None:
    event = event_with(tokens_total=100_000)
    (await hold_for(quota, AMY, event)).settle(Usage(20, 30), FREE)
    quota.begin_call(AMY, event)
    first = await hold_for(quota, AMY, event, Need(10, 90_000, 1))
    assert first.need.amount.tokens == 99_950 // USER_SHARE
    with pytest.raises(EventQuotaExceeded, match="still running"):
        await hold_for(quota, AMY, event, Need(10, 90_000, 1))
    other = await hold_for(quota, BOB, event, Need(10, 4096, 1))
    assert other.need.output_limit == 4096
    first.release()
    second = await hold_for(quota, AMY, event, Need(10, 90_000, 1))
    assert second.need.amount.tokens > 20_000
    for hold in (other, second):
        hold.release()
    quota.end_call(AMY)


PRICES = Prices(1_000_000, 1_000_000, 2_000_000)
"""A millionth for each prompt token, and two for each completion token."""


async def test_one_user_holds_at_most_a_share_of_what_remains_of_the_events_money(quota: Quota) -> None:
    event = event_with(cost_total=100_000)
    (await hold_for(quota, AMY, event)).settle(Usage(20, 30), PRICES)
    quota.begin_call(AMY, event)
    need = Need(10, 90_000, 1, prices=PRICES)
    first = await hold_for(quota, AMY, event, need)
    assert first.need.amount.cost in {99_920 // USER_SHARE, 99_920 // USER_SHARE - 1}
    assert first.need.tokens < 13_000
    with pytest.raises(EventBudgetExceeded, match="still running hold the rest of this event's budget"):
        await hold_for(quota, AMY, event, need)
    other = await hold_for(quota, BOB, event, Need(10, 4096, 1, prices=PRICES))
    assert other.need.output_limit == 4096
    for hold in (first, other):
        hold.release()
    assert quota._running.of(AMY).held == NOTHING
    quota.end_call(AMY)


async def test_scarce_money_is_held_for_the_counted_prompt_and_lowers_the_output(
    store: FakeLedger, quota: Quota
) -> None:
    """The bound of the prompt costs 1,000, and the prompt 200. The output costs 2 for each token."""
    prompt, event = Prompt(), event_with(cost_per_day=350, tokens_per_day=10**9)
    hold = await quota.hold(AMY, event, Need(prompt.bound, 500, 1, prices=PRICES), prompt.count, NOW)
    assert (prompt.counts, hold.need.output_limit, hold.need.amount) == (1, 75, Amount(1, 275, 350))
    with pytest.raises(BudgetExceeded, match="still running"):
        await quota.hold(AMY, event, Need(prompt.bound, 500, 1, prices=PRICES), Prompt().count, NOW)
    hold.settle(Usage(200, 50, 100), replace(PRICES, cached=500_000))
    await quota.sweep(everything=True)
    assert store.row(KEY).granted == store.row(KEY).used == Amount(1, 250, 250)


async def test_a_call_that_costs_more_than_it_held_leaves_a_debt(store: FakeLedger, quota: Quota) -> None:
    """As when a price is raised while the call runs."""
    event = event_with(cost_per_day=1_000_000)
    hold = await hold_for(quota, AMY, event, Need(10, 100, 1, prices=PRICES))
    assert hold.settle(Usage(10, 100), Prices(10**10, 10**10, 10**10)) == 1_100_000
    await turn_loop()
    assert store.row(KEY).used.cost == 1_100_000
    with pytest.raises(BudgetExceeded, match=r"You have spent your \$1.00 for today"):
        await hold_for(quota, AMY, event, Need(10, 100, 1, prices=PRICES))


async def test_calls_of_one_user_at_the_same_moment_share_as_well(quota: Quota) -> None:
    event = event_with(tokens_total=100_000)
    (await hold_for(quota, AMY, event)).settle(Usage(20, 30), FREE)
    for _ in range(8):
        quota.begin_call(AMY, event)
    calls = [hold_for(quota, AMY, event, Need(10, 90_000, 1)) for _ in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    holds = [one for one in results if isinstance(one, Hold)]
    assert holds and sum(hold.need.amount.tokens for hold in holds) <= 100_000 // USER_SHARE
    assert {type(one) for one in results} <= {Hold, EventQuotaExceeded}
    for hold in holds:
        hold.release()
    assert quota._running.of(AMY).held == NOTHING


@pytest.mark.parametrize("limits", [{"tokens_total": 50_000}, {"requests_total": 9}])
async def test_first_call_of_an_instance_keeps_its_output_limit(quota: Quota, limits: dict[str, int]) -> None:
    hold = await hold_for(quota, AMY, event_with(**limits), Need(10, 4096, 1))
    assert hold.need.output_limit == 4096


async def test_share_follows_what_other_instances_have_given_back(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    event, others = event_with(tokens_total=100_000), Amount(1, 60_000)
    store.rows[TOTAL] = LedgerRow(others, NOTHING, "other", "v0")
    (await hold_for(quota, AMY, event)).settle(Usage(20, 30), FREE)
    quota.begin_call(AMY, event)
    first = await hold_for(quota, AMY, event, Need(10, 8_000, 1))
    row = store.row(TOTAL)
    store.rows[TOTAL] = row._replace(granted=row.granted.minus(others), version="v9")
    clock.seconds += 2
    second = await hold_for(quota, AMY, event, Need(10, 12_000, 1))
    assert second.need.output_limit == 12_000
    first.release()
    second.release()


async def test_share_counts_what_running_calls_cost_and_not_their_bounds(quota: Quota) -> None:
    """Each call has a bound of 1,100 tokens and costs 300. A share of 20,000 is about 4,000."""
    event = event_with(tokens_total=20_000)
    quota.begin_call(AMY, event)
    holds = [await Prompt().hold(quota, event) for _ in range(12)]
    assert sum(hold.need.amount.tokens for hold in holds) == 12 * 300 == quota._running.of(AMY).held.tokens
    for hold in holds:
        hold.release()


async def test_calls_wait_for_tables_that_do_not_respond_and_are_not_refused(
    store: FakeLedger, quota: Quota
) -> None:
    store.always = Fault.BEFORE
    event = event_with(tokens_total=10_000)
    quota.begin_call(AMY, event)
    calls = [hold_for(quota, AMY, event, Need(10, 4096, 1)) for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in results} == {StoreUnavailable}


async def test_prompt_that_is_counted_while_its_call_waits_holds_no_more_than_it_costs(
    store: FakeLedger, quota: Quota
) -> None:
    """The call holds its bound of the day, and waits for the total when another call has it counted."""
    event, store.paused = event_with(tokens_per_day=100_000, tokens_total=100_000), True
    waiting = asyncio.create_task(Prompt().hold(quota, event))
    await turn_loop()
    store.paused = False
    store.waiting.pop().outcome.set_result(Fault.NONE)
    store.paused = True
    await turn_loop()
    user = quota._accounts.get(*KEY, Amount(UNLIMITED, 100_000))
    assert user is not None
    (hold,) = user.uncounted
    await hold.count_prompt()
    store.resume()
    held = await waiting
    total = quota._accounts.get(*TOTAL, Amount(UNLIMITED, 100_000))
    assert total is not None and user.account.held == total.account.held == held.need.amount == Amount(1, 300)
    held.release()


async def test_output_limit_that_the_total_lowers_frees_tokens_of_the_day(quota: Quota) -> None:
    event = event_with(tokens_per_day=100_000, tokens_total=100_000)
    hold = await hold_for(quota, AMY, event, Need(10, 90_000, 1))
    user = hold.standing.user
    assert user is not None and user.account.held == hold.need.amount == Amount(1, 100_000 // USER_SHARE)
    hold.release()


async def test_single_call_may_use_the_last_tokens_of_the_total(quota: Quota) -> None:
    event = event_with(tokens_total=600)
    (await hold_for(quota, AMY, event)).settle(Usage(20, 80), FREE)
    hold = await hold_for(quota, AMY, event, Need(100, 4096, 1))
    assert hold.need.output_limit == 400


def test_user_runs_at_most_as_many_calls_as_the_event_allows() -> None:
    running = RunningCalls()
    cases = ((None, DEFAULT_PARALLEL, "16 requests"), (3, 3, "3 requests"), (1, 1, "1 request"))
    for parallel, limit, shown in cases:
        event = event_with(parallel=parallel)
        for _ in range(limit):
            running.begin(AMY, event)
        with pytest.raises(RateLimited, match=f"You have {shown} running"):
            running.begin(AMY, event)
        running.begin(BOB, event)
        for _ in range(limit):
            running.end(AMY)
        running.end(BOB)
    running.forget()
    assert not len(running)


def test_users_without_running_calls_do_not_fill_the_memory() -> None:
    running = RunningCalls()
    running.begin(AMY, event_with())
    for number in range(3 * MOST_KEPT):
        running.of(Credential("hackathon", f"user-{number}"))
        assert len(running) <= MOST_KEPT
    assert running.of(AMY).calls == 1


def test_user_whose_requests_are_refused_again_and_again_waits(clock: Clock) -> None:
    slowdown = Slowdown(clock)
    for _ in range(FREE_REFUSALS):
        slowdown.check(AMY)
        slowdown.note(AMY)
        clock.seconds += 0.5
    with pytest.raises(RateLimited, match="refused your last"):
        slowdown.check(AMY)
    slowdown.check(BOB)
    clock.seconds += 51
    slowdown.check(AMY)
    slowdown.note(AMY)
    clock.seconds += 60
    slowdown.forget()
    assert not len(slowdown)
