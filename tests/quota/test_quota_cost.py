"""What the quotas cost in table calls, counted at the store; and what they do when the table is in trouble."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.errors import (
    ProxyError,
    RateLimited,
    RequestQuotaExceeded,
    StoreUnavailable,
    TokenQuotaExceeded,
)
from shared.core.models import Credential, Event, Usage
from shared.quota.amounts import Amount
from shared.quota.blocks import SHARE
from shared.quota.ledger import MAX_TRIES, REMEMBERED_SECONDS
from shared.quota.ledger_row import Key, Row
from shared.quota.minutes import MINUTE
from shared.quota.quota import MOST_KEPT, SOONER, Need, Quota
from shared.quota.standing import TOTAL_ROW
from shared.tables.quota_rows import ledger_to_row
from shared.tables.service import open_service
from tests.conftest import EVENT, QUESTION, Stage, TableTap, answered, serve
from tests.fake_ledger import FakeLedger, Fault
from tools.azurite import Azurite
from tools.simulator import Simulator

_log = logging.getLogger(__name__)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
AMY, BOB = Credential("hackathon", "amy"), Credential("hackathon", "bob")
KEY = Key("hackathon", "amy:2026-01-31")
TOTAL = Key("hackathon", TOTAL_ROW)
NEED = Need(prompt_tokens=20, output_cap=100, choices=1)


IDLE_SECONDS = 600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def quota(store: FakeLedger, clock: Clock) -> AsyncIterator[Quota]:
    quota = Quota(store, IDLE_SECONDS, clock)
    yield quota
    store.holding, store.always = False, Fault.NONE
    await quota.close()


def event(**limits: int | None) -> Event:
    return replace(EVENT, **limits)  # type: ignore[arg-type]


async def call(quota: Quota, event: Event, who: Credential = AMY) -> str:
    """How it was answered; a call that is admitted costs 50 tokens."""
    try:
        hold = await quota.hold(who, event, NEED, NOW)
    except ProxyError as error:
        return error.code
    hold.settle(Usage(20, 30))
    return "ok"


# What it costs.


async def test_a_steady_run_costs_a_tenth_of_a_table_call_for_each_request(
    store: FakeLedger, quota: Quota
) -> None:
    limits = event(requests_per_day=10_000, tokens_per_day=10_000_000, requests_total=100_000)
    assert {await call(quota, limits) for _ in range(2000)} == {"ok"}
    assert store.total <= 0.1 * 2000
    _log.info("steady: %.4f table calls for each request", store.total / 2000)


async def test_a_steady_run_of_the_app_costs_a_tenth_of_a_table_call_for_each_request(
    azurite: Azurite, stage: Stage, shared_simulator: Simulator, environment: dict[str, str]
) -> None:
    code = await stage.add_event(requests_per_day=10_000)
    tap = TableTap(target=azurite.port)
    async with tap.open():
        settings = {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "60"}
        async with serve(stage.tables, shared_simulator, environment | settings) as instance:

            async def client() -> list[int]:
                headers = {"api-key": f"{code}/amy"}
                return [(await answered(instance.post(headers=headers))).status for _ in range(100)]

            batches = await asyncio.gather(*(client() for _ in range(8)))
            calls = tap.reads_of("quotas")
    assert Counter(status for batch in batches for status in batch) == {200: 800}
    assert calls <= 0.1 * 800
    _log.info("the app: %.4f table calls for each request", calls / 800)


async def test_the_first_request_of_a_user_costs_one_insert(store: FakeLedger, quota: Quota) -> None:
    limits = event(requests_per_day=50, tokens_per_day=100_000)
    users = [Credential("hackathon", f"user-{number}") for number in range(200)]
    assert {await call(quota, limits, user) for user in users} == {"ok"}
    assert store.calls == {"write": 200}


async def test_a_user_who_comes_back_costs_one_write(store: FakeLedger, quota: Quota, clock: Clock) -> None:
    limits = event(requests_per_day=50)
    await call(quota, limits)
    clock.now += 601
    await quota.sweep()
    assert store.row(KEY).granted == store.row(KEY).used
    store.calls.clear()
    await call(quota, limits)
    assert store.calls == {"write": 1}


async def test_a_block_is_kept_until_it_was_idle_for_long(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    await call(quota, event(requests_per_day=10_000, tokens_per_day=10_000_000))
    clock.now += IDLE_SECONDS * 0.99
    await quota.sweep()
    assert store.calls == {"write": 1}
    clock.now += IDLE_SECONDS * 0.01
    await quota.sweep()
    assert store.row(KEY).granted == store.row(KEY).used


@pytest.mark.parametrize("tokens_per_day", [4_000, 10_000])
async def test_what_is_large_beside_the_rest_goes_back_sooner_for_others_to_use(
    store: FakeLedger, quota: Quota, clock: Clock, tokens_per_day: int
) -> None:
    """A call without a cap of its own holds much, and most of it comes back unused."""
    limits, need = event(tokens_per_day=tokens_per_day), Need(prompt_tokens=50, output_cap=4_096, choices=1)
    others = [Quota(store, IDLE_SECONDS, clock) for _ in range(3)]
    for used, instance in enumerate([quota, *others]):
        hold = await instance.hold(AMY, limits, need, NOW)
        assert hold.output_cap == min(4_096, tokens_per_day - used * 90 - 50)
        hold.settle(Usage(50, 40))
        clock.now += IDLE_SECONDS / SOONER
        await instance.sweep()


async def test_what_is_not_yet_large_beside_the_rest_is_kept(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    """1,000 tokens of 16,000 are a block's share; 1,200 are more."""
    limits = event(tokens_per_day=16_000)
    await call(quota, limits)
    (await quota.hold(BOB, limits, Need(200, 1000, 1), NOW)).release()
    clock.now += IDLE_SECONDS / SOONER * 0.99
    await quota.sweep()
    assert store.calls == {"write": 2}
    clock.now += IDLE_SECONDS / SOONER * 0.01
    await quota.sweep()
    granted = {key.row: row.granted.tokens for key, row in store.rows.items()}
    assert granted == {"amy:2026-01-31": 1000, "bob:2026-01-31": 0}


async def test_requests_that_are_many_beside_the_rest_go_back_sooner_too(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    limits = event(requests_per_day=20)
    for hold in await asyncio.gather(*(quota.hold(AMY, limits, NEED, NOW) for _ in range(8))):
        hold.release()
    assert store.row(KEY).granted.requests == 8
    clock.now += IDLE_SECONDS / SOONER
    await quota.sweep()
    assert store.row(KEY).granted.requests == 0


@pytest.mark.parametrize("scarce", ["tokens", "requests"])
async def test_of_what_does_not_run_out_no_more_is_in_hand_than_a_share(
    store: FakeLedger, quota: Quota, clock: Clock, scarce: str
) -> None:
    """A busy instance takes block after block for the one; the other must not pile up, for others need it."""
    limits = event(requests_total=5_000, tokens_total=50_000_000 if scarce == "tokens" else 5_000_000)
    used = Usage(60, 6_000 if scarce == "tokens" else 10)
    for _ in range(2_000):
        need = Need(used.prompt_tokens, used.completion_tokens, 1)
        (await quota.hold(AMY, limits, need, NOW)).settle(used)
        clock.now += 0.5
    in_hand = store.row(TOTAL).granted.minus(Amount(2_000, 2_000 * used.total_tokens))
    assert in_hand.requests <= 5_000 / SHARE
    assert in_hand.tokens <= limits.tokens_total / SHARE  # type: ignore[operator]
    other = Quota(store, IDLE_SECONDS, clock)
    served = 0
    while await call(other, limits, BOB) == "ok":
        served += 1
        clock.now += 0.01
    assert served >= 3_000 - 5_000 / SHARE


@pytest.mark.parametrize(("fault", "tries"), [(Fault.BEFORE, 1), (Fault.CONFLICT, MAX_TRIES)])
async def test_a_debt_that_could_not_be_told_is_told_sooner_than_what_lies_idle(
    store: FakeLedger, quota: Quota, clock: Clock, fault: Fault, tries: int
) -> None:
    hold = await quota.hold(AMY, event(tokens_per_day=100_000), NEED, NOW)
    store.always = fault
    hold.settle(Usage(50, 20_000))
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if store.calls["write"] == 1 + tries:
            break
    store.always = Fault.NONE
    assert store.row(KEY).used.tokens == 0
    clock.now += IDLE_SECONDS / SOONER
    await quota.sweep()
    assert store.row(KEY).used.tokens == 20_050


async def test_a_user_of_another_instance_costs_three_calls_at_most(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    other = Quota(store, 600, clock)
    await call(other, event(requests_per_day=50))
    store.calls.clear()
    await call(quota, event(requests_per_day=50))
    assert store.calls == {"write": 2, "read": 1}
    await other.close()


async def test_a_refused_client_in_a_loop_costs_one_table_call_a_second(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    limits = event(requests_per_day=1)
    await call(quota, limits)
    store.calls.clear()
    for _ in range(3):
        assert {await call(quota, limits) for _ in range(100)} == {"request_quota_exceeded"}
        clock.now += REMEMBERED_SECONDS
    assert store.total == 2


async def test_a_client_in_a_loop_at_a_closed_door_costs_one_read_of_each_row_a_second(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    limits = event(requests_per_day=10, requests_total=100)
    for _ in range(3):
        for _ in range(100):
            standing = await quota.standing(AMY, limits, NOW, remembered=True)
            assert standing.remaining.requests == 10
        clock.now += REMEMBERED_SECONDS
    assert store.calls == {"read": 2 * 3}


async def test_who_asks_for_the_numbers_reads_them_each_time(store: FakeLedger, quota: Quota) -> None:
    for requests in range(3):
        store.rows[KEY] = Row(granted=Amount(requests, 0), version=f"{requests}")
        standing = await quota.standing(AMY, event(requests_per_day=10), NOW)
        assert standing.remaining.requests == 10 - requests


@pytest.mark.parametrize("why", ["event_ended", "model_not_found"])
async def test_refusals_of_the_app_in_a_loop_cost_few_table_calls(
    azurite: Azurite, stage: Stage, shared_simulator: Simulator, environment: dict[str, str], why: str
) -> None:
    ended = {"ends_at": datetime.now(UTC) - timedelta(hours=1)} if why == "event_ended" else {}
    code = await stage.add_event(requests_per_day=10, requests_total=100, **ended)
    async with TableTap(target=azurite.port).open() as tap:
        settings = environment | {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "60"}
        async with serve(stage.tables, shared_simulator, settings) as instance:
            began = asyncio.get_running_loop().time()
            for _ in range(60):
                headers = {"api-key": f"{code}/amy"}
                got = await answered(instance.post(headers=headers, json=QUESTION | {"model": "no-such"}))
                assert got.error["code"] == why
                assert got.headers["x-ratelimit-remaining-requests"] == "10"
            seconds = asyncio.get_running_loop().time() - began
        assert tap.reads_of("quotas") <= 2 * (1 + seconds / REMEMBERED_SECONDS)


async def test_calls_of_one_user_at_once_wait_for_few_writes(store: FakeLedger, quota: Quota) -> None:
    store.delay_seconds = 0.05
    answers = await asyncio.gather(*(call(quota, event(requests_per_day=10_000)) for _ in range(100)))
    assert set(answers) == {"ok"}
    assert store.total <= 3


async def test_calls_at_once_beyond_the_quota_are_refused_without_a_write_each(
    store: FakeLedger, quota: Quota
) -> None:
    store.delay_seconds = 0.01
    answers = await asyncio.gather(*(call(quota, event(requests_per_day=30)) for _ in range(100)))
    assert Counter(answers) == {"ok": 30, "request_quota_exceeded": 70}
    assert store.total <= 4


# What it does in trouble.


async def test_conflicts_for_ever_end_in_503_after_a_bounded_number_of_tries(
    store: FakeLedger, quota: Quota
) -> None:
    store.always = Fault.CONFLICT
    with pytest.raises(StoreUnavailable) as refused:
        await quota.hold(AMY, event(requests_per_day=10), NEED, NOW)
    assert int(refused.value.headers[b"retry-after"]) >= 1
    assert store.total <= 2 * MAX_TRIES


async def test_what_is_shown_of_an_account_that_was_never_seen_promises_nothing(
    store: FakeLedger, quota: Quota
) -> None:
    store.always = Fault.BEFORE
    with pytest.raises(StoreUnavailable) as refused:
        await quota.hold(AMY, event(requests_per_day=10), NEED, NOW)
    assert refused.value.headers[b"x-ratelimit-remaining-requests"] == b"0"


async def test_slow_tables_hold_up_who_waits_for_them_and_nobody_else(
    store: FakeLedger, quota: Quota
) -> None:
    limits = event(requests_per_day=1000)
    await call(quota, limits)
    store.holding = True
    waiting = asyncio.create_task(call(quota, limits, BOB))
    await asyncio.sleep(0.01)
    assert {await call(quota, limits) for _ in range(30)} == {"ok"}
    assert not waiting.done()
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    assert await waiting == "ok"


async def test_those_who_wait_for_one_write_get_refusals_of_their_own(
    store: FakeLedger, quota: Quota
) -> None:
    store.holding = True
    limits = event(requests_total=10)
    calls = [asyncio.create_task(quota.hold(who, limits, NEED, NOW)) for who in (AMY, BOB)]
    await asyncio.sleep(0.01)
    store.held.pop().done.set_result(Fault.BEFORE)
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, StoreUnavailable) and isinstance(second, StoreUnavailable)
    assert first is not second and first.headers is not second.headers


async def test_a_lost_answer_is_cleared_up_by_the_sweep(store: FakeLedger, quota: Quota) -> None:
    await call(quota, event(requests_per_day=100))
    store.order([Fault.AFTER, Fault.BEFORE])
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted == store.row(KEY).used == Amount(1, 50)


async def test_a_lost_answer_is_cleared_up_while_a_long_call_runs(store: FakeLedger, quota: Quota) -> None:
    hold = await quota.hold(AMY, event(requests_per_day=100), NEED, NOW)
    store.order([Fault.AFTER])
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.requests == 1
    hold.settle(Usage(20, 30))
    await quota.sweep(everything=True)
    assert store.row(KEY).used.requests == 1


async def test_an_account_that_somebody_waits_for_is_not_forgotten(
    store: FakeLedger, clock: Clock, quota: Quota
) -> None:
    limits = event(requests_per_day=100, requests_total=1000)
    (await quota.hold(BOB, limits, NEED, NOW)).release()
    await quota.sweep(everything=True)
    store.holding = True
    waiting = asyncio.create_task(quota.hold(AMY, limits, NEED, NOW))
    await asyncio.sleep(0.01)
    clock.now += 10_000
    sweeping = asyncio.create_task(quota.sweep())  # the event's account has been idle for long
    await asyncio.sleep(0.01)
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    await sweeping
    (await waiting).settle(Usage(20, 30))
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.requests == store.row(KEY).used.requests == 1
    assert store.row(TOTAL).granted.requests == store.row(TOTAL).used.requests == 1


async def test_a_call_that_ends_on_the_next_day_is_charged_to_the_day_it_began(
    store: FakeLedger, quota: Quota
) -> None:
    limits = event(requests_per_day=1)
    hold = await quota.hold(AMY, limits, NEED, NOW)
    tomorrow = NOW + timedelta(days=1)
    next_day = await quota.hold(AMY, limits, NEED, tomorrow)
    hold.settle(Usage(20, 30))
    next_day.release()
    await quota.sweep(everything=True)
    assert store.row(KEY).used == Amount(1, 50)
    assert store.row(Key("hackathon", "amy:2026-02-01")).used == Amount()


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_held(
    store: FakeLedger, quota: Quota
) -> None:
    store.holding = True
    waiting = asyncio.create_task(quota.hold(AMY, event(requests_per_day=100), NEED, NOW))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.sleep(0.01)
    store.holding = False
    store.held.pop().done.set_result(Fault.NONE)
    await asyncio.sleep(0.01)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted == Amount()


async def test_tokens_used_up_are_not_told_as_requests_used_up(store: FakeLedger, quota: Quota) -> None:
    limits = event(requests_per_day=15, tokens_per_day=110)
    hold = await quota.hold(AMY, limits, NEED, NOW)
    assert hold.output_cap == 90
    with pytest.raises(TokenQuotaExceeded) as refused:
        await quota.hold(AMY, limits, NEED, NOW)
    assert refused.value.headers[b"x-should-retry"] == b"true"
    hold.settle(Usage(20, 30))
    second = await quota.hold(AMY, limits, NEED, NOW)
    assert second.output_cap == 40, "within the same second: what came free is there"
    second.settle(Usage(20, 40))
    with pytest.raises(TokenQuotaExceeded) as refused:
        await quota.hold(AMY, limits, NEED, NOW)
    assert refused.value.headers[b"x-should-retry"] == b"false"
    assert refused.value.headers[b"x-ratelimit-remaining-requests"] == b"13"


async def test_a_burst_that_comes_at_once_is_counted_call_by_call(store: FakeLedger, quota: Quota) -> None:
    store.delay_seconds = 0.01
    limits = event(requests_per_minute=5, requests_per_day=100)
    answers = await asyncio.gather(*(call(quota, limits) for _ in range(20)))
    assert Counter(answers) == {"ok": 5, "rate_limited": 15}


async def test_a_call_that_the_quota_refuses_does_not_count_in_the_minute(
    quota: Quota, store: FakeLedger
) -> None:
    for _ in range(3):
        with pytest.raises(RequestQuotaExceeded):
            await quota.hold(AMY, event(requests_per_minute=1, requests_per_day=0), NEED, NOW)
    assert await call(quota, event(requests_per_minute=1)) == "ok"
    with pytest.raises(RateLimited):
        await quota.hold(AMY, event(requests_per_minute=1), NEED, NOW)


async def test_names_that_somebody_makes_up_do_not_stay_in_memory(store: FakeLedger, clock: Clock) -> None:
    quota = Quota(store, 0.02, clock)
    for number in range(MOST_KEPT + 50):
        limits = (
            event(requests_per_day=5, requests_per_minute=5) if number % 2 else event(requests_per_minute=5)
        )
        await call(quota, limits, Credential("hackathon", f"nobody-{number}"))
    for _ in range(100):
        clock.now += MINUTE * 20
        await asyncio.sleep(0.02)
        if not quota._accounts and not len(quota._minutes):
            break
    assert not quota._accounts and not len(quota._minutes)
    assert await call(quota, event(requests_per_day=5)) == "ok"
    clock.now += 1
    await asyncio.sleep(0.1)
    assert store.row(KEY).granted.requests == 1, "the timer runs again"
    await quota.close()


async def test_one_row_that_cannot_be_written_does_not_keep_the_others_from_going_back(
    store: FakeLedger, quota: Quota
) -> None:
    for who in (AMY, BOB):
        await call(quota, event(requests_per_day=100), who)
    store.order([Fault.BEFORE])
    await quota.sweep(everything=True)
    given = [row.granted == row.used for row in store.rows.values()]
    assert sorted(given) == [False, True]


@pytest.mark.parametrize("nonsense", ["many", "", -1, 2.5])
async def test_a_row_edited_into_nonsense_is_503_and_the_log_names_it(
    azurite: Azurite, stage: Stage, nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    code = await stage.add_event(requests_per_day=5)
    day = datetime.now(UTC).date().isoformat()
    service = open_service(azurite.connection_string, None)
    row = ledger_to_row(Key(code, f"amy:{day}"), Row())
    await service.get_table_client("quotas").upsert_entity(row | {"requests_granted": nonsense})
    answer = await answered(stage.post(headers={"api-key": f"{code}/amy"}, json=QUESTION))
    await service.close()
    assert (answer.status, answer.error["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert not stage.simulator.calls
    assert re.search(rf"row of event {code}, user [0-9a-f]+, day {day} in the table quotas", caplog.text)


# What it learns where an estimate was too low.


async def test_an_estimate_that_was_too_low_is_not_made_twice(store: FakeLedger, quota: Quota) -> None:
    limits = event(tokens_per_day=2000)
    (await quota.hold(AMY, limits, NEED, NOW)).settle(Usage(200, 100))
    holds = [await quota.hold(AMY, limits, NEED, NOW) for _ in range(5)]
    assert [hold.output_cap for hold in holds] == [100] * 5, "each holds 300 tokens now"
    with pytest.raises(TokenQuotaExceeded):
        await quota.hold(AMY, limits, NEED, NOW)
    for hold in holds:
        hold.settle(Usage(200, 100))
    await quota.sweep(everything=True)
    assert store.row(KEY).used.tokens == 1800 <= 2000


async def test_the_event_learns_from_every_user_and_a_user_from_his_own_calls(
    store: FakeLedger, quota: Quota
) -> None:
    limits = event(tokens_per_day=1000, tokens_total=450)
    (await quota.hold(AMY, limits, NEED, NOW)).settle(Usage(200, 0))
    hold = await quota.hold(BOB, limits, NEED, NOW)
    assert hold.output_cap == 50, "of 250 that the event has left, 200 may be his prompt's"
    hold.settle(Usage(19, 51))
    again = await quota.hold(BOB, limits, NEED, NOW)
    assert again.output_cap == 80, "one that was estimated well halves what was added: 180 are left"
    again.release()


async def test_a_call_whose_usage_was_not_reported_teaches_nothing(store: FakeLedger, quota: Quota) -> None:
    limits = event(tokens_per_day=2000)
    (await quota.hold(AMY, limits, NEED, NOW)).settle(Usage(200, 100))
    for unreported in (Usage(), Usage(NEED.prompt_tokens, 3)):
        (await quota.hold(AMY, limits, NEED, NOW)).settle(unreported)
    holds = [await quota.hold(AMY, limits, NEED, NOW) for _ in range(5)]
    with pytest.raises(TokenQuotaExceeded):
        await quota.hold(AMY, limits, NEED, NOW)  # each holds 300 still, of 1,677
    for hold in holds:
        hold.release()
