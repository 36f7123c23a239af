"""The limits of an event, through the whole app: real tables, the simulated upstream, several instances."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import openai
import pytest

from shared.core.models import Deployment
from shared.quota.standing import TOTAL_ROW, day_of
from shared.tables.service import open_service
from tests.clock import until
from tests.conftest import EVENT, MODEL, QUESTION, Stage, serve
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import get_event, post, post_many, row_key, sweep
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Answer, Simulator

REMAINING = "x-ratelimit-remaining-requests"


async def test_request_after_the_last_is_refused_with_the_reset_time(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=3, time_zone=ZoneInfo("Europe/Berlin"))
    responses = [await post(stage, code) for _ in range(4)]
    assert [response.status for response in responses] == [200, 200, 200, 429]
    assert [response.headers[REMAINING] for response in responses] == ["2", "1", "0", "0"]
    refused = responses[-1]
    assert b"request_quota_exceeded" in refused.body
    assert b"Europe/Berlin" in refused.body and b"UTC" in refused.body
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["x-ratelimit-reset-requests"]) <= 25 * 3600
    assert len(stage.simulator.calls) == 3


async def test_quota_of_zero_admits_no_call(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=0)
    refused = await post(stage, code)
    assert (refused.status, refused.headers[REMAINING]) == (429, "0")
    assert b"request_quota_exceeded" in refused.body


async def test_users_do_not_share_a_quota(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    statuses = [(await post(stage, code, user)).status for user in ("amy", "bob", "amy")]
    assert statuses == [200, 200, 429]


async def test_output_cap_is_lowered_to_what_remains(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=300, max_output_tokens=1000)
    response = await post(stage, code)
    assert response.status == 200
    cap = int(response.headers["x-event-max-output-tokens"])
    assert 16 <= cap < 300
    assert stage.simulator.calls[0].json["max_completion_tokens"] == cap


async def test_call_with_too_few_tokens_left_for_a_useful_answer_is_refused(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=20)
    refused = await post(stage, code)
    assert refused.status == 429 and b"token_quota_exceeded" in refused.body
    assert refused.headers["x-ratelimit-remaining-tokens"] == "20"
    assert not stage.simulator.calls


async def test_event_total_has_its_own_refusal(stage: Stage) -> None:
    code = await stage.add_event(requests_total=2, organizer="Kim")
    statuses = [(await post(stage, code, user)).status for user in ("amy", "bob", "cat")]
    refused = await post(stage, code, "dan")
    assert statuses == [200, 200, 429]
    assert b"event_quota_exceeded" in refused.body and b"Kim" in refused.body
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers, "waiting does not help"


@pytest.mark.parametrize("limit", [{"requests_total": 1}, {"tokens_total": 60}, {}])
async def test_event_shows_whether_its_total_is_used(stage: Stage, limit: dict[str, int]) -> None:
    code = await stage.add_event(**limit)

    async def is_used() -> object:
        return (await get_event(stage, code, "bob"))["total_is_used"]

    assert await is_used() is False
    gate = stage.simulator.gate(MODEL)
    running = asyncio.create_task(post(stage, code))
    await gate.arrived()
    assert await is_used() is False, "a running call has used nothing yet"
    gate.open_all()
    assert (await running).status == 200
    stage.simulator.always(MODEL, Answer(text="word " * 60))
    await post(stage, code)
    assert await is_used() is bool(limit)


async def test_requests_per_minute_have_a_true_retry_after(stage: Stage) -> None:
    code = await stage.add_event(requests_per_minute=2)
    responses = [await post(stage, code) for _ in range(3)]
    assert [response.status for response in responses] == [200, 200, 429]
    refused = responses[-1]
    assert refused.error["code"] == "rate_limited"
    seconds = int(refused.headers["retry-after"])
    assert 1 <= seconds <= 60 and int(refused.headers["retry-after-ms"]) <= 60_000
    assert refused.error["message"] in {
        f"Too many requests: the limit is 2 per minute. Try again in {seconds} seconds.",
        "Too many requests: the limit is 2 per minute. Try again in 1 second.",
    }


async def test_limit_of_0_requests_per_minute_does_not_promise_that_waiting_helps(stage: Stage) -> None:
    refused = await post(stage, await stage.add_event(requests_per_minute=0))
    assert refused.error["message"] == (
        "This event's limit is 0 requests per minute. Ask your organiser to raise it."
    )
    assert (refused.error["code"], refused.headers["retry-after"]) == ("rate_limited", "60")


async def test_event_page_and_headers_show_the_same_figures(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10, tokens_per_day=50_000)
    response = await post(stage, code)
    event = await get_event(stage, code)
    assert event["requests"] == {"limit": 10, "used": 1, "remaining": 9}
    assert str(event["tokens"]["remaining"]) == response.headers["x-ratelimit-remaining-tokens"]
    assert event["tokens"]["used"] + event["tokens"]["remaining"] == 50_000


async def test_responses_that_cost_nothing_have_the_figures_too(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=9)
    refused = await post(stage, code, model="no-such")
    async with stage.http.get(f"{stage.url}/v1/models", headers={"api-key": f"{code}/amy"}) as response:
        assert response.headers[REMAINING] == refused.headers[REMAINING] == "9"


async def test_users_refused_by_the_same_failed_write_see_their_own_figures(
    stage: Stage, shared_simulator: Simulator, environment: dict[str, str]
) -> None:
    code = await stage.add_event(requests_per_day=10, requests_total=1000)
    ledger = FakeLedger()
    async with serve(stage.tables, shared_simulator, environment) as instance:
        accounts = instance.web._open().quota._accounts
        accounts._store = ledger
        for user in ("amy", "bob", "bob", "bob"):
            assert (await post(instance, code, user)).status == 200
        await sweep(instance)
        ledger.paused = True
        calls = [asyncio.create_task(post(instance, code, user)) for user in ("amy", "bob")]
        await until(lambda: len(ledger.waiting) == 2)
        for operation in ledger.waiting:
            operation.outcome.set_result(Fault.NONE)
        ledger.waiting.clear()
        await until(lambda: accounts._exchanges[code, TOTAL_ROW].account.wanted.requests == 2)
        ledger.resume(Fault.BEFORE)
        responses = await asyncio.gather(*calls)
    assert [response.status for response in responses] == [503, 503]
    assert [response.headers[REMAINING] for response in responses] == ["9", "7"]


async def test_lowered_quota_takes_effect_and_is_never_shown_below_zero(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=100)
    await post_many(stage, code, 3)
    event = await stage.tables.event(code)
    assert event is not None
    await stage.tables.put_event(replace(event, requests_per_day=2))
    refused = await post(stage, code)
    assert (refused.status, refused.headers[REMAINING]) == (429, "0")
    await stage.tables.put_event(replace(event, requests_per_day=5))
    assert await post_many(stage, code, 3) == [200, 200, 429]


async def test_sdk_does_not_retry_a_call_that_the_quota_refused(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=0)
    client = openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key=f"{code}/amy")
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model=MODEL, messages=QUESTION["messages"])  # type: ignore[arg-type]
    assert refused.value.code == "request_quota_exceeded"
    assert not stage.simulator.calls
    await client.close()


async def test_four_instances_give_out_exactly_the_quota(
    stage: Stage, shared_simulator: Simulator, environment: dict[str, str]
) -> None:
    code = await stage.add_event(requests_per_day=200, parallel=32)
    async with AsyncExitStack() as stack:
        instances = [
            await stack.enter_async_context(
                serve(stage.tables, shared_simulator, environment | {"PROXY_CACHE_SECONDS": "30"})
            )
            for _ in range(4)
        ]

        async def client(number: int) -> list[int]:
            return [(await post(instances[(number + n) % 4], code)).status for n in range(10)]

        batches = await asyncio.gather(*map(client, range(32)))
        for instance in instances:
            await sweep(instance)
    assert Counter(status for batch in batches for status in batch) == {200: 200, 429: 120}
    row = await stage.tables.read_ledger(row_key(code))
    assert row.granted.requests == row.used.requests == 200


async def test_grant_can_be_spent_while_the_tables_are_down_and_no_more(
    shared_simulator: Simulator, environment: dict[str, str], stage: Stage
) -> None:
    with Azurite(None) as own:
        tables = Tables(open_service(own.connection_string, None))
        await tables.create_tables()
        await tables.put_event(replace(EVENT, requests_per_day=64))
        await tables.put_deployment(
            Deployment(MODEL, MODEL, shared_simulator.url, MODEL, auth="SIMULATOR_KEY")
        )
        changes = {"PROXY_TABLES": own.connection_string, "PROXY_CACHE_SECONDS": "60"}
        async with serve(tables, shared_simulator, environment | changes) as instance:
            assert await post_many(instance, "hackathon", 4) == [200] * 4
            own.kill()
            statuses = await post_many(instance, "hackathon", 4)
            assert statuses == [200, 200, 200, 503], "three are left of the last block"
            own.start()
        await tables.close()


def test_quota_day_follows_the_clock_changes_of_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    lengths = [
        (day.ends_at - day.begins_at).total_seconds() / 3600
        for noon in ((2026, 3, 29), (2026, 10, 25), (2026, 11, 1))
        for day in [day_of(datetime(*noon, 12, tzinfo=UTC), berlin)]
    ]
    assert lengths == [23, 25, 24]
    assert day_of(datetime(2026, 11, 30, 23, 30, tzinfo=UTC), berlin).name == "2026-12-01"
