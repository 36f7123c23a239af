"""Streams through the whole app: their bytes, their errors, and clients that disconnect."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import aiohttp
import openai
import pytest

from shared.core.hashing import hashed
from tests.app.sdk import client, open_stream
from tests.conftest import (
    CREDENTIAL,
    KEY,
    MODEL,
    QUESTION,
    Stage,
    calls_in_log,
    nothing_left_in_flight,
    serve,
)
from tests.responses import response_of
from tools.simulator import (
    Answer,
    Behaviour,
    CutStream,
    Failure,
    Garbage,
    RawStream,
    Simulator,
    StreamError,
)

STREAM = QUESTION | {"model": MODEL, "stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}
HEARTBEAT = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
WORDS = Answer("One two three four five.")
_users = count(1)


@pytest.fixture(scope="module")
async def repeating(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """An instance whose upstream gives equal responses to equal requests."""
    async with (
        Simulator(keys={KEY}, repeatable=True) as simulator,
        serve(running.tables, simulator, environment) as stage,
    ):
        yield stage


@pytest.fixture
async def repeatable(repeating: Stage) -> tuple[Stage, str, str]:
    """The instance, the name of its model `gpt-4o`, and an event code."""
    repeating.simulator.reset()
    model = await repeating.add_deployment(deployment_name="gpt-4o")
    code = await repeating.add_event(models=(model,), default_model=model)
    return repeating, model, code


@pytest.fixture(scope="module")
async def cached(running: Stage) -> AsyncIterator[Stage]:
    """An instance that reads the tables once, for tests of a thousand calls."""
    async with running.instance(PROXY_CACHE_SECONDS="600") as stage:
        yield stage


@pytest.fixture(scope="module")
async def impatient(running: Stage) -> AsyncIterator[Stage]:
    async with running.instance(PROXY_HEARTBEAT_SECONDS="0.05", PROXY_UPSTREAM_IDLE_SECONDS="1") as stage:
        yield stage


@pytest.fixture(scope="module")
async def beating(running: Stage) -> AsyncIterator[Stage]:
    """An instance that sends comments often."""
    async with running.instance(PROXY_HEARTBEAT_SECONDS="0.05") as stage:
        yield stage


async def direct(simulator: Simulator, **body: object) -> bytes:
    """The upstream's own response, without the proxy."""
    url = simulator.url + "/openai/v1/chat/completions"
    async with aiohttp.ClientSession() as http:
        return (await response_of(http.post(url, json=body, headers={"api-key": KEY}))).body


def errors(stream: bytes) -> list[dict[str, object]]:
    """The errors among the stream events."""
    found = []
    for event in stream.split(b"\n\n"):
        try:
            value = json.loads(event.removeprefix(b"data: "))
        except ValueError:
            continue
        if isinstance(value, dict) and "error" in value:
            found.append(value["error"])
    return found


# ---- bytes


@pytest.mark.parametrize("n", [1, 3])
async def test_usage_is_requested_and_hidden(repeatable: tuple[Stage, str, str], n: int) -> None:
    stage, model, code = repeatable
    plain = await direct(stage.simulator, **QUESTION, stream=True, n=n, model="gpt-4o")
    response = await stage.chat(code, stream=True, n=n, model=model)
    assert response.status == 200
    assert response.body == plain
    assert b"usage" not in response.body
    assert stage.simulator.calls[-1].json["stream_options"] == {"include_usage": True}
    assert stage.simulator.calls[-1].usage is not None


async def test_usage_that_the_client_requested_is_unchanged(repeatable: tuple[Stage, str, str]) -> None:
    stage, model, code = repeatable
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True, "future": 1}}
    plain = await direct(stage.simulator, **QUESTION, **options, model="gpt-4o")
    response = await stage.chat(code, **options, model=model)
    assert response.body == plain
    assert b'"completion_tokens":' in response.body
    assert stage.simulator.calls[-1].json["stream_options"] == options["stream_options"]


async def test_other_stream_options_are_kept_when_usage_is_added(stage: Stage) -> None:
    options = {"include_obfuscation": False, "include_usage": False}
    response = await stage.chat(stream=True, stream_options=options)
    assert b"usage" not in response.body
    assert stage.simulator.calls[-1].json["stream_options"] == options | {"include_usage": True}


@pytest.mark.parametrize("stream", [False, None])
async def test_usage_is_not_requested_for_a_plain_response(stage: Stage, stream: bool | None) -> None:
    response = await stage.chat(stream=stream)
    assert response.headers["content-type"] == "application/json"
    assert "stream_options" not in stage.simulator.calls[-1].json


async def test_a_stream_is_an_event_stream_with_the_ids_of_its_call(stage: Stage) -> None:
    response = await stage.chat(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-request-id"]
    assert response.headers["apim-request-id"]
    assert response.body.endswith(DONE)
    assert response.body.startswith(
        b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter'
    )


async def relay(stage: Stage, body: dict[str, Any], streams: list[RawStream]) -> list[bytes]:
    """The bodies that the client gets for these streams, twenty at a time."""
    bodies: list[bytes] = []
    for at in range(0, len(streams), 20):
        batch = streams[at : at + 20]
        stage.simulator.behave(MODEL, *batch)
        responses = await asyncio.gather(*(stage.chat(**body) for _ in batch))
        bodies += [response.body for response in responses]
    return bodies


def split_everywhere(whole: bytes) -> list[RawStream]:
    return [RawStream((whole[:at], whole[at:])) for at in range(1, len(whole))]


async def test_a_stream_split_at_any_byte_is_relayed_unchanged(stage: Stage, cached: Stage) -> None:
    stage.simulator.behave(MODEL, Answer("Glove boxes."))
    whole = await direct(stage.simulator, **WITH_USAGE)
    bodies = await relay(cached, WITH_USAGE, [RawStream((whole,)), *split_everywhere(whole)])
    assert set(bodies) == {whole}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.usefixtures("stage")
async def test_usage_is_hidden_for_any_split_and_line_end(cached: Stage, line_end: bytes) -> None:
    events = [
        b'data: {"choices":[{"delta":{"content":"caf\xc3\xa9 \\n\\n data: x"},"index":0}]%s}',
        b": a comment",
        b'event: more\ndata: {"choices":[],%s"x":\ndata: 1}',
        b"data: [DONE]",
    ]
    hidden = [b"".join(part.split(b"%s")) + b"\n\n" for part in events]
    with_usage = [
        events[0].replace(b"%s", b',"usage":null') + b"\n\n",
        hidden[1],
        events[2].replace(b"%s", b'"usage":null,') + b"\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
        hidden[3],
    ]
    whole = b"".join(with_usage).replace(b"\n", line_end)
    pieces = [RawStream(tuple(whole[at : at + 1] for at in range(len(whole)))), *split_everywhere(whole)]
    assert set(await relay(cached, STREAM, pieces)) == {b"".join(hidden).replace(b"\n", line_end)}


async def test_a_long_stream_is_relayed_unchanged(stage: Stage) -> None:
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * 500)
    whole = event * 4000 + DONE
    stage.simulator.behave(
        MODEL, RawStream(tuple(whole[at : at + 9_999] for at in range(0, len(whole), 9_999)))
    )
    assert (await stage.chat(stream=True)).body == whole


async def test_a_stream_that_the_content_filter_ends_is_relayed_to_its_end(stage: Stage) -> None:
    stage.simulator.behave(MODEL, Answer(filtered_after=2))
    response = await stage.chat(stream=True)
    assert b'"finish_reason":"content_filter"' in response.body
    assert response.body.endswith(DONE)


# ---- without delay


async def test_the_first_content_reaches_the_sdk_before_the_upstream_has_finished(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)  # the prompt's filter results, the role, the first word
    async with client(stage) as sdk:
        words = []
        async for chunk in await open_stream(sdk):
            for choice in chunk.choices:
                words += [choice.delta.content] if choice.delta.content else []
            if words == ["One"]:
                assert not stage.simulator.calls[-1].finished
                assert stage.simulator.calls[-1].chunks == 3
                gate.open_all()
    assert "".join(words) == "One two three four five."


async def test_each_stream_event_is_relayed_before_the_upstream_sends_the_next(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(0)
    async with stage.post(json=STREAM) as response:
        assert response.status == 200
        for piece in range(1, 6):
            gate.open(piece)
            event = await response.content.readuntil(b"\n\n")
            assert event.startswith(b"data: {")
            assert stage.simulator.calls[-1].chunks == piece
        gate.open_all()
        assert (await response.read()).endswith(DONE)


async def test_the_status_is_not_sent_before_the_upstream_has_sent_its_own(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, Failure(422))
    call = asyncio.create_task(stage.chat(stream=True))
    await gate.arrived()
    assert not call.done()
    gate.open_all()
    assert (await call).status == 422


# ---- errors


async def test_an_invalid_request_for_a_stream_gets_a_plain_http_error(stage: Stage) -> None:
    response = await stage.chat(stream=True, n=0)
    assert (response.status, response.error["code"]) == (400, "invalid_request")


CUTS: dict[str, Behaviour] = {
    "closed": CutStream(),
    "reset": CutStream(cut="reset"),
    "end-without-done": CutStream(cut="clean"),
    "closed-before-any-event": CutStream(0),
    "end-before-any-event": CutStream(0, "clean"),
    "closed-within-an-event": RawStream((b'data: {"choices":[]}\n\n', b'data: {"cho'), cut="close"),
    "end-within-an-event": RawStream((b'data: {"choices":[]}\n\n', b'data: {"cho')),
    "garbage": Garbage(),
    "endless-event": RawStream((b"data: ", *[b"x" * 100_000] * 12)),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_failure_after_the_first_byte_is_one_error_event_and_no_end(
    stage: Stage, cut: Behaviour
) -> None:
    stage.simulator.behave(MODEL, cut)
    response = await stage.chat(stream=True)
    assert (response.status, response.is_cut) == (200, True)
    assert b"[DONE]" not in response.body
    assert [(error["code"], error["type"]) for error in errors(response.body)] == [
        ("upstream_error", "server_error")
    ]
    assert response.body.endswith(b"}}\n\n")


@pytest.mark.parametrize("cut", ["close", "reset", "clean"])
async def test_events_before_the_cut_are_relayed(stage: Stage, cut: str) -> None:
    events = tuple(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(5))
    stage.simulator.behave(MODEL, RawStream(events, cut=cut))  # type: ignore[arg-type]
    response = await stage.chat(stream=True)
    assert response.body.startswith(b"".join(events))


async def test_an_error_event_of_the_upstream_is_not_followed_by_another(stage: Stage) -> None:
    stage.simulator.behave(MODEL, StreamError(message="The upstream's own message."))
    response = await stage.chat(stream=True)
    assert [error["message"] for error in errors(response.body)] == ["The upstream's own message."]
    assert response.is_cut


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (CutStream(), "The answer was cut off and is incomplete"),
        (CutStream(cut="clean"), "The answer was cut off and is incomplete"),
        (StreamError(message="The upstream's own message."), "The upstream's own message."),
    ],
)
async def test_a_failure_after_the_first_byte_is_an_api_error_with_its_message_in_the_sdk(
    stage: Stage, behaviour: Behaviour, message: str
) -> None:
    stage.simulator.behave(MODEL, behaviour)
    async with client(stage) as sdk:
        chunks = []
        with pytest.raises(openai.APIError, match=message):
            async for chunk in await open_stream(sdk):
                chunks.append(chunk)
        assert chunks


async def test_a_broken_stream_does_not_affect_the_next_call(stage: Stage) -> None:
    for behaviour in (CutStream(), StreamError(), Garbage()):
        stage.simulator.behave(MODEL, behaviour)
        await stage.chat(stream=True)
        assert (await stage.chat(stream=True)).body.endswith(DONE)


# ---- silence


@pytest.mark.parametrize("sent", [0, 3])
async def test_a_comment_is_sent_while_the_upstream_is_silent(
    beating: Stage, stage: Stage, sent: int
) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(sent)
    async with beating.post(json=STREAM) as response:
        head = b""
        while not head.endswith(HEARTBEAT * 2):
            head += await response.content.readuntil(b"\n\n")
        gate.open_all()
        whole = head + await response.read()
    assert head.count(b"data: ") == sent
    assert whole.endswith(DONE)
    assert "".join(_contents(whole)) == "One two three four five."


async def test_no_comment_is_sent_within_an_event(beating: Stage, stage: Stage) -> None:
    whole = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' + DONE
    gate = stage.simulator.gate(MODEL, RawStream((whole[:20], whole[20:])))
    gate.open(1)
    async with beating.post(json=STREAM) as response:
        first = await response.content.readexactly(len(HEARTBEAT))
        gate.open_all()
        rest = await response.read()
    assert first == HEARTBEAT
    assert rest.replace(HEARTBEAT, b"") == whole


async def test_the_sdk_does_not_see_the_comments(beating: Stage, stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(0)
    async with client(beating) as sdk:
        lines = (await open_stream(sdk)).response.aiter_lines()
        assert await anext(lines) == ": keep-alive"
    gate.open_all()


async def test_a_stream_that_stays_silent_ends_with_a_timeout(impatient: Stage, stage: Stage) -> None:
    stage.simulator.gate(MODEL, WORDS).open(3)
    response = await impatient.chat(stream=True)
    assert [error["code"] for error in errors(response.body)] == ["upstream_timeout"]
    assert b"[DONE]" not in response.body
    assert b'"content":"One"' in response.body
    await stage.simulator.until(lambda calls: calls[-1].left)


@pytest.fixture(scope="module")
async def bounded(running: Stage) -> AsyncIterator[Stage]:
    async with running.instance(PROXY_LONGEST_STREAM_SECONDS="1") as stage:
        yield stage


async def test_a_stream_that_takes_too_long_ends_with_an_error_event_and_counts_as_cut(
    bounded: Stage, stage: Stage, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"patient-{next(_users)}"
    stage.simulator.gate(MODEL, WORDS).open(3)
    async with nothing_left_in_flight():
        response = await bounded.chat(user=user, stream=True)
    (error,) = errors(response.body)
    assert error["code"] == "upstream_timeout"
    assert "longer than 1 seconds" in str(error["message"])
    assert response.body.endswith(b"}}\n\n")
    assert b'"content":"One"' in response.body
    await stage.simulator.until(lambda calls: calls[-1].left)
    assert counted(user)[0] == 1
    assert calls_in_log(caplog, bounded)[-1]["ending"] == "cut"


async def test_a_client_that_reads_nothing_does_not_hold_a_stream_beyond_its_limit(
    bounded: Stage, stage: Stage, counted: Counted
) -> None:
    user = f"stuck-{next(_users)}"
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"a" * 50_000)
    stage.simulator.behave(MODEL, RawStream((event,) * 400))
    async with nothing_left_in_flight():
        _, writer = await _send(bounded, user, stream=True)
        await stage.simulator.until(lambda calls: bool(calls) and calls[-1].left)
        for _ in range(400):
            if counted(user)[0]:
                break
            await asyncio.sleep(0.05)
    assert counted(user)[0] == 1
    writer.close()


def _contents(stream: bytes) -> list[str]:
    events = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return [choice["delta"].get("content") or "" for choice in choices]


# ---- clients that disconnect


Counted = Callable[[str], tuple[int, int]]


@pytest.fixture
def counted(caplog: pytest.LogCaptureFixture, stage: Stage, bounded: Stage) -> Counted:
    """The calls and tokens of a user, from the log."""
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")

    def count_of(user: str) -> tuple[int, int]:
        calls = [call for call in calls_in_log(caplog, stage, bounded) if call["user"] == hashed(user)]
        return len(calls), sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)

    return count_of


async def _disconnect(stage: Stage, pieces: int | None, *, stream: bool, abort: bool = False) -> str:
    """Make a call and disconnect after this number of pieces (None: before the status). Returns the user."""
    user = f"user-{next(_users)}"
    gate = stage.simulator.gate(MODEL, WORDS)
    if pieces is not None:
        gate.open(pieces)
    reader, writer = await _send(stage, user, stream=stream)
    if pieces is None:
        await gate.arrived()
    else:
        await gate.reached(pieces)
    if stream and pieces is not None:
        await reader.readuntil(b"\r\n\r\n")
    if stream and pieces:
        received = b""
        while received.count(b"data: ") < pieces:
            received += await reader.readuntil(b"\n\n")
    if abort:
        writer.transport.abort()
    else:
        writer.close()
    if stream and pieces is not None:
        await stage.simulator.until(lambda calls: calls[-1].left)
    else:
        await asyncio.sleep(0.2)  # the proxy notices it, and the call continues
        gate.open_all()
        await stage.simulator.until(lambda calls: calls[-1].finished)
    return user


async def _send(
    stage: Stage, user: str, *, stream: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request and read nothing yet."""
    host, port = stage.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(QUESTION | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: hackathon/{user}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


DISCONNECTS = [(None, True), (0, True), (1, True), (3, True), (None, False), (0, False)]


@pytest.mark.parametrize("abort", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(("pieces", "stream"), DISCONNECTS)
async def test_a_call_whose_client_disconnects_is_counted_once(
    stage: Stage, counted: Counted, pieces: int | None, stream: bool, abort: bool
) -> None:
    """A stream that has begun is closed. Any other call is read to its end, because the model charges for it."""
    assert (await stage.chat()).status == 200
    async with nothing_left_in_flight():
        user = await _disconnect(stage, pieces, stream=stream, abort=abort)
    assert counted(user)[0] == 1
    assert (await stage.chat()).status == 200


async def test_the_tokens_that_a_client_received_before_it_disconnected_are_counted(
    stage: Stage, counted: Counted
) -> None:
    async with nothing_left_in_flight():
        user = await _disconnect(stage, 6, stream=True)
    assert counted(user)[1] >= 4


async def test_many_clients_that_disconnect_at_once_leave_nothing_in_flight(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS, calls=None)
    gate.open(3)
    async with nothing_left_in_flight():
        async with aiohttp.ClientSession() as http:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_read_one_event(http, stage.url)) for _ in range(40)]
            assert {task.result() for task in tasks} == {200}
        calls = await stage.simulator.until(lambda calls: sum(call.left for call in calls) == 40)
    assert len(calls) == 40


async def _read_one_event(http: aiohttp.ClientSession, url: str) -> int:
    """Read one stream event, then disconnect. Returns the status."""
    response = await http.post(f"{url}/v1/chat/completions", json=STREAM, headers={"api-key": CREDENTIAL})
    await response.content.readuntil(b"\n\n")
    response.close()
    return response.status


async def test_the_sdk_can_disconnect_during_a_stream(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)
    async with client(stage) as sdk:
        chunks = await open_stream(sdk)
        await anext(aiter(chunks))
        await chunks.close()
    await stage.simulator.until(lambda calls: calls[-1].left)


@pytest.mark.parametrize(
    ("behaviour", "tokens"),
    [
        (Answer(prompt_tokens=11, completion_tokens=22), 33),
        (Answer("a b", report_usage=False), None),
    ],
    ids=["reported", "not-reported"],
)
@pytest.mark.parametrize("body", [QUESTION, STREAM, WITH_USAGE], ids=["plain", "stream", "stream-with-usage"])
async def test_the_usage_of_a_call_is_logged_once(
    stage: Stage, counted: Counted, behaviour: Behaviour, tokens: int | None, body: dict[str, Any]
) -> None:
    user = f"user-{next(_users)}"
    stage.simulator.behave(MODEL, behaviour)
    async with nothing_left_in_flight():
        response = await stage.chat(user=user, **body)
    assert response.status == 200
    calls, used = counted(user)
    assert calls == 1
    assert used == tokens if tokens is not None else used > 0
