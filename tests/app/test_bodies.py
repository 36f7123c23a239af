"""Bodies that arrive in many parts, slowly, or never completely."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from urllib.parse import urlsplit

import pytest

from shared.functions.http import Message, Request
from tests.conftest import MODEL, QUESTION, Stage, nothing_left_in_flight
from tests.responses import WireResponse, parse_response
from tools.simulator import Failure

_users = count(1)
PATH = "/v1/chat/completions"
TIMEOUT_SECONDS = 3
"""The time limit for a call in the tests of timeouts."""


def question(size: int) -> bytes:
    """A body of this size. No two parts of it are the same."""
    start = json.dumps(QUESTION | {"model": MODEL}, separators=(",", ":")).encode()[:-1] + b',"user":"'
    return (start + " ".join(map(str, range(size))).encode())[: size - 2] + b'"}'


def parts(body: bytes, count: int) -> list[bytes]:
    length = -(-len(body) // count)
    return [body[at : at + length] for at in range(0, len(body), length)]


@asynccontextmanager
async def connected(
    url: str, credential: str, length: int | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has sent the head of a call. Without a length, the body must be chunked."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    head = f"POST {PATH} HTTP/1.1\r\nhost: test\r\nconnection: close\r\napi-key: {credential}\r\n{framing}\r\n\r\n"
    writer.write(head.encode())
    try:
        yield reader, writer
    finally:
        writer.close()


async def send_slowly(
    url: str, body: bytes, count: int, seconds: float, *, chunked: bool = False, event: str = "hackathon"
) -> WireResponse:
    """Send the body in this number of parts, each after a pause."""
    credential, length = f"{event}/slow-{next(_users)}", None if chunked else len(body)
    async with connected(url, credential, length) as (reader, writer):
        for part in parts(body, count):
            await asyncio.sleep(seconds)
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        async with asyncio.timeout(30):
            return parse_response(await reader.read())


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
async def test_a_slow_body_is_forwarded_completely(stage: Stage, chunked: bool) -> None:
    slow = [(0.02, 12, 300), (0.05, 6, 70_000), (0.1, 3, 1_000_000), (0.03, 10, 3_000_000)]
    bodies = [question(size) for _, _, size in slow]
    async with nothing_left_in_flight(), asyncio.TaskGroup() as group:
        calls = [
            group.create_task(send_slowly(stage.url, body, count, seconds, chunked=chunked))
            for body, (seconds, count, _) in zip(bodies, slow, strict=True)
        ]
    assert [call.result().status for call in calls] == [200] * len(slow)
    assert sorted(call.body for call in stage.simulator.calls) == sorted(bodies)


async def test_the_watch_for_a_client_that_disconnects_takes_no_part_of_a_body(stage: Stage) -> None:
    """ASGI gives each message to one reader. uvicorn lets two readers share them, other servers may not."""
    body = question(300)
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def arrive() -> None:
        for part in parts(body, 5):
            await asyncio.sleep(0.03)
            incoming.put_nowait({"type": "http.request", "body": part, "more_body": True})
        incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    headers = [(b"api-key", f"hackathon/slow-{next(_users)}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    request = Request(scope, incoming.get)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(arrive())
        response = await stage.web.serve(request)
        await response.send_to(incoming.get, send)
    assert [message["status"] for message in sent] == [200]
    assert [call.body for call in stage.simulator.calls] == [body]


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
@pytest.mark.parametrize("pause", [0, 0.2], ids=["at-once", "after-a-pause"])
async def test_a_client_that_disconnects_during_its_body_leaves_nothing_behind(
    stage: Stage, chunked: bool, pause: float
) -> None:
    credential, body = f"hackathon/slow-{next(_users)}", question(300)
    async with (
        nothing_left_in_flight(),
        connected(stage.url, credential, None if chunked else len(body)) as (_, writer),
    ):
        writer.write(b"64\r\n%b\r\n" % body[:100] if chunked else body[:100])
        await writer.drain()
        await asyncio.sleep(pause)
    assert not stage.simulator.calls
    assert (await stage.chat()).status == 200
    assert len(stage.simulator.calls) == 1


@pytest.fixture(scope="module")
async def with_timeout(running: Stage) -> AsyncIterator[Stage]:
    async with running.instance(PROXY_UPSTREAM_TIMEOUT_SECONDS=f"{TIMEOUT_SECONDS}") as stage:
        yield stage


@pytest.mark.parametrize(
    ("stream", "failed"), [(True, False), (False, True)], ids=["stream", "plain-after-a-failure"]
)
async def test_the_time_of_a_slow_body_counts_and_does_not_cool_down_the_deployment(
    stage: Stage, with_timeout: Stage, stream: bool, failed: bool
) -> None:
    model = await stage.add_deployment()
    other = await stage.add_deployment(model=model, priority=2)
    event = await stage.add_event(models=(model,), default_model=model)
    if failed:  # from now on, each try can change its cool-down
        stage.simulator.behave(model, Failure(500, headers={"retry-after-ms": "1"}))
        assert (await with_timeout.chat(event)).status == 200
    stage.simulator.gate(model)
    body = json.dumps(QUESTION | {"stream": stream}).encode()
    response = await send_slowly(with_timeout.url, body, 3, 0.4, event=event)
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    shown = re.search(r"did not respond within ([0-9.]+) seconds", response.error["message"])
    assert shown is not None
    assert float(shown[1]) <= round(TIMEOUT_SECONDS - 3 * 0.4, 1)
    await stage.simulator.until(lambda calls: calls[-1].left)
    assert (await with_timeout.chat(event)).status == 200
    assert stage.simulator.calls[-1].deployment == (other if failed else model)


async def test_a_call_whose_body_takes_all_its_time_is_refused_and_costs_nothing(
    stage: Stage, with_timeout: Stage
) -> None:
    event = await stage.add_event(requests_per_day=5)
    response = await send_slowly(with_timeout.url, question(300), 4, 0.8, event=event)
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    assert response.error["message"].startswith("The 3 seconds for a call were over before")
    assert response.headers["x-ratelimit-remaining-requests"] == "5"
    assert not stage.simulator.calls


@pytest.fixture(scope="module")
async def with_body_timeout(running: Stage) -> AsyncIterator[Stage]:
    async with running.instance(PROXY_LONGEST_BODY_SECONDS="0.5") as stage:
        yield stage


@pytest.mark.parametrize("part", [b"", b'{"messages"'], ids=["no-part", "first-part"])
async def test_a_body_that_does_not_arrive_is_refused(
    stage: Stage, with_body_timeout: Stage, part: bytes
) -> None:
    async with connected(with_body_timeout.url, f"hackathon/slow-{next(_users)}", 100) as (reader, writer):
        writer.write(part)
        response = parse_response(await reader.read())
    assert (response.status, response.error["code"]) == (400, "invalid_request")
    assert (
        response.error["message"]
        == "The body did not arrive within 0.5 seconds. Check your connection and try again."
    )
    assert not stage.simulator.calls


@pytest.mark.parametrize("filling", [0, 300_000], ids=["small", "large"])
async def test_an_uploaded_file_is_not_served(stage: Stage, filling: int) -> None:
    file = {"type": "file", "file": {"file_id": "assistant-1"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "a " * filling}, file]}]
    response = await stage.chat(messages=messages)
    assert (response.status, response.error["code"]) == (400, "unsupported_value")
    assert not stage.simulator.calls
