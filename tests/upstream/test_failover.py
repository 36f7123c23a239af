"""Failing deployments on real sockets: the response to the attendee, and the state of the deployment."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.core.models import Health
from tests.conftest import Stage, calls_in_log
from tests.responses import WireResponse, response_of
from tests.wire import Peer, full_listener, scripted_upstream
from tools.azurite import Azurite
from tools.ports import free
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    EveryOther,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    Raw,
    RawSocket,
    ResetBeforeHeaders,
    Simulator,
    Slow,
    TooLong,
    WrongType,
)
from tools.simulator import Deployment as SimulatedDeployment
from tools.tap import TableTap

pytestmark = pytest.mark.one_python

BUSY = (429, "upstream_busy")
ERROR = (502, "upstream_error")
TIMEOUT = (504, "upstream_timeout")
SERVED = (200, None)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
async def hasty(running: Stage) -> AsyncIterator[Stage]:
    """An instance with short time limits for the upstream. A slow machine reaches them too: for timeouts only."""
    async with running.instance(
        PROXY_UPSTREAM_TIMEOUT_SECONDS="5",
        PROXY_UPSTREAM_FIRST_BYTE_SECONDS="1",
        PROXY_UPSTREAM_CONNECT_SECONDS="1",
    ) as stage:
        yield stage


@dataclass(frozen=True)
class Row:
    """A failure. Where `behaviour` is None, no server listens at the address of the deployment."""

    behaviour: Behaviour | None
    alone: tuple[int, str | None]
    """The status and the error code for the attendee if there is no other deployment."""
    health: str | None
    """The status in the health of the deployment. None: it has not failed."""
    cooled: float = 10
    """The cool-down, in seconds."""
    with_another: tuple[int, str | None] = SERVED
    """The status and the error code for the attendee if another deployment works."""
    stream: bool | None = None
    """True: for streams only. False: for plain responses only. None: for both."""


def busy(seconds: float, **headers: Any) -> Row:
    return Row(RateLimited(**headers), BUSY, "429", seconds)


MATRIX = {
    "refused": Row(None, ERROR, "unreachable"),
    "reset-before-headers": Row(ResetBeforeHeaders(), ERROR, "unreachable"),
    "closed-before-headers": Row(ResetBeforeHeaders("close"), ERROR, "unreachable"),
    "not-http": Row(RawSocket(), ERROR, "unreachable"),
    "half-a-header": Row(RawSocket(b"HTTP/1.1 200 OK\r\ncontent-ty"), ERROR, "unreachable"),
    "slow-headers": Row(Slow(headers_seconds=60), TIMEOUT, "timeout", stream=True),
    "slow-headers-plain": Row(
        Slow(headers_seconds=60), TIMEOUT, "timeout", with_another=TIMEOUT, stream=False
    ),
    "slow-chunks": Row(Slow(between_seconds=0.03), SERVED, None),
    "cut-body": Row(CutBody(), ERROR, "cut", stream=False),
    "reset-body": Row(CutBody("reset"), ERROR, "cut", stream=False),
    "cut-stream": Row(CutStream(), SERVED, None, stream=True),
    "reset-stream": Row(CutStream(cut="reset"), SERVED, None, stream=True),
    "408": Row(Failure(408), ERROR, "408"),
    "429-bare": busy(10),
    "429-ms": busy(1.5, retry_after_ms=1500),
    "429-ms-first": busy(2, retry_after_ms=2000, retry_after=9),
    "429-seconds": busy(7, retry_after=7),
    "429-reset-requests": busy(4, reset_requests=4),
    "429-reset-tokens": busy(3, reset_tokens=3),
    "429-reset-in-the-form-of-openai": busy(6.5, reset_tokens="6s500ms"),
    "429-at-once": busy(1, retry_after=0, reset_requests=-1),
    "429-unknown": busy(10, retry_after=-1, reset_requests=0),
    "429-nonsense": busy(10, retry_after="soon"),
    "429-one-day": busy(60, retry_after=86400),
    "500": Row(Failure(500), ERROR, "500"),
    "502": Row(Failure(502), ERROR, "502"),
    "503": Row(Failure(503), ERROR, "503"),
    "503-retry-after": Row(Failure(503, headers={"retry-after": "5"}), ERROR, "503", 5),
    "503-at-once": Row(Failure(503, headers={"retry-after": "0"}), ERROR, "503", 1),
    "503-reset-tokens": Row(Failure(503, headers={"x-ratelimit-reset-tokens": "5"}), ERROR, "503"),
    "504": Row(Failure(504), ERROR, "504"),
    "307": Row(Failure(307, b"", {"location": "http://127.0.0.1:1/"}), ERROR, "307"),
    "401": Row(Failure(401), ERROR, "401", 60),
    "403": Row(Failure(403), ERROR, "403", 60),
    "404": Row(Failure(404), ERROR, "404", 60),
    "404-with-a-code": Row(Failure(404, b'{"error":{"code":"no_such_file"}}'), (404, "no_such_file"), None),
    "garbage": Row(Garbage(), ERROR, "invalid response", stream=False),
    "garbage-in-a-stream": Row(Garbage(), SERVED, None, stream=True),
    "wrong-type": Row(WrongType(), ERROR, "invalid response"),
    "empty": Row(Raw(), ERROR, "invalid response"),
    "content-filter": Row(FilteredPrompt(), (400, "content_filter"), None),
    "too-long": Row(TooLong(), (400, "context_length_exceeded"), None),
    "409": Row(Failure(409), (409, "409"), None),
    "422": Row(Failure(422), (422, "422"), None),
}
CASES = [
    pytest.param(row, stream, id=f"{name}-{'stream' if stream else 'plain'}")
    for name, row in MATRIX.items()
    for stream in (False, True)
    if row.stream in {None, stream}
]


async def model_with(stage: Stage, behaviour: Behaviour | None) -> str:
    """A model whose only deployment behaves like this."""
    model = await stage.add_deployment()
    if behaviour is None:
        await put_deployment(stage, model, model, endpoint=f"http://127.0.0.1:{free()}")
    else:
        stage.simulator.always(model, behaviour)
    return model


async def put_deployment(stage: Stage, model: str, name: str, **fields: Any) -> None:
    """Add a deployment of the model, or replace the one with this name."""
    changes = {"model": model, "id": name, "deployment_name": name} | fields
    await stage.add_deployment(**changes)


_events: dict[str, str] = {}
"""The event of each model."""


async def chat(stage: Stage, model: str, user: str = "ann", **body: Any) -> WireResponse:
    """Call the model at its own event."""
    if model not in _events:
        _events[model] = await stage.add_event(models=(model,))
    return await stage.chat(_events[model], user, model=model, **body)


def outcome(response: WireResponse) -> tuple[int, str | None]:
    return response.status, None if response.status == 200 else response.error["code"]


async def health_of(stage: Stage, model: str, name: str) -> Health:
    async with asyncio.timeout(20):
        while (health := (await stage.tables.health()).get((model, name))) is None:  # noqa: ASYNC110 - tables send no notice
            await asyncio.sleep(0.01)
    return health


def calls_of(stage: Stage, name: str) -> int:
    return sum(call.deployment == name for call in stage.simulator.calls)


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_the_only_deployment_fails_with_the_documented_response(
    stage: Stage, hasty: Stage, row: Row, stream: bool
) -> None:
    model = await model_with(stage, row.behaviour)
    response = await chat(hasty if row.alone == TIMEOUT else stage, model, stream=stream)
    assert outcome(response) == row.alone
    if response.status != 200:
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"]
    assert len(stage.simulator.calls) == (row.behaviour is not None)


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_another_deployment_serves_if_one_fails(
    stage: Stage, hasty: Stage, row: Row, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = await model_with(stage, row.behaviour)
    await put_deployment(stage, model, f"{model}-other", priority=2)
    instance = hasty if row.alone == TIMEOUT else stage
    with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
        response = await chat(instance, model, stream=stream)
        line = calls_in_log(caplog, instance)[-1]
    passed_on = row.health is None
    tries = 1 if passed_on or row.with_another == TIMEOUT else 2
    assert outcome(response) == (row.alone if passed_on else row.with_another)
    assert calls_of(stage, model) == (row.behaviour is not None)
    assert calls_of(stage, f"{model}-other") == tries - 1
    assert line["attempts"] == tries
    assert line["deployment"] == (model if tries == 1 else f"{model}-other")
    if row.health is not None:
        health = await health_of(stage, model, model)
        assert health.status == row.health
        assert health.cooling_until is not None
        assert (health.cooling_until - health.seen_at).total_seconds() == pytest.approx(row.cooled, abs=0.01)
        before = calls_of(stage, model)
        assert outcome(await chat(instance, model)) == SERVED
        assert calls_of(stage, model) == before
    else:
        assert outcome(await chat(instance, model, stream=stream)) == row.alone
        health = await health_of(stage, model, model)
        assert (health.status, health.cooling_until) == ("ok", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_call_does_not_cool_down_a_deployment_that_responds_to_others(
    stage: Stage, hasty: Stage, stream: bool
) -> None:
    model = await stage.add_deployment()
    gate = stage.simulator.gate(model)
    slow = asyncio.create_task(chat(hasty, model, stream=stream))
    await gate.arrived()
    assert outcome(await chat(hasty, model)) == SERVED
    assert outcome(await slow) == TIMEOUT
    await put_deployment(stage, model, f"{model}-other", priority=2)
    assert outcome(await chat(hasty, model)) == SERVED
    assert calls_of(stage, f"{model}-other") == 0
    health = await health_of(stage, model, model)
    assert (health.status, health.cooling_until) == ("ok", None)


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux keeps connections waiting when the queue is full"
)
async def test_a_call_fails_over_from_a_deployment_that_accepts_no_connection(
    stage: Stage, hasty: Stage
) -> None:
    with full_listener() as port:
        model = await stage.add_deployment(endpoint=f"http://127.0.0.1:{port}")
        assert outcome(await chat(hasty, model)) == ERROR
        await put_deployment(stage, model, f"{model}-other", priority=2)
        assert outcome(await chat(hasty, model)) == SERVED
        assert (await health_of(stage, model, model)).status == "unreachable"


async def test_four_hundred_calls_succeed_with_one_of_three_deployments_dead_and_one_often_busy(
    stage: Stage,
) -> None:
    model = await model_with(stage, ResetBeforeHeaders())
    for name, behaviour in (("half", EveryOther(RateLimited(retry_after_ms=100))), ("healthy", None)):
        await put_deployment(stage, model, f"{model}-{name}")
        if behaviour:
            stage.simulator.always(f"{model}-{name}", behaviour)
    started = asyncio.get_running_loop().time()
    statuses: Counter[int] = Counter()

    async def attendee(number: int) -> None:
        for turn in range(20):
            response = await chat(stage, model, f"user-{number}", stream=bool(turn % 2))
            statuses[response.status] += 1

    await asyncio.gather(*(attendee(number) for number in range(20)))
    seconds = asyncio.get_running_loop().time() - started
    assert statuses == {200: 400}
    totals = {name: total.calls for name, total in stage.simulator.totals.items()}
    # The first 20 calls run at the same time. Then single calls probe it, after 10 seconds, 20 seconds and so on.
    assert 1 <= totals[model] <= 20 + seconds / 10
    assert totals[f"{model}-half"] > 10
    assert totals[f"{model}-half"] + totals[f"{model}-healthy"] >= 400


async def test_a_429_has_the_earliest_recovery_if_all_deployments_are_at_their_limit(
    stage: Stage,
) -> None:
    model = await model_with(stage, RateLimited(retry_after=50))
    await put_deployment(stage, model, f"{model}-other")
    stage.simulator.always(f"{model}-other", RateLimited(retry_after=20))
    for attempt in range(3):
        response = await chat(stage, model)
        assert outcome(response) == BUSY
        assert 18_000 < int(response.headers["retry-after-ms"]) <= 20_000
        assert "x-should-retry" not in response.headers
        assert len(stage.simulator.calls) == 2, attempt


async def test_a_429_whose_body_never_ends_is_a_429(stage: Stage) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 1000\r\n\r\n{")
        await peer.until_closed()

    async with scripted_upstream(script) as wire:
        model = await stage.add_deployment(endpoint=f"http://127.0.0.1:{wire.port}")
        response = await chat(stage, model)
        assert outcome(response) == BUSY
        assert 0 < int(response.headers["retry-after-ms"]) <= 7_000
        await wire.all_closed()


async def test_a_refused_key_that_is_fixed_at_azure_works_at_once(stage: Stage) -> None:
    model = await model_with(stage, Failure(401))
    for user in ("ann", "ann", "bob", "cat"):
        assert outcome(await chat(stage, model, user)) == ERROR
    assert len(stage.simulator.calls) == 4
    stage.simulator.always(model, Answer())
    assert outcome(await chat(stage, model)) == SERVED


async def test_a_refusal_by_the_attendees_data_source_is_passed_on_without_a_cool_down(
    stage: Stage,
) -> None:
    model = await model_with(stage, Failure(403))
    for _ in range(2):
        response = await chat(stage, model, data_sources=[{"type": "azure_search"}])
        assert outcome(response) == (403, "403")
    assert len(stage.simulator.calls) == 2


async def test_a_call_that_fails_over_counts_as_one_request(stage: Stage) -> None:
    model = await model_with(stage, Failure(500))
    await put_deployment(stage, model, f"{model}-other", priority=2)
    _events[model] = await stage.add_event(models=(model,), requests_per_day=10, tokens_per_day=100_000)
    response = await chat(stage, model)
    assert (response.status, response.headers["x-ratelimit-remaining-requests"]) == (200, "9")
    used = response.json["usage"]["total_tokens"]
    assert response.headers["x-ratelimit-remaining-tokens"] == str(100_000 - used)


async def test_a_client_that_disconnects_from_a_stream_ends_the_running_try_and_starts_no_other(
    stage: Stage,
) -> None:
    model = await model_with(stage, Slow(headers_seconds=60))
    await put_deployment(stage, model, f"{model}-other", priority=2)
    event = await stage.add_event(models=(model,), default_model=model)
    call = asyncio.create_task(stage.chat(event, stream=True))
    await stage.simulator.until(lambda calls: bool(calls) and calls[-1].behaviour is not None)
    call.cancel()
    await stage.simulator.until(lambda calls: calls[-1].left, seconds=20)
    assert calls_of(stage, f"{model}-other") == 0
    health = (await stage.tables.health()).get((model, model))
    assert health is None or (health.status, health.cooling_until) == ("ok", None)


async def test_no_other_deployment_is_tried_after_the_client_has_disconnected(stage: Stage) -> None:
    model = await model_with(stage, Answer())
    await put_deployment(stage, model, f"{model}-other", priority=2)
    gate = stage.simulator.gate(model, Failure(500))
    call = asyncio.create_task(chat(stage, model))
    await gate.arrived()
    call.cancel()
    await asyncio.sleep(0.2)  # the proxy notices it
    gate.open_all()
    await stage.simulator.until(lambda calls: calls[-1].finished)
    await asyncio.sleep(0.2)
    assert calls_of(stage, f"{model}-other") == 0


async def test_a_call_that_waits_for_its_quota_while_a_deployment_fails_can_end_the_cool_down(
    stage: Stage, azurite: Azurite
) -> None:
    model = await model_with(stage, Answer())
    await put_deployment(stage, model, f"{model}-other", priority=2)
    _events[model] = await stage.add_event(models=(model,), requests_per_day=1000)
    async with (
        TableTap(azurite.port).open() as tap,
        stage.instance(PROXY_TABLES=tap.connection_string, PROXY_CACHE_SECONDS="600") as own,
    ):
        assert (await chat(own, model, "bob")).status == 200
        tap.passing.clear()
        tap.request_arrived.clear()
        waiting = asyncio.create_task(chat(own, model, "ann"))
        await tap.request_arrived.wait()
        stage.simulator.always(model, Failure(503, headers={"retry-after-ms": "1"}))
        assert (await chat(own, model, "bob")).status == 200
        stage.simulator.always(model, Answer())
        tap.passing.set()
        assert (await waiting).status == 200
        assert calls_of(stage, f"{model}-other") == 1
        assert (await chat(own, model, "bob")).status == 200
    assert calls_of(stage, f"{model}-other") == 1


# ---- members that a deployment does not accept


async def test_the_other_output_field_is_tried_for_a_reasoning_model_and_remembered(
    stage: Stage,
) -> None:
    name = f"o3-mini-{await stage.add_deployment()}"
    model = await stage.add_deployment(deployment_name=name)
    for turn in range(3):
        response = await chat(stage, model, max_tokens=40, temperature=1.50)
        assert outcome(response) == SERVED
        assert len(stage.simulator.calls) == 2 + turn
        sent = stage.simulator.calls[-1].json
        assert (sent["max_completion_tokens"], sent["temperature"]) == (40, 1.5)
        assert "max_tokens" not in sent


async def test_the_other_output_field_is_tried_for_an_old_model(stage: Stage) -> None:
    old = SimulatedDeployment(refuses_max_completion_tokens=True)
    async with Simulator(keys={stage.environment["SIMULATOR_KEY"]}, deployments={"old": old}) as simulator:
        model = await stage.add_deployment(endpoint=simulator.url, deployment_name="old")
        code = await stage.add_event(models=(model,), default_model=model, max_output_tokens=30)
        for stream in (False, True):
            response = await stage.chat(code, stream=stream)
            assert (response.status, response.headers["x-event-max-output-tokens"]) == (200, "30")
            assert simulator.calls[-1].json["max_tokens"] == 30
        assert [call.status for call in simulator.calls] == [400, 200, 200]


async def test_an_error_that_the_other_field_does_not_solve_is_passed_on(stage: Stage) -> None:
    model = await stage.add_deployment()
    response = await chat(stage, model, max_tokens=5, max_completion_tokens=5)
    assert outcome(response) == (400, "invalid_parameter_combination")
    assert len(stage.simulator.calls) == 1


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_the_usage_of_a_stream_is_estimated_for_an_old_api_version(
    stage: Stage, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = await stage.add_deployment(api_version="2024-02-01")
    for turn in range(2):
        with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
            response = await chat(stage, model, stream=True, **options)
            line = calls_in_log(caplog, stage)[-1]
        assert response.status == 200
        assert response.body.endswith(b"data: [DONE]\n\n")
        assert len(stage.simulator.calls) == 2 + turn
        assert "stream_options" not in stage.simulator.calls[-1].json
        assert line["completion_tokens"] >= stage.simulator.calls[-1].tokens > 0


# ---- the trace and the log


async def test_the_trace_is_forwarded_and_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")
    code = await stage.add_event()
    valid = TRACE
    for sent in (valid, None, "00-0-0-0", "ff" + valid[2:], "00-" + "0" * 32 + valid[35:]):
        headers = {"api-key": f"{code}/ann", "tracestate": "a=1"} | ({"traceparent": sent} if sent else {})
        assert (await response_of(stage.post(headers=headers))).status == 200
        call = stage.simulator.calls[-1]
        trace = call.header("traceparent")
        assert trace is not None
        assert (trace == valid) == (sent == valid)
        assert call.header("tracestate") == ("a=1" if sent == valid else None)
        version, number, parent, flags = trace.split("-")
        assert (version, len(number), len(parent), flags) == ("00", 32, 16, "01")
        assert calls_in_log(caplog, stage)[-1]["trace_id"] == number
    assert len({call.header("traceparent") for call in stage.simulator.calls}) == 5


@pytest.mark.parametrize(
    ("name", "longest", "invalid"),
    [
        ("tracestate", "a=" + "x" * 510, ["a=" + "x" * 511, "a=" + "x" * 7000, "a=b\tc"]),
        ("x-ms-client-request-id", "x" * 128, ["x" * 129, "x" * 7000, "a\tb"]),
        (
            "traceparent",
            TRACE,
            [f"01{TRACE[2:]}-x", f"{TRACE}-x", f"01{TRACE[2:]}-{'x' * 7000}", f"{TRACE}0"],
        ),
    ],
)
async def test_a_clients_header_that_is_too_long_or_not_printable_is_left_out(
    stage: Stage, name: str, longest: str, invalid: list[str]
) -> None:
    code = await stage.add_event()
    for sent in (longest, *invalid):
        headers = {"api-key": f"{code}/ann", "traceparent": TRACE, name: sent}
        assert (await response_of(stage.post(headers=headers))).status == 200
        received = stage.simulator.calls[-1].header(name)
        assert (received == sent) == (sent == longest)
        assert len(received or "") <= len(longest)


async def test_both_tries_of_a_call_share_a_trace(stage: Stage) -> None:
    model = await model_with(stage, Failure(500))
    await put_deployment(stage, model, f"{model}-other", priority=2)
    await chat(stage, model)
    first, second = (call.header("traceparent") for call in stage.simulator.calls)
    assert first == second


async def test_a_failed_call_is_logged_as_a_warning(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")
    model = await model_with(stage, Failure(500))
    response = await chat(stage, model)
    record = [one for one in caplog.records if one.name == "shared.usage.call_log"][-1]
    line = json.loads(record.getMessage().removeprefix("call "))
    assert record.levelname == "WARNING"
    assert (line["request_id"], line["status"]) == (response.headers["x-request-id"], 502)
    assert (line["ending"], line["attempts"], line["deployment"]) == ("upstream_error", 1, model)
    assert 0 <= line["first_byte_ms"] <= line["total_ms"]
