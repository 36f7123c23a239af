"""Every way in which a deployment fails, on real sockets: what the attendee gets, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from shared.core.models import Health
from tests.conftest import QUESTION, Answered, Stage, TableTap, answered, calls_in_log, serve
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

BUSY = (429, "upstream_busy")
ERROR = (502, "upstream_error")
TIMEOUT = (504, "upstream_timeout")
SERVED = (200, None)
SOON = {
    "PROXY_UPSTREAM_TIMEOUT_SECONDS": "2",
    "PROXY_UPSTREAM_FIRST_BYTE_SECONDS": "0.8",
    "PROXY_UPSTREAM_CONNECT_SECONDS": "0.3",
}


@pytest.fixture(scope="module")
async def hasty(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """An instance that waits no longer than a moment."""
    async with serve(running.tables, running.simulator, environment | SOON) as stage:
        yield stage


@dataclass(frozen=True)
class Row:
    """One way to fail. `behaviour` None: nothing listens at its address."""

    behaviour: Behaviour | None
    alone: tuple[int, str | None]
    """What the attendee gets where there is no other deployment: status, and code of the refusal."""
    seen: str | None
    """What is noted of the deployment; None: nothing, for it did not fail."""
    cooled: float = 10
    """For so many seconds."""
    beside: tuple[int, str | None] = SERVED
    """What the attendee gets where another deployment serves."""
    only: bool | None = None
    """True: this is of streams; False: of plain answers; None: of both."""


def busy(seconds: float, **headers: Any) -> Row:
    return Row(RateLimited(**headers), BUSY, "429", seconds)


MATRIX = {
    "refused": Row(None, ERROR, "unreachable"),
    "reset-before-headers": Row(ResetBeforeHeaders(), ERROR, "unreachable"),
    "closed-before-headers": Row(ResetBeforeHeaders("close"), ERROR, "unreachable"),
    "not-http": Row(RawSocket(), ERROR, "unreachable"),
    "half-a-header": Row(RawSocket(b"HTTP/1.1 200 OK\r\ncontent-ty"), ERROR, "unreachable"),
    "slow-headers": Row(Slow(headers_seconds=60), TIMEOUT, "timeout", only=True),
    "slow-headers-plain": Row(Slow(headers_seconds=60), TIMEOUT, "timeout", beside=TIMEOUT, only=False),
    "slow-chunks": Row(Slow(between_seconds=0.03), SERVED, None),
    "cut-body": Row(CutBody(), ERROR, "cut", only=False),
    "reset-body": Row(CutBody("reset"), ERROR, "cut", only=False),
    "cut-stream": Row(CutStream(), SERVED, None, only=True),
    "reset-stream": Row(CutStream(cut="reset"), SERVED, None, only=True),
    "408": Row(Failure(408), ERROR, "408"),
    "429-bare": busy(10),
    "429-ms": busy(1.5, retry_after_ms=1500),
    "429-ms-first": busy(2, retry_after_ms=2000, retry_after=9),
    "429-seconds": busy(7, retry_after=7),
    "429-reset-requests": busy(4, reset_requests=4),
    "429-reset-tokens": busy(3, reset_tokens=3),
    "429-reset-as-openai-writes-it": busy(6.5, reset_tokens="6s500ms"),
    "429-unknown": busy(10, retry_after=0, reset_requests=-1),
    "429-nonsense": busy(10, retry_after="soon"),
    "429-a-day": busy(60, retry_after=86400),
    "500": Row(Failure(500), ERROR, "500"),
    "502": Row(Failure(502), ERROR, "502"),
    "503": Row(Failure(503), ERROR, "503"),
    "503-says-when": Row(Failure(503, headers={"retry-after": "5"}), ERROR, "503", 5),
    "503-resets-of-its-limits": Row(Failure(503, headers={"x-ratelimit-reset-tokens": "5"}), ERROR, "503"),
    "504": Row(Failure(504), ERROR, "504"),
    "307": Row(Failure(307, b"", {"location": "http://127.0.0.1:1/"}), ERROR, "307"),
    "401": Row(Failure(401), ERROR, "401", 60),
    "403": Row(Failure(403), ERROR, "403", 60),
    "404": Row(Failure(404), ERROR, "404", 60),
    "404-of-the-request": Row(
        Failure(404, b'{"error":{"code":"no_such_file"}}'), (404, "no_such_file"), None
    ),
    "garbage": Row(Garbage(), ERROR, "invalid response", only=False),
    "garbage-in-a-stream": Row(Garbage(), SERVED, None, only=True),
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
    if row.only in {None, stream}
]


async def a_model(stage: Stage, behaviour: Behaviour | None, **fields: Any) -> str:
    model = await stage.add_deployment(**fields)
    if behaviour is None:
        await add_to(stage, model, model, endpoint=f"http://127.0.0.1:{free()}")
    else:
        stage.simulator.always(model, behaviour)
    return model


async def add_to(stage: Stage, model: str, name: str, **fields: Any) -> None:
    """One more deployment of that model; or another row in place of the one of that id."""
    changes = {"model": model, "id": name, "deployment_name": name} | fields
    await stage.add_deployment(**changes)


async def ask(stage: Stage, model: str, user: str = "ann", **body: Any) -> Answered:
    code = await event_of(stage, model)
    headers = {"api-key": f"{code}/{user}"}
    return await answered(stage.post(headers=headers, json=QUESTION | {"model": model} | body))


_events: dict[str, str] = {}


async def event_of(stage: Stage, model: str) -> str:
    if model not in _events:
        _events[model] = await stage.add_event(models=(model,))
    return _events[model]


def outcome(got: Answered) -> tuple[int, str | None]:
    return got.status, None if got.status == 200 else got.error["code"]


async def noted(stage: Stage, model: str, name: str) -> Health:
    async with asyncio.timeout(20):
        while (health := (await stage.tables.health()).get((model, name))) is None:  # noqa: ASYNC110 - tables ring no bell
            await asyncio.sleep(0.01)
    return health


def calls_of(stage: Stage, name: str) -> int:
    return sum(call.deployment == name for call in stage.simulator.calls)


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_the_only_deployment_fails(stage: Stage, hasty: Stage, row: Row, stream: bool) -> None:
    model = await a_model(stage, row.behaviour)
    got = await ask(hasty, model, stream=stream)
    assert outcome(got) == row.alone
    assert len(stage.simulator.calls) == (row.behaviour is not None)


@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_one_of_two_deployments_fails(
    stage: Stage, hasty: Stage, row: Row, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = await a_model(stage, row.behaviour)
    await add_to(stage, model, f"{model}-other", priority=2)
    with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
        got = await ask(hasty, model, stream=stream)
        line = calls_in_log(caplog, hasty)[-1]
    passed_on = row.seen is None
    tries = 1 if passed_on or row.beside == TIMEOUT else 2
    assert outcome(got) == (row.alone if passed_on else row.beside)
    assert calls_of(stage, model) == (row.behaviour is not None)
    assert calls_of(stage, f"{model}-other") == tries - 1
    assert line["attempts"] == tries
    assert line["deployment"] == (model if tries == 1 else f"{model}-other")
    if row.seen is not None:
        health = await noted(stage, model, model)
        assert health.status == row.seen
        assert health.cooling_until is not None
        assert (health.cooling_until - health.seen_at).total_seconds() == pytest.approx(row.cooled, abs=0.01)
        before = calls_of(stage, model)
        assert outcome(await ask(hasty, model)) == SERVED
        assert calls_of(stage, model) == before
    else:
        assert outcome(await ask(hasty, model, stream=stream)) == row.alone
        health = await noted(stage, model, model)
        assert (health.status, health.cooling_until) == ("ok", None)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_call_does_not_cool_down_a_deployment_that_responds_to_others(
    stage: Stage, hasty: Stage, stream: bool
) -> None:
    model = await stage.add_deployment()
    gate = stage.simulator.gate(model)
    slow = asyncio.create_task(ask(hasty, model, stream=stream))
    await gate.arrived()
    assert outcome(await ask(hasty, model)) == SERVED
    assert outcome(await slow) == TIMEOUT
    await add_to(stage, model, f"{model}-other", priority=2)
    assert outcome(await ask(hasty, model)) == SERVED
    assert calls_of(stage, f"{model}-other") == 0
    health = await noted(stage, model, model)
    assert (health.status, health.cooling_until) == ("ok", None)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue of connections does not wait")
async def test_a_deployment_that_accepts_no_connection_fails_over(stage: Stage, hasty: Stage) -> None:
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        model = await stage.add_deployment(endpoint=f"http://127.0.0.1:{full.getsockname()[1]}")
        assert outcome(await ask(hasty, model)) == ERROR
        await add_to(stage, model, f"{model}-other", priority=2)
        assert outcome(await ask(hasty, model)) == SERVED
        assert (await noted(stage, model, model)).status == "unreachable"


async def test_a_thousand_calls_with_one_of_three_deployments_dead_and_one_often_busy(
    stage: Stage,
) -> None:
    model = await a_model(stage, ResetBeforeHeaders())
    for name, behaviour in (("half", EveryOther(RateLimited(retry_after_ms=100))), ("sound", None)):
        await add_to(stage, model, f"{model}-{name}")
        if behaviour:
            stage.simulator.always(f"{model}-{name}", behaviour)
    started = asyncio.get_running_loop().time()
    statuses: Counter[int] = Counter()

    async def attendee(number: int) -> None:
        for turn in range(50):
            got = await ask(stage, model, f"user-{number}", stream=bool(turn % 2))
            statuses[got.status] += 1

    await asyncio.gather(*(attendee(number) for number in range(20)))
    seconds = asyncio.get_running_loop().time() - started
    assert statuses == {200: 1000}
    totals = {name: total.calls for name, total in stage.simulator.totals.items()}
    # Those that were under way together at the start; then one after 10 s, 20 s, and so on.
    assert 1 <= totals[model] <= 20 + seconds / 10
    assert totals[f"{model}-half"] > 10
    assert totals[f"{model}-half"] + totals[f"{model}-sound"] >= 1000


async def test_all_deployments_at_their_limit_give_429_at_once_with_the_earliest_recovery(
    stage: Stage,
) -> None:
    model = await a_model(stage, RateLimited(retry_after=50))
    await add_to(stage, model, f"{model}-other")
    stage.simulator.always(f"{model}-other", RateLimited(retry_after=20))
    for attempt in range(3):
        got = await ask(stage, model)
        assert outcome(got) == BUSY
        assert 18_000 < int(got.headers["retry-after-ms"]) <= 20_000
        assert "x-should-retry" not in got.headers
        assert len(stage.simulator.calls) == 2, attempt


async def test_a_refusal_of_our_key_is_reported_without_another_try(stage: Stage) -> None:
    model = await a_model(stage, Failure(401))
    for _ in range(3):
        assert outcome(await ask(stage, model)) == ERROR
    assert len(stage.simulator.calls) == 1
    await add_to(stage, model, model, auth="SIMULATOR_KEY_1")  # mended by hand
    stage.simulator.always(model, Slow())
    assert outcome(await ask(stage, model)) == SERVED


async def test_a_refusal_by_the_attendees_data_source_is_passed_on_and_cools_nothing_down(
    stage: Stage,
) -> None:
    model = await a_model(stage, Failure(403))
    for _ in range(2):
        got = await ask(stage, model, data_sources=[{"type": "azure_search"}])
        assert outcome(got) == (403, "403")
    assert len(stage.simulator.calls) == 2


async def test_a_failover_costs_the_attendee_one_request(stage: Stage) -> None:
    model = await a_model(stage, Failure(500))
    await add_to(stage, model, f"{model}-other", priority=2)
    code = await stage.add_event(models=(model,), requests_per_day=10, tokens_per_day=100_000)
    _events[model] = code
    got = await ask(stage, model)
    assert (got.status, got.headers["x-ratelimit-remaining-requests"]) == (200, "9")
    used = json.loads(got.body)["usage"]["total_tokens"]
    assert got.headers["x-ratelimit-remaining-tokens"] == str(100_000 - used)


async def test_a_client_that_leaves_ends_the_running_try_and_starts_no_other(
    stage: Stage,
) -> None:
    model = await a_model(stage, Slow(headers_seconds=60))
    await add_to(stage, model, f"{model}-other", priority=2)
    call = asyncio.create_task(ask(stage, model))
    await stage.simulator.until(lambda calls: bool(calls) and calls[-1].behaviour is not None)
    call.cancel()
    await stage.simulator.until(lambda calls: calls[-1].left)
    assert calls_of(stage, f"{model}-other") == 0
    seen = (await stage.tables.health()).get((model, model))
    assert seen is None or (seen.status, seen.cooling_until) == ("ok", None)


async def test_a_call_that_waits_for_its_quota_while_a_deployment_fails_can_end_the_cool_down(
    stage: Stage, azurite: Azurite, environment: dict[str, str]
) -> None:
    model = await a_model(stage, Answer())
    await add_to(stage, model, f"{model}-other", priority=2)
    _events[model] = await stage.add_event(models=(model,), requests_per_day=1000)
    async with TableTap(azurite.port).open() as tap:
        settings = environment | {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "600"}
        async with serve(stage.tables, stage.simulator, settings) as own:
            assert (await ask(own, model, "bob")).status == 200
            tap.passing.clear()
            tap.asked.clear()
            waiting = asyncio.create_task(ask(own, model, "ann"))
            await tap.asked.wait()
            stage.simulator.always(model, Failure(503, headers={"retry-after-ms": "1"}))
            assert (await ask(own, model, "bob")).status == 200
            stage.simulator.always(model, Answer())
            tap.passing.set()
            assert (await waiting).status == 200
            assert calls_of(stage, f"{model}-other") == 1
            assert (await ask(own, model, "bob")).status == 200
    assert calls_of(stage, f"{model}-other") == 1


# ---- what a deployment does not take


async def test_a_reasoning_model_is_retried_with_the_other_field_which_is_remembered(
    stage: Stage,
) -> None:
    name = f"o3-mini-{await stage.add_deployment()}"
    model = await stage.add_deployment(deployment_name=name)
    for turn in range(3):
        got = await ask(stage, model, max_tokens=40, temperature=1.50)
        assert outcome(got) == SERVED
        assert len(stage.simulator.calls) == 2 + turn
        sent = stage.simulator.calls[-1].json
        assert (sent["max_completion_tokens"], sent["temperature"]) == (40, 1.5)
        assert "max_tokens" not in sent


async def test_an_old_model_is_retried_with_the_field_that_it_knows(
    stage: Stage, environment: dict[str, str]
) -> None:
    old = SimulatedDeployment(refuses_max_completion_tokens=True)
    async with Simulator(keys={environment["SIMULATOR_KEY"]}, deployments={"old": old}) as simulator:
        model = await stage.add_deployment(endpoint=simulator.url, deployment_name="old")
        code = await stage.add_event(models=(model,), default_model=model, max_output_tokens=30)
        for stream in (False, True):
            headers = {"api-key": f"{code}/ann"}
            got = await answered(stage.post(headers=headers, json=QUESTION | {"stream": stream}))
            assert (got.status, got.headers["x-event-max-output-tokens"]) == (200, "30")
            assert simulator.calls[-1].json["max_tokens"] == 30
        assert [call.status for call in simulator.calls] == [400, 200, 200]


async def test_an_error_that_no_other_field_fixes_is_passed_on(stage: Stage) -> None:
    model = await stage.add_deployment()
    got = await ask(stage, model, max_tokens=5, max_completion_tokens=5)
    assert outcome(got) == (400, "invalid_parameter_combination")
    assert len(stage.simulator.calls) == 1


@pytest.mark.parametrize("asks", [{}, {"stream_options": {"include_usage": True}}])
async def test_an_old_api_version_streams_without_usage_and_the_usage_is_estimated(
    stage: Stage, asks: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = await stage.add_deployment(api_version="2024-02-01")
    for turn in range(2):
        with caplog.at_level(logging.INFO, logger="shared.usage.call_log"):
            got = await ask(stage, model, stream=True, **asks)
            line = calls_in_log(caplog, stage)[-1]
        assert got.status == 200
        assert got.body.endswith(b"data: [DONE]\n\n")
        assert len(stage.simulator.calls) == 2 + turn
        assert "stream_options" not in stage.simulator.calls[-1].json
        assert line["completion_tokens"] >= stage.simulator.calls[-1].tokens > 0


# ---- the trace and the log


async def test_the_trace_goes_upstream_and_into_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")
    code = await stage.add_event()
    theirs = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for sent in (theirs, None, "00-0-0-0", "ff" + theirs[2:], "00-" + "0" * 32 + theirs[35:]):
        headers = {"api-key": f"{code}/ann", "tracestate": "a=1"} | ({"traceparent": sent} if sent else {})
        assert (await answered(stage.post(headers=headers))).status == 200
        call = stage.simulator.calls[-1]
        trace = call.header("traceparent")
        assert trace is not None
        assert (trace == theirs) == (sent == theirs)
        assert call.header("tracestate") == ("a=1" if sent == theirs else None)
        version, number, parent, flags = trace.split("-")
        assert (version, len(number), len(parent), flags) == ("00", 32, 16, "01")
        assert calls_in_log(caplog, stage)[-1]["trace_id"] == number
    assert len({call.header("traceparent") for call in stage.simulator.calls}) == 5


async def test_both_tries_of_a_call_share_a_trace(stage: Stage) -> None:
    model = await a_model(stage, Failure(500))
    await add_to(stage, model, f"{model}-other", priority=2)
    await ask(stage, model)
    first, second = (call.header("traceparent") for call in stage.simulator.calls)
    assert first == second


async def test_a_failed_call_has_the_same_log_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")
    model = await a_model(stage, Failure(500))
    got = await ask(stage, model)
    record = [one for one in caplog.records if one.name == "shared.usage.call_log"][-1]
    line = json.loads(record.getMessage().removeprefix("call "))
    assert record.levelname == "WARNING"
    assert (line["request_id"], line["status"]) == (got.headers["x-request-id"], 502)
    assert (line["ending"], line["attempts"], line["deployment"]) == ("upstream_error", 1, model)
    assert 0 <= line["first_byte_ms"] <= line["total_ms"]
