"""A call that the Functions host cannot complete ends soon, and leaves nothing in the worker's record.

The host sends each call as two halves: an invocation and an HTTP request. Where one half never arrives, the
extension ends the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from function_app import create_app
from shared.app.web import Web
from shared.functions import invocations
from shared.functions.extension import WebServer
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage
from tests.responses import WireResponse, send_raw
from tools.functions_host import FunctionsHost, local_worker
from tools.functions_host.serving import address_of, serving
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime
from tools.processes import ROOT
from tools.simulator import Answer

WITHIN_SECONDS = 20
"""The extension takes 6 looks of a second each, and keeps an ended invocation for 8 more seconds."""
CLIENTS = 300
KEY = b"api-key: " + CREDENTIAL.encode()
GET, CHAT = b"GET /v1/event HTTP/1.1", b"POST /v1/chat/completions HTTP/1.1"
BODY = json.dumps(QUESTION).encode()
STREAM = json.dumps(QUESTION | {"stream": True}).encode()
ID = b"x-ms-invocation-id: "


@dataclass(frozen=True)
class Cloud:
    """A host with its worker: the real worker library, or the local host."""

    url: str
    worker_url: str
    """The worker's own HTTP server, behind the host."""
    state: Callable[[], Awaitable[tuple[int, int]]]
    """The number of running invocations, and of calls in the worker's record."""

    async def call(self, line: bytes, *headers: bytes, body: bytes = b"") -> WireResponse:
        return await send_raw(self.url, [line, *headers], body)

    async def call_worker(self, line: bytes, *headers: bytes) -> WireResponse:
        return await send_raw(self.worker_url, [line, *headers])

    async def assert_nothing_is_left(self) -> None:
        """Wait until all calls have ended. Then a normal call works."""
        end = monotonic() + WITHIN_SECONDS
        while (left := await self.state()) != (0, 0) and monotonic() < end:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)
        assert left == (0, 0)
        assert (await self.call(GET, KEY)).status == 200


def guid() -> bytes:
    return str(uuid4()).encode()


def new_key() -> bytes:
    """The key of a new user, who cannot get the response of a call that an earlier test left."""
    return b"api-key: hackathon/" + guid()


async def invocation_id_from_the_client(cloud: Cloud) -> None:
    """The host forwards it, so the request and its invocation have different ids."""
    one = guid()
    cases = [[ID + one], [ID + one, ID + one], [ID], [ID + b"1"], [ID + one + b"0"], [ID + b"{%b}" % one]]
    responses = await asyncio.gather(*(cloud.call(GET, KEY, *headers) for headers in cases))
    assert [(response.status, b"x-ms-invocation-id" in response.body) for response in responses] == [
        (400, True)
    ] * len(cases)


async def header_beyond_ascii(cloud: Cloud) -> None:
    """The host sends the invocation only."""
    values = ["é".encode(), "é".encode("latin-1"), b"\xff", b"a\x80b"]
    cases = [[KEY + value] for value in values] + [[KEY, b"x-any: " + value] for value in values]
    responses = await asyncio.gather(*(cloud.call(CHAT, *headers, body=STREAM) for headers in cases))
    assert [(response.status, response.body) for response in responses] == [(500, b"")] * len(cases)


async def control_character(cloud: Cloud) -> None:
    values = [b"x-any: a" + value for value in (b"\x00", b"\x01", b"\x1b[31m", b"\x7f")]
    responses = await asyncio.gather(
        *(cloud.call(GET, KEY, value) for value in values),
        *(cloud.call_worker(GET, KEY, value, ID + guid()) for value in values),
    )
    assert {response.status for response in responses} == {400}


async def unusual_methods_and_paths(cloud: Cloud) -> None:
    lines = {
        b"PROPFIND /v1/models HTTP/1.1": 404,
        b"PROPFIND /v1/nothing HTTP/1.1": 404,
        b"GET /docs HTTP/1.1": 404,
        b"GET /openapi.json HTTP/1.1": 404,
        b"GET /v1/models/a%0ab HTTP/1.1": 404,
        b"GET /v1//event HTTP/1.1": 404,
        b"GET /v1/%00 HTTP/1.1": 400,
        b"GET http://test/v1/event HTTP/1.1": 200,
        b"GET http://other/v1/event HTTP/1.1": 200,
        b"GET /v1/event HTTP/1.0": 200,
        b"POST /v1/chat/completions HTTP/1.0": 400,
    }
    responses = await asyncio.gather(*(cloud.call(line, KEY) for line in lines))
    assert [response.status for response in responses] == [*lines.values()]


async def request_past_the_host(cloud: Cloud) -> None:
    """It has no invocation."""
    one = guid()
    cases = [[], [ID], [ID + b"x"], [ID + one, ID + one], [ID + guid()], [ID.upper() + guid().upper()]]
    lines = [GET, b"PROPFIND /docs HTTP/1.1", b"GET / HTTP/1.0"]
    calls = [cloud.call_worker(line, KEY, *headers) for line in lines for headers in cases]
    assert {response.status for response in await asyncio.gather(*calls)} == {400}


async def requests_with_the_same_id(cloud: Cloud) -> None:
    one = ID + guid()
    responses = await asyncio.gather(*(cloud.call_worker(GET, KEY, one) for _ in range(5)))
    assert {response.status for response in responses} == {400}


async def clients_that_disconnect(cloud: Cloud) -> None:
    """After 0 to 15 ms: before, during or after their request and its response."""
    slots = asyncio.Semaphore(30)
    address = urlsplit(cloud.url)

    async def disconnect(number: int) -> None:
        line, body = ((GET, b""), (CHAT, STREAM), (CHAT, BODY))[number % 3]
        head = b"\r\n".join([line, b"host: test", KEY, b"content-length: %d" % len(body), b"", b""])
        whole = head + body
        async with slots:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            if number % 2:  # close half of the connections with a reset
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(whole if number % 5 else whole[: len(whole) // 2])
            await asyncio.sleep(number / CLIENTS * 0.015)
            writer.close()

    await asyncio.gather(*map(disconnect, range(CLIENTS)))


INCOMPLETE = [
    invocation_id_from_the_client,
    header_beyond_ascii,
    control_character,
    unusual_methods_and_paths,
    request_past_the_host,
    requests_with_the_same_id,
    clients_that_disconnect,
]


@pytest.fixture(scope="module")
async def host(running: Stage, environment: dict[str, str]) -> AsyncIterator[FunctionsHost]:
    web = Web(environment)
    async with FunctionsHost(create_app(web), route_prefix="") as host:
        quick = invocations.Invocations(local_worker, check_seconds=0.05, keep_seconds=0.2)
        host.worker.web_app.invocations = quick
        yield host
    await web.close()


@pytest.fixture(scope="module")
async def local(host: FunctionsHost) -> AsyncIterator[Cloud]:
    async def state() -> tuple[int, int]:
        return len(host.worker.invocations), len(local_worker.http_coordinator._context_references)

    server = WebServer("127.0.0.1", 0, host.worker.web_app)
    with server.listener:
        async with serving(server.server, server.serve()):
            yield Cloud(host.url, f"http://{address_of(server.listener)}", state)


@pytest.mark.parametrize("make_calls", INCOMPLETE, ids=lambda make_calls: make_calls.__name__)
async def test_incomplete_calls_leave_nothing_behind(
    stage: Stage, local: Cloud, make_calls: Callable[[Cloud], Awaitable[None]]
) -> None:
    await make_calls(local)
    await local.assert_nothing_is_left()


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
async def test_incomplete_calls_leave_nothing_behind_in_the_cloud(
    stage: Stage, environment: dict[str, str]
) -> None:
    async with OfficialRuntime(ROOT, environment=environment) as runtime:

        async def state() -> tuple[int, int]:
            found = await runtime.worker_state()
            return found.invocations_in_flight, found.context_references

        cloud = Cloud(runtime.url, runtime.worker_url, state)
        await asyncio.gather(*(make_calls(cloud) for make_calls in INCOMPLETE))
        await cloud.assert_nothing_is_left()
        failures = (await runtime.worker_state()).failures
    assert all(failure.startswith("ValueError: No http request found") for failure in failures)
    assert len(failures) >= 6 + 8


@pytest.mark.parametrize("stream", [True, False])
async def test_call_that_the_platform_cancels_gets_a_response(
    stage: Stage, host: FunctionsHost, local: Cloud, stream: bool
) -> None:
    gate = stage.simulator.gate(MODEL, Answer("Never sent."))
    calling = asyncio.create_task(local.call(CHAT, new_key(), body=STREAM if stream else BODY))
    await gate.arrived()
    for task in host.worker.invocations.values():
        task.cancel()
    response = await calling
    assert (response.status, response.error["code"]) == (500, "internal_error")
    await local.assert_nothing_is_left()


async def test_ended_calls_are_counted_in_the_log_and_do_not_run(
    stage: Stage, local: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    responses = await asyncio.gather(
        *(local.call(CHAT, KEY, b"x-any: \xff", body=STREAM) for _ in range(3)),
        local.call_worker(GET, ID + guid()),
    )
    assert [response.status for response in responses] == [500, 500, 500, 400]
    assert not stage.simulator.calls
    counts = [record.args for record in caplog.records if record.name == invocations.__name__]
    assert [sum(column) for column in zip(*counts, strict=True)] == [3, 1]


async def test_request_with_the_id_of_a_running_call_is_refused_and_the_call_continues(
    stage: Stage, host: FunctionsHost, local: Cloud
) -> None:
    gate = stage.simulator.gate(MODEL, Answer("Still here."))
    calling = asyncio.create_task(local.call(CHAT, new_key(), body=BODY))
    await gate.arrived()
    (running,) = host.worker.invocations
    response = await local.call_worker(GET, KEY, ID + running.encode())
    assert response.status == 400
    assert response.error["message"] == "The header x-ms-invocation-id is not valid. Remove it."
    gate.open_all()
    assert (await calling).status == 200
    await local.assert_nothing_is_left()
