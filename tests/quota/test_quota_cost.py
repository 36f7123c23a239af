"""The table calls that quotas cost, counted at the store."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.models import Credential
from shared.quota.account import REMEMBERED_SECONDS
from shared.quota.amounts import Amount
from shared.quota.ledger_row import LedgerRow
from shared.quota.quota import Quota
from tests.clock import Clock
from tests.conftest import Stage, serve
from tests.fake_ledger import FakeLedger
from tests.quota.helpers import AMY, BOB, KEY, NOW, call, event_with, post, post_many
from tools.azurite import Azurite
from tools.simulator import Simulator
from tools.tap import TableTap

_log = logging.getLogger(__name__)


async def test_steady_use_costs_a_tenth_of_a_table_call_per_request(store: FakeLedger, quota: Quota) -> None:
    event = event_with(requests_per_day=10_000, tokens_per_day=10_000_000, requests_total=100_000)
    assert {await call(quota, event) for _ in range(2000)} == {"ok"}
    assert store.total_calls <= 0.1 * 2000
    _log.info("steady: %.4f table calls per request", store.total_calls / 2000)


async def test_steady_use_of_the_app_costs_few_table_calls(
    azurite: Azurite, stage: Stage, shared_simulator: Simulator, environment: dict[str, str]
) -> None:
    code = await stage.add_event(requests_per_day=10_000)
    tap = TableTap(target=azurite.port)
    async with tap.open():
        settings = {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "60"}
        async with serve(stage.tables, shared_simulator, environment | settings) as instance:

            async def client() -> list[int]:
                return await post_many(instance, code, 100)

            began = asyncio.get_running_loop().time()
            batches = await asyncio.gather(*(client() for _ in range(8)))
            seconds = asyncio.get_running_loop().time() - began
            calls = tap.reads_of("quotas")
    assert Counter(status for batch in batches for status in batch) == {200: 800}
    # The longer it takes, the more grants it needs: at most one for each client and second.
    assert calls <= 0.1 * 800 + 8 * seconds
    _log.info("the app: %.4f table calls per request", calls / 800)


async def test_first_request_of_a_user_costs_one_insert(store: FakeLedger, quota: Quota) -> None:
    event = event_with(requests_per_day=50, tokens_per_day=100_000)
    users = [Credential("hackathon", f"user-{number}") for number in range(200)]
    assert {await call(quota, event, user) for user in users} == {"ok"}
    assert store.calls == {"write": 200}


async def test_returning_user_costs_one_write(store: FakeLedger, quota: Quota, clock: Clock) -> None:
    event = event_with(requests_per_day=50)
    await call(quota, event)
    clock.seconds += 601
    await quota.sweep()
    assert store.row(KEY).granted == store.row(KEY).used
    store.calls.clear()
    await call(quota, event)
    assert store.calls == {"write": 1}


async def test_users_first_call_on_another_instance_costs_three_table_calls(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    other = Quota(store, 600, clock)
    await call(other, event_with(requests_per_day=50))
    store.calls.clear()
    await call(quota, event_with(requests_per_day=50))
    assert store.calls == {"write": 2, "read": 1}
    await other.close()


async def test_refused_client_in_a_loop_costs_one_table_call_a_second(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    event = event_with(requests_per_day=1)
    await call(quota, event)
    store.calls.clear()
    for _ in range(3):
        assert {await call(quota, event) for _ in range(100)} == {"request_quota_exceeded"}
        clock.seconds += REMEMBERED_SECONDS
    assert store.total_calls == 2


async def test_remembered_figures_in_a_loop_cost_one_read_of_each_row_a_second(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    event = event_with(requests_per_day=10, requests_total=100)
    for _ in range(3):
        for _ in range(100):
            standing = await quota.standing(AMY, event, NOW, remembered=True)
            assert standing.remaining.requests == 10
        clock.seconds += REMEMBERED_SECONDS
    assert store.calls == {"read": 2 * 3}


async def test_last_known_figures_cost_no_table_call(store: FakeLedger, quota: Quota) -> None:
    event = event_with(requests_per_day=10, requests_total=100)
    assert quota.last_known(AMY, event, NOW).remaining.requests == 0, (
        "none are promised before the row is seen"
    )
    await call(quota, event)
    store.calls.clear()
    assert quota.last_known(AMY, event, NOW).remaining.requests == 9
    assert store.total_calls == 0


async def test_call_of_an_earlier_limit_does_not_bring_it_back(quota: Quota) -> None:
    before, after = event_with(requests_total=10), event_with(requests_total=2)
    assert await call(quota, before) == await call(quota, after) == "ok"
    assert quota.last_known(BOB, before, NOW).remaining.requests == 8
    assert await call(quota, after) == "event_quota_exceeded"


async def test_figures_of_now_are_read_each_time(store: FakeLedger, quota: Quota) -> None:
    for requests in range(3):
        store.rows[KEY] = LedgerRow(granted=Amount(requests, 0), version=f"{requests}")
        standing = await quota.standing(AMY, event_with(requests_per_day=10), NOW)
        assert standing.remaining.requests == 10 - requests


@pytest.mark.parametrize("why", ["event_ended", "model_not_found"])
async def test_client_in_a_loop_that_the_app_refuses_costs_few_table_calls(
    azurite: Azurite, stage: Stage, shared_simulator: Simulator, environment: dict[str, str], why: str
) -> None:
    ended = {"ends_at": datetime.now(UTC) - timedelta(hours=1)} if why == "event_ended" else {}
    code = await stage.add_event(requests_per_day=10, requests_total=100, **ended)
    async with TableTap(target=azurite.port).open() as tap:
        settings = environment | {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "60"}
        async with serve(stage.tables, shared_simulator, settings) as instance:
            began = asyncio.get_running_loop().time()
            for _ in range(60):
                refused = await post(instance, code, model="no-such")
                assert refused.error["code"] == why
                assert refused.headers["x-ratelimit-remaining-requests"] == "10"
            seconds = asyncio.get_running_loop().time() - began
        assert tap.reads_of("quotas") <= 2 * (1 + seconds / REMEMBERED_SECONDS)


async def test_simultaneous_calls_of_one_user_share_few_writes(store: FakeLedger, quota: Quota) -> None:
    store.delay_seconds = 0.05
    outcomes = await asyncio.gather(*(call(quota, event_with(requests_per_day=10_000)) for _ in range(100)))
    assert set(outcomes) == {"ok"}
    assert store.total_calls <= 3


async def test_simultaneous_calls_beyond_the_quota_are_refused_without_a_write_each(
    store: FakeLedger, quota: Quota
) -> None:
    store.delay_seconds = 0.01
    outcomes = await asyncio.gather(*(call(quota, event_with(requests_per_day=30)) for _ in range(100)))
    assert Counter(outcomes) == {"ok": 30, "request_quota_exceeded": 70}
    assert store.total_calls <= 4
