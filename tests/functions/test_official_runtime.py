"""The real app through the code that runs it in the cloud: the same bytes as locally, and nothing kept."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from shared.core.models import Counts, UsageRow
from shared.usage.call_log import LOG_SECONDS
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Answered, Stage, answered
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime
from tools.simulator import Answer, CutStream, Failure, FilteredPrompt, RateLimited, RawStream

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)

ROOT = Path(__file__).resolve().parents[2]
CALLS = int(os.environ.get("OFFICIAL_RUNTIME_CALLS", "10000"))
"""Of the memory test. Set it to 40000 for the long run, of about half a minute."""
GROWTH_KB = 3_000
"""What the second half of the calls may add: less than half of what 2 KB for each call would."""
STREAM = QUESTION | {"stream": True}
WORDS = Answer("One two three four five.")
OWN = {"date", "server", "x-request-id", "apim-request-id", "connection", "keep-alive", "retry-after-ms"}
"""Of each answer alone: when and where it was made."""


@pytest.fixture(scope="module")
async def official(running: Stage, environment: dict[str, str]) -> AsyncIterator[OfficialRuntime]:
    async with OfficialRuntime(ROOT, environment=environment) as runtime:
        yield runtime


def asked(method: str, path: str, body: Any = None, **headers: str) -> Any:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return pytest.param(method, path, data, headers or {"api-key": CREDENTIAL}, id=f"{method}-{path[:60]}")


REQUESTS = [
    asked("GET", "/healthz"),
    asked("GET", "/readyz"),
    *[
        asked("POST", f"/{prefix}/{path}", QUESTION)
        for prefix in ("v1", "api/v1")
        for path in (
            "chat/completions",
            "openai/v1/chat/completions",
            "deployments/gpt-4o/chat/completions",
            "openai/deployments/gpt-4o/chat/completions?api-version=2023-09-01-preview",
        )
    ],
    *[
        asked("GET", f"/{prefix}/{path}")
        for prefix in ("v1", "api/v1")
        for path in ("models", "openai/models", "openai/v1/models", "event")
    ],
    *[
        asked("GET", f"/{prefix}/{path}/{model}")
        for prefix in ("v1", "api/v1")
        for path in ("models", "openai/models", "openai/v1/models")
        for model in ("gpt-4o", "a%0ab")
    ],
    asked("POST", "/v1/chat/completions", STREAM),
    asked("POST", "/api/v1/deployments/gpt-4o/chat/completions", STREAM),
    asked("POST", "/v1/chat/completions", QUESTION, authorization=f"Bearer {CREDENTIAL}"),
    asked("POST", "/v1/chat/completions", QUESTION, **{"openai-event-code": CREDENTIAL}),
    asked("POST", "/v1/chat/completions", QUESTION, **{"x-nothing": "1"}),
    asked("POST", "/v1/chat/completions", QUESTION, **{"api-key": "nobody/ann"}),
    asked("POST", "/v1/chat/completions", b""),
    asked("POST", "/v1/chat/completions", b"{not"),
    asked("POST", "/v1/chat/completions", b"\xff\xfe"),
    asked("POST", "/v1/chat/completions", QUESTION | {"stream": "yes"}),
    asked("POST", "/v1/chat/completions", QUESTION | {"model": "no-such"}),
    asked("POST", "/v1/deployments/..%2f..%2fx/chat/completions", QUESTION),
    asked("POST", "/v1/deployments/a%00b/chat/completions", QUESTION),
    asked("POST", "/v1/embeddings", QUESTION),
    *[
        asked(method, path, QUESTION if method == "POST" else None)
        for method in ("GET", "POST", "HEAD", "PATCH")
        for path in ("/chat/completions", "/openai/deployments/gpt-4o/chat/completions", "/models", "/event")
    ],
    asked("POST", "/deployments/a%0ab/chat/completions", QUESTION),
    asked("GET", "/docs"),
    asked("GET", "/v1"),
    asked("GET", "/v1/"),
    asked("GET", "/api/v2/models"),
    asked("GET", "/v1/chat/completions"),
    asked("PUT", "/api/v1/deployments/x/chat/completions", QUESTION),
    asked("DELETE", "/v1/models"),
    asked("POST", "/v1/event", QUESTION),
    asked("HEAD", "/v1/models"),
    asked("DELETE", "/v1/models/gpt-4o"),
    asked("OPTIONS", "/v1/chat/completions"),
]


@pytest.mark.parametrize(("method", "path", "data", "headers"), REQUESTS)
async def test_the_cloud_answers_as_the_local_host_does(
    stage: Stage,
    official: OfficialRuntime,
    method: str,
    path: str,
    data: bytes | None,
    headers: dict[str, str],
) -> None:
    stage.simulator.always(MODEL, _fixed(data))
    stage.simulator.always("gpt-4o", _fixed(data))
    local, cloud = [
        await answered(stage.http.request(method, url + path, data=data, headers=headers))
        for url in (stage.url, official.url)
    ]
    assert (cloud.status, cloud.body) == (local.status, local.body)
    assert _comparable(cloud) == _comparable(local)


def _fixed(data: bytes | None) -> Any:
    events = (b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n', b"data: [DONE]\n\n")
    return RawStream(events) if data and b'"stream": true' in data else WORDS_AS_BYTES


WORDS_AS_BYTES = RawStream(
    (b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',),
    headers={"content-type": "application/json"},
)


def _comparable(got: Answered) -> dict[str, str]:
    return {name: value for name, value in got.headers.items() if name not in OWN | {"transfer-encoding"}}


@pytest.mark.parametrize(
    "behaviour", [FilteredPrompt(), RateLimited(retry_after_ms=5), Failure(500), Failure(401)]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_cloud_refuses_as_the_local_host_does(
    stage: Stage, official: OfficialRuntime, behaviour: Any, stream: bool
) -> None:
    told = []
    for url in (stage.url, official.url):
        stage.simulator.behave(MODEL, behaviour)
        call = stage.http.post(
            f"{url}/v1/chat/completions", json=QUESTION | {"stream": stream}, headers={"api-key": CREDENTIAL}
        )
        got = await answered(call)
        headers = _comparable(got)
        if "retry-after-ms" in headers:
            headers["retry-after-ms"] = "what remained at that moment"
        told.append((got.status, got.body, headers))
    assert told[0] == told[1]


async def test_a_cut_stream_ends_with_an_error_event_in_the_cloud_too(
    stage: Stage, official: OfficialRuntime
) -> None:
    stage.simulator.behave(MODEL, CutStream())
    call = stage.http.post(
        f"{official.url}/v1/chat/completions", json=STREAM, headers={"api-key": CREDENTIAL}
    )
    got = await answered(call)
    assert got.status == 200
    assert b"upstream_error" in got.body
    assert b"[DONE]" not in got.body


async def test_the_first_event_reaches_the_client_while_the_upstream_still_produces(
    stage: Stage, official: OfficialRuntime
) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)
    async with stage.http.post(
        f"{official.url}/v1/chat/completions", json=STREAM, headers={"api-key": CREDENTIAL}
    ) as response:
        seen = b"".join([await response.content.readuntil(b"\n\n") for _ in range(3)])
        assert b'"content":"One"' in seen
        assert not stage.simulator.calls[-1].finished
        gate.open_all()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("pieces", "stream"), [(None, True), (0, True), (3, True), (None, False), (0, False)]
)
async def test_a_client_that_leaves_leaves_nothing_in_flight_in_the_cloud(
    stage: Stage, official: OfficialRuntime, pieces: int | None, stream: bool
) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    if pieces is not None:
        gate.open(pieces)
    async with aiohttp.ClientSession() as http:
        call = asyncio.create_task(_call(http, official.url, stream, pieces or 0))
        await (gate.arrived() if pieces is None else gate.reached(pieces))
        if stream and pieces is not None:
            await call
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await stage.simulator.until(lambda calls: calls[-1].left)
    state = await _quiet(official)
    assert (state.invocations_in_flight, state.context_references, state.failures) == (0, 0, [])
    got = await answered(stage.http.get(f"{official.url}/v1/event", headers={"api-key": CREDENTIAL}))
    assert got.status == 200


async def _call(http: aiohttp.ClientSession, url: str, stream: bool, events: int) -> None:
    body = QUESTION | {"stream": stream}
    response = await http.post(f"{url}/v1/chat/completions", json=body, headers={"api-key": CREDENTIAL})
    for _ in range(events):
        await response.content.readuntil(b"\n\n")
    response.close()


async def _quiet(official: OfficialRuntime) -> Any:
    """The state once nothing is under way, or after a fair number of turns."""
    async with aiohttp.ClientSession() as http:
        for _ in range(500):
            state = await official.worker_state()
            if not state.invocations_in_flight and not state.context_references:
                break
            await answered(http.get(f"{official.url}/healthz"))  # the worker gets its turn
    return state


async def test_a_line_feed_in_a_path_leaves_no_invocation_waiting(
    running: Stage, environment: dict[str, str]
) -> None:
    async with OfficialRuntime(ROOT, environment=environment) as runtime, aiohttp.ClientSession() as http:
        url = URL(f"{runtime.url}/v1/deployments/a%0ab/chat/completions", encoded=True)
        got = await answered(http.post(url, json=QUESTION, headers={"api-key": CREDENTIAL}))
        state = await _quiet(runtime)
    assert (state.invocations_in_flight, state.context_references) == (0, 0)
    assert (got.status, got.error["code"]) == (404, "model_not_found")


async def test_the_timer_removes_old_rows_in_the_cloud_too(stage: Stage, official: OfficialRuntime) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    old, young = (
        UsageRow("old-rows", now - timedelta(days=days), "amy", MODEL, Counts(1)) for days in (91, 89)
    )
    await stage.tables.write_usage([old, young], "writer")
    await official.run_timer("remove_old_rows")
    assert await stage.tables.usage("old-rows") == [young]


async def test_a_call_leaves_its_own_line_in_the_log_and_none_of_the_workers(
    stage: Stage, official: OfficialRuntime
) -> None:
    before = len(official.worker_log())
    got = await answered(
        stage.http.post(f"{official.url}/v1/chat/completions", json=QUESTION, headers={"api-key": CREDENTIAL})
    )
    await _quiet(official)
    await asyncio.sleep(LOG_SECONDS * 2)
    lines = official.worker_log()[before:].splitlines()
    (line,) = [
        line for line in lines if line.startswith(("INFO:azure.functions:", "INFO:shared.usage.call_log:"))
    ]
    assert got.status == 200 and line.startswith("INFO:shared.usage.call_log:call {")


async def test_no_invocation_failed(official: OfficialRuntime) -> None:
    assert (await official.worker_state()).failures == []


async def test_memory_stays_flat_over_many_calls(
    stage: Stage, running: Stage, environment: dict[str, str]
) -> None:
    settings = environment | {"PROXY_CACHE_SECONDS": "600"}
    async with OfficialRuntime(ROOT, environment=settings) as runtime:
        await _many(runtime.url, CALLS // 2)
        half = await _quiet(runtime)
        await _many(runtime.url, CALLS // 2)
        end = await _quiet(runtime)
    assert (end.context_references, end.invocations_in_flight, end.failures) == (0, 0, [])
    assert end.rss_kb - half.rss_kb < GROWTH_KB


async def _many(url: str, calls: int) -> None:
    async with aiohttp.ClientSession() as http:

        async def some(count: int) -> None:
            for number in range(count):
                path = ("/healthz", "/v1/models", "/v1/event", "/v1/nothing")[number % 4]
                async with http.get(url + path, headers={"api-key": CREDENTIAL}) as got:
                    await got.read()

        await asyncio.gather(*(some(calls // 16) for _ in range(16)))
