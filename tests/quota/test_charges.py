"""What a call costs, through the whole app."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace

import pytest

from tests.conftest import EVENT, MODEL, QUESTION, Stage, calls_in_log
from tests.quota.helpers import get_event, post, post_many, row_key, sweep
from tools.simulator import Answer, CutStream, Failure, Raw


async def test_failed_call_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    stage.simulator.behave(MODEL, Failure(503))
    assert await post_many(stage, code, 3) == [502, 200, 429]


async def test_call_that_the_proxy_refuses_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=1)
    assert (await post(stage, code, model="no-such")).status == 404
    assert (await post(stage, code)).status == 200


async def test_call_that_cannot_connect_is_not_charged(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        fill = socket.create_connection(deaf.getsockname())
        model = await stage.add_deployment(endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        await stage.tables.put_event(replace(EVENT, code=code, models=(model,), requests_per_day=10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await post(stage, code, model=model)
        fill.close()
        assert (await get_event(stage, code))["requests"]["remaining"] == 10


async def test_usage_that_the_upstream_reports_is_charged(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=100_000)
    await post(stage, code)
    await post(stage, code, stream=True)
    await sweep(stage)
    row = await stage.tables.read_ledger(row_key(code))
    total = stage.simulator.total(MODEL)
    assert row.used.tokens == row.granted.tokens == total.prompt_tokens + total.completion_tokens > 0


async def test_cut_stream_is_charged_for_what_was_relayed(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=100_000)
    stage.simulator.behave(MODEL, CutStream(after=5))
    await post(stage, code, stream=True)
    await sweep(stage)
    used = (await stage.tables.read_ledger(row_key(code))).used
    assert used.requests == 1 and 0 < used.tokens < 200


async def test_stream_of_a_client_that_reads_nothing_and_leaves_is_charged_for_what_the_model_may_have_made(
    stage: Stage,
) -> None:
    """The buffers between the model and the client hold megabytes, of which little has been relayed."""
    code = await stage.add_event(tokens_per_day=1_000_000)
    stage.simulator.behave(MODEL, Answer("1 0 0 1 " * 4000))
    headers = {"api-key": f"{code}/amy"}
    async with stage.post(headers=headers, json=QUESTION | {"stream": True, "max_tokens": 16_000, "n": 8}):
        sent = -1
        while sent != (sent := stage.simulator.calls[-1].tokens):  # noqa: ASYNC110 - full buffers send no notice
            await asyncio.sleep(0.5)
        await asyncio.sleep(1.5)  # more than `slow_seconds` of the relay, with full buffers
    async with asyncio.timeout(30):
        while (used := (await get_event(stage, code))["tokens"]["used"]) == 0:  # noqa: ASYNC110 - it is charged in the background
            await asyncio.sleep(0.1)
    assert used > 8 * 16_000


async def test_response_with_an_invalid_header_is_charged_and_loses_the_header(stage: Stage) -> None:
    code = await stage.add_event(requests_per_day=10)
    headers = {"content-type": "application/json", "x-request-id": "\u20ac"}
    stage.simulator.behave(MODEL, Raw(200, headers, b'{"choices":[]}'))
    response = await post(stage, code)
    assert response.status == 200 and response.headers["x-request-id"].isascii()
    await sweep(stage)
    assert (await stage.tables.read_ledger(row_key(code))).used.requests == 1


async def test_refusal_by_the_event_total_releases_the_users_request(stage: Stage) -> None:
    code = await stage.add_event(requests_total=1, requests_per_day=5)
    await post(stage, code)
    refused = await post(stage, code)
    await sweep(stage)
    assert (await stage.tables.read_ledger(row_key(code))).granted.requests == 1
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"


async def test_response_id_is_in_the_log(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    code = await stage.add_event()
    stage.simulator.behave(MODEL, Failure(503))
    with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
        ids = [(await post(stage, code)).headers["x-request-id"] for _ in range(2)]
        assert {call["request_id"] for call in calls_in_log(caplog, stage)} >= {*ids}
