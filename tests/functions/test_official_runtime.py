"""The app on the code that runs it in the cloud: the same bytes as locally, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from shared.core.counts import Counts, UsageRow
from shared.usage.call_log import LOG_SECONDS
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage
from tests.responses import WireResponse, response_of
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime
from tools.official_runtime.runtime import WorkerState
from tools.processes import ROOT
from tools.simulator import Answer, CutStream, Failure, FilteredPrompt, RateLimited, RawStream

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)

CALLS = int(os.environ.get("OFFICIAL_RUNTIME_CALLS", "10000"))
"""For the memory test. Set it to 40000 for a long run, which takes about half a minute."""
GROWTH_KB = 3_000
"""The most that the second half of the calls may add. 2 KB for each call would add more than twice as much."""
CHAT = "/v1/chat/completions"
STREAM = QUESTION | {"stream": True}
KEY = {"api-key": CREDENTIAL}
PAGE = {"origin": "https://page.example"}
WORDS = Answer("One two three four five.")
VARYING = {
    "apim-request-id",
    "connection",
    "date",
    "keep-alive",
    "retry-after-ms",
    "server",
    "transfer-encoding",
    "x-request-id",
}
"""Headers that differ from response to response, or from server to server."""


@pytest.fixture(scope="module")
async def official(running: Stage, environment: dict[str, str]) -> AsyncIterator[OfficialRuntime]:
    async with OfficialRuntime(ROOT, environment=environment) as runtime:
        yield runtime


def call(method: str, path: str, body: Any = None, headers: dict[str, str] = KEY) -> Any:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return pytest.param(method, path, data, headers, id=f"{method}-{path[:60]}")


REQUESTS = [
    call("GET", "/healthz"),
    call("GET", "/readyz"),
    *[
        call("POST", f"/{prefix}/{path}", QUESTION)
        for prefix in ("v1", "api/v1")
        for path in (
            "chat/completions",
            "openai/v1/chat/completions",
            "deployments/gpt-4o/chat/completions",
            "openai/deployments/gpt-4o/chat/completions?api-version=2023-09-01-preview",
        )
    ],
    *[
        call("GET", f"/{prefix}/{path}")
        for prefix in ("v1", "api/v1")
        for path in ("models", "openai/models", "openai/v1/models", "event")
    ],
    *[
        call("GET", f"/{prefix}/{path}/{model}")
        for prefix in ("v1", "api/v1")
        for path in ("models", "openai/models", "openai/v1/models")
        for model in ("gpt-4o", "a%0ab")
    ],
    call("POST", CHAT, STREAM),
    call("POST", "/api/v1/deployments/gpt-4o/chat/completions", STREAM),
    call("POST", CHAT, QUESTION, {"authorization": f"Bearer {CREDENTIAL}"}),
    call("POST", CHAT, QUESTION, {"openai-event-code": CREDENTIAL}),
    call("POST", CHAT, QUESTION, {"x-nothing": "1"}),
    call("POST", CHAT, QUESTION, {"api-key": "unknown/ann"}),
    call("POST", CHAT, b""),
    call("POST", CHAT, b"{not"),
    call("POST", CHAT, b"\xff\xfe"),
    call("POST", CHAT, QUESTION | {"stream": "yes"}),
    call("POST", CHAT, QUESTION | {"model": "no-such"}),
    call("POST", "/v1/deployments/..%2f..%2fx/chat/completions", QUESTION),
    call("POST", "/v1/deployments/a%00b/chat/completions", QUESTION),
    call("POST", "/v1/deployments/a%0ab/chat/completions", QUESTION),
    call("POST", "/v1/embeddings", QUESTION),
    *[
        call(method, path, QUESTION if method == "POST" else None)
        for method in ("GET", "POST", "HEAD", "PATCH")
        for path in ("/chat/completions", "/openai/deployments/gpt-4o/chat/completions", "/models", "/event")
    ],
    call("POST", "/deployments/a%0ab/chat/completions", QUESTION),
    call("GET", "/docs"),
    call("GET", "/v1"),
    call("GET", "/v1/"),
    call("GET", "/api/v2/models"),
    call("GET", CHAT),
    call("PUT", "/api/v1/deployments/x/chat/completions", QUESTION),
    call("DELETE", "/v1/models"),
    call("POST", "/v1/event", QUESTION),
    call("HEAD", "/v1/models"),
    call("DELETE", "/v1/models/gpt-4o"),
    call("OPTIONS", CHAT),
    call("OPTIONS", CHAT, None, PAGE | {"access-control-request-method": "POST"}),
    call("POST", "/models/chat/completions", QUESTION, KEY | PAGE),
    call("POST", "/V1/Chat/Completions/", QUESTION, KEY | PAGE),
    call("POST", "/v1/v1/chat/completions", QUESTION, KEY | PAGE),
    call("PUT", "/", b"{}"),
    call("HEAD", "/healthz"),
]


CHUNKED = RawStream((b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n', b"data: [DONE]\n\n"))
WHOLE = RawStream(
    (b'{"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}',),
    headers={"content-type": "application/json"},
)


@pytest.mark.parametrize(("method", "path", "data", "headers"), REQUESTS)
async def test_cloud_and_local_host_return_the_same_response(
    stage: Stage,
    official: OfficialRuntime,
    method: str,
    path: str,
    data: bytes | None,
    headers: dict[str, str],
) -> None:
    behaviour = CHUNKED if data and b'"stream": true' in data else WHOLE
    for model in (MODEL, "gpt-4o"):
        stage.simulator.always(model, behaviour)
    local, cloud = [
        await response_of(stage.http.request(method, url + path, data=data, headers=headers))
        for url in (stage.url, official.url)
    ]
    assert comparable(cloud) == comparable(local)


@pytest.mark.parametrize(
    "behaviour", [FilteredPrompt(), RateLimited(retry_after_ms=5), Failure(500), Failure(401)]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_cloud_and_local_host_return_the_same_error(
    stage: Stage, official: OfficialRuntime, behaviour: Any, stream: bool
) -> None:
    responses = []
    for url in (stage.url, official.url):
        stage.simulator.behave(MODEL, behaviour)
        responses.append(await response_of(post(url, stage.http, stream)))
    local, cloud = responses
    assert comparable(cloud) == comparable(local)
    assert ("retry-after-ms" in cloud.headers) == ("retry-after-ms" in local.headers)


def comparable(response: WireResponse) -> tuple[int, bytes, dict[str, str]]:
    """The response without the headers that vary."""
    return (
        response.status,
        response.body,
        {name: response.headers[name] for name in response.headers.keys() - VARYING},
    )


def post(url: str, http: aiohttp.ClientSession, stream: bool) -> aiohttp.client._RequestContextManager:
    return http.post(url + CHAT, json=STREAM if stream else QUESTION, headers=KEY)


async def test_cut_stream_ends_with_an_error_event_in_the_cloud_too(
    stage: Stage, official: OfficialRuntime
) -> None:
    stage.simulator.behave(MODEL, CutStream())
    response = await response_of(post(official.url, stage.http, stream=True))
    assert response.status == 200
    assert b"upstream_error" in response.body
    assert b"[DONE]" not in response.body


async def test_first_stream_event_reaches_the_client_before_the_upstream_has_finished(
    stage: Stage, official: OfficialRuntime
) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)
    async with post(official.url, stage.http, stream=True) as response:
        events = b"".join([await response.content.readuntil(b"\n\n") for _ in range(3)])
        assert b'"content":"One"' in events
        assert not stage.simulator.calls[-1].finished
        gate.open_all()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("pieces", "stream"), [(None, True), (0, True), (3, True), (None, False), (0, False)]
)
async def test_client_that_disconnects_leaves_nothing_behind_in_the_cloud(
    stage: Stage, official: OfficialRuntime, pieces: int | None, stream: bool
) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    if pieces is not None:
        gate.open(pieces)
    async with aiohttp.ClientSession() as http:
        reading = asyncio.create_task(read_events(http, official.url, stream, pieces or 0))
        await (gate.arrived() if pieces is None else gate.reached(pieces))
        if stream and pieces is not None:
            await reading
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    if stream:
        await stage.simulator.until(lambda calls: calls[-1].left)
    else:  # it runs to its end, because the model works on it
        gate.open_all()
        await stage.simulator.until(lambda calls: calls[-1].finished)
    await assert_nothing_is_left(official)
    response = await response_of(stage.http.get(f"{official.url}/v1/event", headers=KEY))
    assert response.status == 200


async def read_events(http: aiohttp.ClientSession, url: str, stream: bool, count: int) -> None:
    """Read this number of stream events, then disconnect."""
    response = await post(url, http, stream)
    for _ in range(count):
        await response.content.readuntil(b"\n\n")
    response.close()


async def assert_nothing_is_left(official: OfficialRuntime) -> WorkerState:
    """Wait until all calls have ended. None of them failed."""
    async with aiohttp.ClientSession() as http:
        for _ in range(500):
            state = await official.worker_state()
            if not state.invocations_in_flight and not state.context_references:
                break
            await response_of(http.get(f"{official.url}/healthz"))  # gives the worker time
    assert (state.invocations_in_flight, state.context_references, state.failures) == (0, 0, [])
    return state


async def test_timer_removes_old_rows_in_the_cloud_too(stage: Stage, official: OfficialRuntime) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    old, young = (
        UsageRow("old-rows", now - timedelta(days=days), "amy", MODEL, Counts(1)) for days in (91, 89)
    )
    await stage.tables.write_usage([old, young], "writer")
    await official.run_timer("remove_old_rows")
    assert await stage.tables.usage("old-rows") == [young]


async def test_log_has_one_line_for_a_call_and_none_of_the_worker(
    stage: Stage, official: OfficialRuntime
) -> None:
    await assert_nothing_is_left(official)
    await asyncio.sleep(LOG_SECONDS * 2)  # the calls of earlier tests are written
    before = len(official.worker_log())
    response = await response_of(post(official.url, stage.http, stream=False))
    await assert_nothing_is_left(official)
    await asyncio.sleep(LOG_SECONDS * 2)
    lines = official.worker_log()[before:].splitlines()
    (line,) = [
        line for line in lines if line.startswith(("INFO:azure.functions:", "INFO:shared.usage.call_log:"))
    ]
    assert response.status == 200 and line.startswith("INFO:shared.usage.call_log:call {")


async def test_no_call_of_these_tests_failed_or_left_something_behind(official: OfficialRuntime) -> None:
    await assert_nothing_is_left(official)


async def test_memory_does_not_grow_with_the_number_of_calls(
    stage: Stage, running: Stage, environment: dict[str, str]
) -> None:
    settings = environment | {"PROXY_CACHE_SECONDS": "600"}
    async with OfficialRuntime(ROOT, environment=settings) as runtime:
        await call_often(runtime.url, CALLS // 2)
        half = await assert_nothing_is_left(runtime)
        await call_often(runtime.url, CALLS // 2)
        end = await assert_nothing_is_left(runtime)
    assert end.rss_kb - half.rss_kb < GROWTH_KB


async def call_often(url: str, calls: int) -> None:
    async with aiohttp.ClientSession() as http:

        async def some(count: int) -> None:
            for number in range(count):
                path = ("/healthz", "/v1/models", "/v1/event", "/v1/nothing")[number % 4]
                async with http.get(url + path, headers=KEY) as response:
                    await response.read()

        await asyncio.gather(*(some(calls // 16) for _ in range(16)))
