"""No invocation without an end: whatever a client sends, or however it leaves, the worker is done with it soon.

The Functions host sends each call twice, as an invocation and as a request. Where one half never arrives, the
extension ends the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from types import ModuleType
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from function_app import create_app
from shared.app.web import Web
from shared.functions import invocations
from shared.functions.extension import WebServer
from shared.functions.http import Request
from shared.functions.invocations import Invocations
from tests.conftest import CREDENTIAL, QUESTION, Answered, Stage, answer
from tools.functions_host import FunctionsHost
from tools.functions_host import local_worker as worker
from tools.functions_host.serving import address_of, serving
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime
from tools.processes import ROOT
from tools.simulator import Answer

WITHIN_SECONDS = 20
"""The extension takes 6 looks of a second each, and keeps an ended invocation for 8 more seconds."""
CLIENTS = 300
KEY = b"api-key: " + CREDENTIAL.encode()
GET, CHAT = b"GET /v1/event HTTP/1.1", b"POST /v1/chat/completions HTTP/1.1"
STREAM = json.dumps(QUESTION | {"stream": True}).encode()
ID = b"x-ms-invocation-id: "


@dataclass(frozen=True)
class Cloud:
    """A host with its worker: the real worker library, or the local host. `straight` is the worker's own server."""

    url: str
    straight: str
    state: Callable[[], Awaitable[tuple[int, int]]]
    """The invocations that run, and the calls in the worker's record."""

    async def quiet(self) -> None:
        """Wait until nothing is left. Then a normal call works."""
        end = monotonic() + WITHIN_SECONDS
        while (left := await self.state()) != (0, 0) and monotonic() < end:  # noqa: ASYNC110 - of another process too
            await asyncio.sleep(0.05)
        assert left == (0, 0)
        assert (await call(self.url, GET, KEY)).status == 200


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*urlsplit(url).netloc.split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()


async def call(url: str, line: bytes, *headers: bytes, body: bytes = b"") -> Answered:
    """The response to a request of any bytes."""
    length = [b"content-length: %d" % len(body)] if body else []
    async with asyncio.timeout(WITHIN_SECONDS), connection(url) as (reader, writer):
        head = [line, b"host: test", b"connection: close", *headers, *length, b"", b""]
        writer.write(b"\r\n".join(head) + body)
        return answer(await reader.read())


def guid() -> bytes:
    return str(uuid4()).encode()


async def own_invocation_id(cloud: Cloud) -> None:
    """The host keeps it, so the request has another id than its invocation."""
    one = guid()
    given = [[ID + one], [ID + one, ID + one], [ID], [ID + b"1"], [ID + one + b"0"], [ID + b"{%b}" % one]]
    got = await asyncio.gather(*(call(cloud.url, GET, KEY, *headers) for headers in given))
    assert [(one.status, b"x-ms-invocation-id" in one.body) for one in got] == [(400, True)] * len(given)


async def header_beyond_ascii(cloud: Cloud) -> None:
    """The host sends the invocation only."""
    odd = ["é".encode(), "é".encode("latin-1"), b"\xff", b"a\x80b"]
    headers = [[KEY + one] for one in odd] + [[KEY, b"x-any: " + one] for one in odd]
    got = await asyncio.gather(*(call(cloud.url, CHAT, *some, body=STREAM) for some in headers))
    assert [(one.status, one.body) for one in got] == [(500, b"")] * len(headers)


async def control_character(cloud: Cloud) -> None:
    values = [b"\x00", b"\x01", b"\x1b[31m", b"\x7f"]
    for url, more in ((cloud.url, []), (cloud.straight, [ID + guid()])):
        got = await asyncio.gather(*(call(url, GET, KEY, b"x-any: a" + one, *more) for one in values))
        assert {one.status for one in got} == {400}


async def other_methods_and_paths(cloud: Cloud) -> None:
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
    got = await asyncio.gather(*(call(cloud.url, line, KEY) for line in lines))
    assert [one.status for one in got] == [*lines.values()]


async def straight_to_the_worker(cloud: Cloud) -> None:
    """Past the host, a request has no invocation."""
    one = guid()
    ids = [[], [ID], [ID + b"x"], [ID + one, ID + one], [ID + guid()], [ID.upper() + guid().upper()]]
    lines = [(line, some) for line in (GET, b"PROPFIND /docs HTTP/1.1", b"GET / HTTP/1.0") for some in ids]
    got = await asyncio.gather(*(call(cloud.straight, line, KEY, *some) for line, some in lines))
    assert [one.status for one in got] == [400] * len(lines)


async def same_id_twice_at_once(cloud: Cloud) -> None:
    one = ID + guid()
    got = await asyncio.gather(*(call(cloud.straight, GET, KEY, one) for _ in range(5)))
    assert [one.status for one in got] == [400] * 5


async def clients_that_leave(cloud: Cloud) -> None:
    """At 0 to 15 ms: before, within or after their request and its response."""
    slots = asyncio.Semaphore(30)

    async def leave(number: int) -> None:
        line, body = ((GET, b""), (CHAT, STREAM), (CHAT, json.dumps(QUESTION).encode()))[number % 3]
        head = b"\r\n".join([line, b"host: test", KEY, b"content-length: %d" % len(body), b"", b""])
        whole = head + body
        async with slots, connection(cloud.url) as (_, writer):
            if number % 2:  # half of them reset
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.write(whole if number % 5 else whole[: len(whole) // 2])
            await asyncio.sleep(number / CLIENTS * 0.015)

    await asyncio.gather(*map(leave, range(CLIENTS)))


ODD = [
    own_invocation_id,
    header_beyond_ascii,
    control_character,
    other_methods_and_paths,
    straight_to_the_worker,
    same_id_twice_at_once,
    clients_that_leave,
]


@pytest.fixture(scope="module")
def quick_looks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invocations, "LOOK_SECONDS", 0.05)
        patch.setattr(invocations, "KEEP_SECONDS", 0.2)
        yield


@pytest.fixture(scope="module")
async def host(
    running: Stage, environment: dict[str, str], quick_looks: None
) -> AsyncIterator[FunctionsHost]:
    web = Web(environment)
    async with FunctionsHost(create_app(web), route_prefix="") as host:
        yield host
    await web.close()


@pytest.fixture(scope="module")
async def local(host: FunctionsHost) -> AsyncIterator[Cloud]:
    async def state() -> tuple[int, int]:
        return len(host.worker.invocations), len(worker.http_coordinator._context_references)

    straight = WebServer("127.0.0.1", 0, host.worker.web_app)
    with straight.listener:
        async with serving(straight.server, straight.serve()):
            yield Cloud(host.url, f"http://{address_of(straight.listener)}", state)


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.__name__)
async def test_a_call_that_the_host_cannot_complete_leaves_nothing_behind(
    stage: Stage, local: Cloud, odd: Callable[[Cloud], Awaitable[None]]
) -> None:
    await odd(local)
    await local.quiet()


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
async def test_calls_that_the_host_cannot_complete_leave_nothing_behind_in_the_cloud(
    stage: Stage, environment: dict[str, str]
) -> None:
    async with OfficialRuntime(ROOT, environment=environment) as runtime:

        async def state() -> tuple[int, int]:
            found = await runtime.worker_state()
            return found.invocations_in_flight, found.context_references

        cloud = Cloud(runtime.url, runtime.worker_url, state)
        await asyncio.gather(*(odd(cloud) for odd in ODD))
        await cloud.quiet()
        failures = (await runtime.worker_state()).failures
    assert all(failure.startswith("ValueError: No http request found") for failure in failures)
    assert len(failures) >= 6 + 8


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_the_platform_cancels_gets_a_response(
    stage: Stage, host: FunctionsHost, local: Cloud, stream: bool
) -> None:
    gate = stage.simulator.gate("gpt-4o-mini", Answer("Never sent."))
    body = json.dumps(QUESTION | {"stream": stream}).encode()
    calling = asyncio.create_task(call(local.url, CHAT, KEY, body=body))
    await gate.arrived()
    for task in host.worker.invocations.values():
        task.cancel()
    got = await calling
    assert (got.status, got.error["code"]) == (500, "internal_error")
    await local.quiet()


async def test_a_call_that_was_ended_is_counted_in_the_log_and_never_reaches_its_handler(
    stage: Stage, local: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    got = await asyncio.gather(
        *(call(local.url, CHAT, KEY, b"x-any: \xff", body=STREAM) for _ in range(3)),
        call(local.straight, GET, ID + guid()),
    )
    assert [one.status for one in got] == [500, 500, 500, 400]
    assert not stage.simulator.calls
    counts = [record.args for record in caplog.records if record.name == invocations.__name__]
    assert [sum(column) for column in zip(*counts, strict=True)] == [3, 1]


async def test_a_request_with_the_id_of_a_running_call_is_refused_at_once_and_the_call_goes_on(
    stage: Stage, host: FunctionsHost, local: Cloud
) -> None:
    gate = stage.simulator.gate("gpt-4o-mini", Answer("Still here."))
    calling = asyncio.create_task(call(local.url, CHAT, KEY, body=json.dumps(QUESTION).encode()))
    await gate.arrived()
    (running,) = host.worker.invocations
    got = await call(local.straight, GET, KEY, ID + running.encode())
    assert (got.status, got.error["message"]) == (
        400,
        "The header x-ms-invocation-id is not valid. Remove it.",
    )
    gate.open_all()
    assert (await calling).status == 200
    await local.quiet()


async def test_an_invocation_that_arrives_after_its_request_was_refused_runs_nothing() -> None:
    record = worker.Coordinator()
    watched = Invocations(http_v2(http_coordinator=record))
    record.set_http_request("late", Request({"headers": []}, never))
    for _ in range(invocations.LOOKS + 1):
        watched.look()
    assert await record.wait_for_response("late") is invocations.UNKNOWN_ID
    with pytest.raises(ValueError, match="has no request"):
        await record.wait_for_request("late")


async def test_a_half_that_arrives_late_but_within_the_looks_is_served() -> None:
    record = worker.Coordinator()
    watched = Invocations(http_v2(http_coordinator=record))
    early = asyncio.create_task(record.wait_for_request("early"))
    record.set_http_request("other", Request({"headers": []}, never))
    other = asyncio.create_task(record.wait_for_response("other"))
    await asyncio.sleep(0)
    assert invocations.LOOKS >= 5
    for _ in range(invocations.LOOKS):
        watched.look()
    await asyncio.sleep(0)
    assert not early.done() and not other.done()
    record.set_http_request("early", Request({"headers": []}, never))
    assert isinstance(await early, Request)
    watched.look()
    await asyncio.sleep(0)
    assert other.done() and not record._context_references["early"].http_response_available_event.is_set()


async def test_a_request_that_arrives_after_its_invocation_was_ended_gets_a_response() -> None:
    record = worker.Coordinator()
    watched = Invocations(http_v2(http_coordinator=record))
    invocation = asyncio.create_task(record.wait_for_request("late"))
    await asyncio.sleep(0)
    for _ in range(invocations.LOOKS + 1):
        watched.look()
    with pytest.raises(ValueError, match="has no request"):
        await invocation
    record.set_http_response("late", ValueError())  # as a worker does with the exception
    record.set_http_request("late", Request({"headers": []}, never))
    async with asyncio.timeout(1):
        assert isinstance(await record.wait_for_response("late"), ValueError)


async def test_many_stuck_calls_are_ended_some_at_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocations, "MOST_AT_A_LOOK", 2)
    record = worker.Coordinator()
    watched = Invocations(http_v2(http_coordinator=record))
    waiting = [asyncio.create_task(record.wait_for_request(name)) for name in "abcde"]
    await asyncio.sleep(0)
    for _ in range(invocations.LOOKS + 1):
        watched.look()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, True, False, False, False]
    for task in waiting:
        task.cancel()


@pytest.mark.parametrize("names", [{}, {"http_coordinator": object()}])
async def test_a_worker_without_the_private_names_is_warned_of_and_still_serves(
    names: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    watched = Invocations(http_v2(**names))
    assert "Update the proxy" in caplog.text
    with watched.watch():
        assert watched.begin("id") and not watched.begin("id")
        watched.end("id")
        assert watched.begin("id")


async def test_a_record_of_another_form_is_reported_once_and_no_longer_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(invocations, "LOOK_SECONDS", 0)
    record = worker.Coordinator()
    record._context_references["odd"] = object()  # type: ignore[assignment] # as another version might have it
    with Invocations(http_v2(http_coordinator=record)).watch():
        for _ in range(10):
            await asyncio.sleep(0)
    assert caplog.text.count("Update the proxy") == 1


def http_v2(**names: object) -> ModuleType:
    """The worker's module that holds the record."""
    module = ModuleType("http_v2")
    vars(module).update(names)
    return module


async def never() -> dict[str, object]:
    raise AssertionError
