"""What the quota does when the table fails, is slow, or is edited, and when calls come together."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from datetime import timedelta

import pytest
from msgspec.structs import replace

from shared.core.errors import RateLimited, StoreUnavailable
from shared.core.models import Usage
from shared.core.money import FREE
from shared.core.quota_errors import RequestQuotaExceeded, TokenQuotaExceeded
from shared.quota.amounts import Amount
from shared.quota.exchange import MAX_TRIES
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.quota import Quota
from shared.tables.quota_rows import ledger_to_row
from shared.tables.service import open_service
from tests.clock import Clock, until
from tests.conftest import Stage
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import (
    AMY,
    BOB,
    IDLE_SECONDS,
    KEY,
    NEED,
    NOW,
    call,
    event_with,
    hold_for,
    post,
    row_key,
)
from tools.azurite import Azurite


async def test_endless_conflicts_end_in_503_after_a_bounded_number_of_tries(
    store: FakeLedger, quota: Quota
) -> None:
    store.always = Fault.CONFLICT
    with pytest.raises(StoreUnavailable) as refused:
        await hold_for(quota, AMY, event_with(requests_per_day=10))
    assert int(refused.value.headers[b"retry-after"]) >= 1
    assert store.total_calls <= 2 * MAX_TRIES


async def test_figures_of_an_account_that_was_never_seen_promise_nothing(
    store: FakeLedger, quota: Quota
) -> None:
    store.always = Fault.BEFORE
    event = event_with(requests_per_day=10)
    with pytest.raises(StoreUnavailable):
        await hold_for(quota, AMY, event)
    assert (
        quota.last_known(AMY, event, NOW).headers(NOW.timestamp())[b"x-ratelimit-remaining-requests"] == b"0"
    )


async def test_slow_tables_delay_only_calls_that_need_them(store: FakeLedger, quota: Quota) -> None:
    event = event_with(requests_per_day=1000)
    assert {await call(quota, event) for _ in range(24)} == {"ok"}
    store.paused = True
    waiting = asyncio.create_task(call(quota, event, BOB))
    await asyncio.sleep(0.01)
    assert {await call(quota, event) for _ in range(20)} == {"ok"}, "the last block has 23 left"
    assert not waiting.done()
    store.resume()
    assert await waiting == "ok"


async def test_a_prompt_that_takes_long_to_count_is_not_an_outage_of_the_tables(
    store: FakeLedger, clock: Clock
) -> None:
    quota = Quota(store, IDLE_SECONDS, clock, grant_seconds=1.0)

    async def count() -> int:
        await asyncio.sleep(1.5)
        return 20

    event = event_with(tokens_per_day=1000, tokens_total=1000)
    hold = await quota.hold(AMY, event, replace(NEED, prompt_tokens=5000), count, NOW)
    assert hold.need.prompt_tokens == 20
    await quota.close()


async def test_a_call_does_not_wait_long_for_the_count_of_anothers_prompt(
    store: FakeLedger, clock: Clock
) -> None:
    quota = Quota(store, IDLE_SECONDS, clock, others_seconds=0.01)
    may_count = asyncio.Event()

    async def count_later() -> int:
        await may_count.wait()
        return 20

    plenty, scarce = event_with(tokens_total=10_000_000), event_with(tokens_total=10_000)
    long = await quota.hold(BOB, plenty, replace(NEED, prompt_tokens=2000), count_later, NOW)
    assert await asyncio.wait_for(call(quota, scarce), 10) == "ok"
    may_count.set()
    await until(lambda: long.need.prompt_tokens == 20)
    await quota.close()


async def test_refusal_carries_no_figures_of_a_user(store: FakeLedger, quota: Quota) -> None:
    store.paused = True
    event = event_with(requests_total=10)
    calls = [asyncio.create_task(hold_for(quota, user, event)) for user in (AMY, BOB)]
    await asyncio.sleep(0.01)
    store.resume(Fault.BEFORE)
    first, second = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, StoreUnavailable) and isinstance(second, StoreUnavailable)
    assert first is not second and first.headers is not second.headers
    assert first.headers == second.headers == {b"retry-after": b"5"}


async def test_call_that_ends_on_the_next_day_is_charged_to_the_day_it_began(
    store: FakeLedger, quota: Quota
) -> None:
    event = event_with(requests_per_day=1)
    hold = await hold_for(quota, AMY, event)
    tomorrow = NOW + timedelta(days=1)
    next_day = await hold_for(quota, AMY, event, now=tomorrow)
    hold.settle(Usage(20, 30), FREE)
    next_day.release()
    await quota.sweep(everything=True)
    assert store.row(KEY).used == Amount(1, 50)
    assert store.row(Key("hackathon", "amy:2026-02-01")).used == Amount()


async def test_client_that_disconnects_while_it_waits_leaves_nothing_held(
    store: FakeLedger, quota: Quota
) -> None:
    store.paused = True
    waiting = asyncio.create_task(hold_for(quota, AMY, event_with(requests_per_day=100)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.sleep(0.01)
    store.resume()
    await asyncio.sleep(0.01)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted == Amount()


async def test_used_tokens_are_not_reported_as_used_requests(store: FakeLedger, quota: Quota) -> None:
    event = event_with(requests_per_day=15, tokens_per_day=110)
    hold = await hold_for(quota, AMY, event)
    assert hold.need.output_limit == 90
    with pytest.raises(TokenQuotaExceeded) as refused:
        await hold_for(quota, AMY, event)
    assert refused.value.headers[b"x-should-retry"] == b"true"
    hold.settle(Usage(20, 30), FREE)
    second = await hold_for(quota, AMY, event)
    assert second.need.output_limit == 40, "released tokens are available within the same second"
    second.settle(Usage(20, 40), FREE)
    with pytest.raises(TokenQuotaExceeded) as refused:
        await hold_for(quota, AMY, event)
    assert refused.value.headers[b"x-should-retry"] == b"false"
    assert (
        quota.last_known(AMY, event, NOW).headers(NOW.timestamp())[b"x-ratelimit-remaining-requests"] == b"13"
    )


async def test_simultaneous_calls_each_count_in_the_minute(store: FakeLedger, quota: Quota) -> None:
    store.delay_seconds = 0.01
    event = event_with(requests_per_minute=5, requests_per_day=100)
    outcomes = await asyncio.gather(*(call(quota, event) for _ in range(20)))
    assert Counter(outcomes) == {"ok": 5, "rate_limited": 15}


async def test_call_that_the_quota_refuses_does_not_count_in_the_minute(
    quota: Quota, store: FakeLedger
) -> None:
    for _ in range(3):
        with pytest.raises(RequestQuotaExceeded):
            await hold_for(quota, AMY, event_with(requests_per_minute=1, requests_per_day=0))
    assert await call(quota, event_with(requests_per_minute=1)) == "ok"
    with pytest.raises(RateLimited):
        await hold_for(quota, AMY, event_with(requests_per_minute=1))


@pytest.mark.parametrize("invalid", ["many", "", -1, 2.5])
async def test_row_with_an_invalid_value_is_503_and_the_log_names_it(
    azurite: Azurite, stage: Stage, invalid: object, caplog: pytest.LogCaptureFixture
) -> None:
    code = await stage.add_event(requests_per_day=5)
    key = row_key(code)
    day = key.row.partition(":")[2]
    service = open_service(azurite.connection_string, None)
    row = ledger_to_row(key, LedgerRow())
    await service.get_table_client("quotas").upsert_entity(row | {"requests_granted": invalid})
    refused = await post(stage, code)
    await service.close()
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert not stage.simulator.calls
    assert re.search(rf"row of event {code}, user [0-9a-f]+, day {day} in the table quotas", caplog.text)
