"""Quotas through the whole app: real tables, the simulated upstream, several instances."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import openai
import pytest

from shared.core.models import Deployment
from shared.quota.ledger_row import Key
from shared.quota.standing import day_of
from shared.tables.service import open_service
from tests.conftest import EVENT, MODEL, QUESTION, Stage, calls_in_log, serve
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Answer, CutStream, Failure, Raw, Simulator

REMAINING = "x-ratelimit-remaining-requests"


async def _ask(
    stage: Stage, code: str, user: str = "amy", **body: object
) -> tuple[int, dict[str, str], bytes]:
    async with stage.post(headers={"api-key": f"{code}/{user}"}, json=QUESTION | body) as answer:
        return (
            answer.status,
            {name.lower(): value for name, value in answer.headers.items()},
            await answer.read(),
        )


def _key(code: str, user: str = "amy") -> Key:
    return Key(code, f"{user}:{datetime.now(UTC).date().isoformat()}")


async def _settled(stage: Stage) -> None:
    wiring = stage.web._wiring
    assert wiring is not None
    await wiring.quota.sweep(everything=True)


async def test_the_request_after_the_last_is_refused_with_the_reset_time(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=3, time_zone=ZoneInfo("Europe/Berlin"))
    answers = [await _ask(stage, code) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    assert [headers[REMAINING] for _, headers, _ in answers] == ["2", "1", "0", "0"]
    _, headers, body = answers[-1]
    assert b"request_quota_exceeded" in body and b"Europe/Berlin" in body and b"UTC" in body
    assert headers["x-should-retry"] == "false"
    assert 0 < int(headers["retry-after"]) <= 25 * 3600
    assert len(stage.simulator.calls) == 3


async def test_a_quota_of_zero_lets_nobody_in(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=0)
    status, headers, body = await _ask(stage, code)
    assert (status, headers[REMAINING]) == (429, "0") and b"request_quota_exceeded" in body


async def test_users_do_not_share_a_quota(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    assert [(await _ask(stage, code, user))[0] for user in ("amy", "bob", "amy")] == [200, 200, 429]


async def test_a_call_that_failed_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    stage.simulator.behave(MODEL, Failure(503))
    statuses = [(await _ask(stage, code))[0] for _ in range(3)]
    assert statuses == [502, 200, 429]


async def test_a_refusal_of_ours_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    assert (await _ask(stage, code, model="no-such"))[0] == 404
    assert (await _ask(stage, code))[0] == 200


async def test_what_the_upstream_reported_is_charged(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=100_000)
    await _ask(stage, code)
    await _ask(stage, code, stream=True)
    await _settled(stage)
    row = await stage.tables.read(_key(code))
    total = stage.simulator.total(MODEL)
    assert row.used.tokens == row.granted.tokens == total.prompt_tokens + total.completion_tokens > 0


async def test_a_stream_that_was_cut_is_charged_by_what_was_relayed(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=100_000)
    stage.simulator.behave(MODEL, CutStream(after=5))
    await _ask(stage, code, stream=True)
    await _settled(stage)
    used = (await stage.tables.read(_key(code))).used
    assert used.requests == 1 and 0 < used.tokens < 200


async def test_the_output_cap_is_lowered_to_what_remains(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=300, max_output_tokens=1000)
    status, headers, _ = await _ask(stage, code)
    assert status == 200
    cap = int(headers["x-event-max-output-tokens"])
    assert 16 <= cap < 300
    assert stage.simulator.calls[0].json["max_completion_tokens"] == cap


async def test_tokens_that_leave_no_useful_answer_are_a_refusal(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=20)
    status, headers, body = await _ask(stage, code)
    assert status == 429 and b"token_quota_exceeded" in body
    assert headers["x-ratelimit-remaining-tokens"] == "20"
    assert not stage.simulator.calls


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_total"])
async def test_a_call_that_can_never_fit_is_told_to_be_shorter_and_not_to_wait(
    stage: Stage, limit: str
) -> None:
    code = await stage.add_event(**{limit: 200})
    assert (await _ask(stage, code))[0] == 200
    long = [{"role": "user", "content": "What is a glove box? " * 100}]
    status, headers, body = await _ask(stage, code, messages=long)
    kind = "token_quota_exceeded" if limit == "tokens_per_day" else "event_quota_exceeded"
    error = json.loads(body)["error"]
    assert (status, error["code"]) == (429, kind)
    assert re.fullmatch(
        r"This call may cost [\d,]+ tokens, more than the 200 that .*\. Send less\.", error["message"]
    )
    assert headers["x-should-retry"] == "false" and "retry-after" not in headers
    assert (await _ask(stage, code))[0] == 200, "what is left is left"


async def test_a_call_that_can_never_fit_for_its_many_answers_is_told_so(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=1000)
    status, _, body = await _ask(stage, code, n=100)
    assert status == 429 and b"Send less, or ask for fewer answers (n)." in body


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("tokens_per_day", "You have 10 tokens a day: too few for any call. Ask"),
        ("tokens_total", "used all that"),
    ],
)
async def test_a_limit_that_is_too_small_for_any_call_is_the_organisers_to_change(
    stage: Stage, limit: str, told: str
) -> None:
    code = await stage.add_event(**{limit: 10})
    status, headers, body = await _ask(stage, code)
    assert status == 429 and "retry-after" not in headers
    assert told in json.loads(body)["error"]["message"]
    assert "Ask your organiser" in json.loads(body)["error"]["message"]


async def test_a_long_call_to_an_event_whose_total_is_used_is_not_told_to_be_shorter(stage: Stage) -> None:
    code = await stage.add_event(tokens_total=200)
    stage.simulator.always(MODEL, Answer(text="word " * 300))
    assert (await _ask(stage, code))[0] == 200
    status, _, body = await _ask(stage, code, messages=[{"role": "user", "content": "glove box " * 200}])
    assert status == 429 and b"has used all that it may" in body


async def test_running_calls_that_hold_the_rest_are_told_as_such(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=400, max_output_tokens=1000)
    gate = stage.simulator.gate(MODEL)
    first = asyncio.create_task(_ask(stage, code))
    await gate.arrived()
    status, headers, body = await _ask(stage, code)
    assert status == 429 and b"still running" in body
    assert (headers["x-should-retry"], headers["retry-after"]) == ("true", "2")
    gate.open_all()
    assert (await first)[0] == 200


async def test_the_event_total_is_its_own_refusal(stage: Stage) -> None:
    code = await stage.add_event(requests_total=2, organizer="Kim")
    statuses = [(await _ask(stage, code, user))[0] for user in ("amy", "bob", "cat")]
    _, headers, body = await _ask(stage, code, "dan")
    assert statuses == [200, 200, 429]
    assert b"event_quota_exceeded" in body and b"Kim" in body
    assert headers["x-should-retry"] == "false" and "retry-after" not in headers, "no day renews it"


@pytest.mark.parametrize("limit", [{"requests_total": 1}, {"tokens_total": 60}, {}])
async def test_the_event_tells_whether_its_total_is_used(stage: Stage, limit: dict[str, int]) -> None:
    code = await stage.add_event(**limit)

    async def told() -> object:
        async with stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/bob"}) as answer:
            return (await answer.json())["total_is_used"]

    assert await told() is False
    gate = stage.simulator.gate(MODEL)
    running = asyncio.create_task(_ask(stage, code))
    await gate.arrived()
    assert await told() is False, "what a running call holds is not used yet"
    gate.open_all()
    assert (await running)[0] == 200
    stage.simulator.always(MODEL, Answer(text="word " * 60))
    await _ask(stage, code)
    assert await told() is bool(limit)


async def test_a_refusal_by_the_event_total_gives_the_users_request_back(stage: Stage) -> None:
    code = await stage.add_event(requests_total=1, requests_per_day=5)
    await _ask(stage, code)
    _, headers, _ = await _ask(stage, code)
    await _settled(stage)
    assert (await stage.tables.read(_key(code))).granted.requests == 1
    assert headers[REMAINING] == "0"


async def test_requests_per_minute_have_a_true_retry_after(stage: Stage) -> None:
    code = await stage.add_event(requests_per_minute=2)
    answers = [await _ask(stage, code) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    _, headers, body = answers[-1]
    assert b"rate_limited" in body
    assert 1 <= int(headers["retry-after"]) <= 60 and int(headers["retry-after-ms"]) <= 60_000


async def test_the_event_page_and_the_headers_show_the_same_numbers(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10, tokens_per_day=50_000)
    _, headers, _ = await _ask(stage, code)
    async with stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/amy"}) as answer:
        event = await answer.json()
    assert event["requests"] == {"limit": 10, "used": 1, "remaining": 9}
    assert str(event["tokens"]["remaining"]) == headers["x-ratelimit-remaining-tokens"]
    assert event["tokens"]["used"] + event["tokens"]["remaining"] == 50_000


async def test_a_lowered_quota_takes_effect_and_is_never_shown_below_zero(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=100)
    for _ in range(3):
        await _ask(stage, code)
    event = await stage.tables.event(code)
    assert event is not None
    await stage.tables.put_event(replace(event, requests_per_day=2))
    status, headers, _ = await _ask(stage, code)
    assert (status, headers[REMAINING]) == (429, "0")
    await stage.tables.put_event(replace(event, requests_per_day=5))
    assert [(await _ask(stage, code))[0] for _ in range(3)] == [200, 200, 429]


async def test_the_sdk_does_not_repeat_a_call_that_the_quota_refused(stage: Stage) -> None:
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
    code = await stage.add_event(requests_per_day=200)
    async with AsyncExitStack() as stack:
        instances = [
            await stack.enter_async_context(
                serve(stage.tables, shared_simulator, environment | {"PROXY_CACHE_SECONDS": "30"})
            )
            for _ in range(4)
        ]

        async def client(number: int) -> list[int]:
            return [(await _ask(instances[(number + n) % 4], code))[0] for n in range(10)]

        statuses = Counter(
            status for batch in await asyncio.gather(*map(client, range(32))) for status in batch
        )
        for instance in instances:
            await _settled(instance)
    assert statuses == {200: 200, 429: 120}
    row = await stage.tables.read(_key(code))
    assert row.granted.requests == row.used.requests == 200


async def test_what_is_granted_can_be_spent_while_the_tables_are_down_and_no_more(
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
            assert (await _ask(instance, "hackathon"))[0] == 200
            own.kill()
            statuses = [(await _ask(instance, "hackathon"))[0] for _ in range(4)]
            assert statuses == [200, 200, 200, 503]
            own.start()
        await tables.close()


def test_the_quota_day_follows_the_clock_changes_of_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    lengths = [
        (day.ends_at - day.begins_at).total_seconds() / 3600
        for noon in ((2026, 3, 29), (2026, 10, 25), (2026, 11, 1))
        for day in [day_of(datetime(*noon, 12, tzinfo=UTC), berlin)]
    ]
    assert lengths == [23, 25, 24]
    assert day_of(datetime(2026, 11, 30, 23, 30, tzinfo=UTC), berlin).name == "2026-12-01"


async def test_a_call_that_never_went_out_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        fill = [socket.create_connection(deaf.getsockname()) for _ in range(1)]
        model = await stage.add_deployment(endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        await stage.tables.put_event(replace(EVENT, code=code, models=(model,), requests_per_day=10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await _ask(stage, code, model=model)
        for one in fill:
            one.close()
        async with stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/amy"}) as answer:
            assert (await answer.json())["requests"]["remaining"] == 10


async def test_an_upstream_header_that_is_no_text_is_left_out(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10)
    odd = {"content-type": "application/json", "x-request-id": "\u20ac"}
    stage.simulator.behave(MODEL, Raw(200, odd, b'{"choices":[]}'))
    status, headers, _ = await _ask(stage, code)
    assert status == 200 and headers["x-request-id"].isascii()
    await _settled(stage)
    assert (await stage.tables.read(_key(code))).used.requests == 1


async def test_the_answers_id_stands_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    code = await stage.add_event()
    stage.simulator.behave(MODEL, Failure(503))
    with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
        ids = [(await _ask(stage, code))[1]["x-request-id"] for _ in range(2)]
        assert {call["request_id"] for call in calls_in_log(caplog, stage)} >= {*ids}


async def test_answers_that_cost_nothing_have_the_numbers_too(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=9)
    _, refused, _ = await _ask(stage, code, model="no-such")
    async with stage.http.get(f"{stage.url}/v1/models", headers={"api-key": f"{code}/amy"}) as answer:
        assert answer.headers[REMAINING] == refused[REMAINING] == "9"


async def test_running_calls_of_others_are_told_as_the_events(stage: Stage) -> None:
    code = await stage.add_event(tokens_total=400, max_output_tokens=1000)
    gate = stage.simulator.gate(MODEL)
    first = asyncio.create_task(_ask(stage, code))
    await gate.arrived()
    status, headers, body = await _ask(stage, code, "bob")
    assert status == 429 and b"event_quota_exceeded" in body and b"Your" not in body
    assert headers["retry-after"] == "2"
    gate.open_all()
    assert (await first)[0] == 200
