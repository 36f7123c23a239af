"""Streams on their way through: every byte as it came, an honest end, and nothing left when the client goes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from itertools import count

import aiohttp
import openai
import pytest

from shared.core.hashing import hashed
from tests.conftest import (
    CREDENTIAL,
    KEY,
    MODEL,
    QUESTION,
    Stage,
    answered,
    calls_in_log,
    nothing_left_in_flight,
    serve,
)
from tools.simulator import (
    Answer,
    Behaviour,
    CutStream,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    RawSocket,
    RawStream,
    ResetBeforeHeaders,
    Simulator,
    StreamError,
    TooLong,
    WrongType,
)

STREAM = QUESTION | {"model": MODEL, "stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}
HEARTBEAT = b": keep-alive\n\n"
ENDED = b"data: [DONE]\n\n"
WORDS = Answer("One two three four five.")
_users = count(1)


@pytest.fixture(scope="module")
async def repeating(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """An upstream that gives equal answers to equal questions; `MODEL` there is a deployment of this stage."""
    async with (
        Simulator(keys={KEY}, repeatable=True) as simulator,
        serve(running.tables, simulator, environment) as stage,
    ):
        yield stage


@pytest.fixture
async def twin(repeating: Stage) -> tuple[Stage, str, str]:
    """The stage, a model on it, and a credential for it."""
    repeating.simulator.reset()
    model = await repeating.add_deployment(deployment_name="gpt-4o")
    code = await repeating.add_event(models=(model,), default_model=model)
    return repeating, model, f"{code}/ann"


@pytest.fixture(scope="module")
async def swift(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """Reads the tables once, for tests of a thousand calls."""
    async with serve(
        running.tables, running.simulator, environment | {"PROXY_CACHE_SECONDS": "600"}
    ) as stage:
        yield stage


@pytest.fixture(scope="module")
async def impatient(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    settings = environment | {"PROXY_HEARTBEAT_SECONDS": "0.05", "PROXY_UPSTREAM_IDLE_SECONDS": "0.4"}
    async with serve(running.tables, running.simulator, settings) as stage:
        yield stage


@pytest.fixture(scope="module")
async def beating(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    async with serve(
        running.tables, running.simulator, environment | {"PROXY_HEARTBEAT_SECONDS": "0.05"}
    ) as stage:
        yield stage


def client(stage: Stage) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{stage.url}/v1", api_key=CREDENTIAL, max_retries=0)


async def direct(simulator: Simulator, **body: object) -> bytes:
    """What the upstream answers to one who calls it himself."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            simulator.url + "/openai/v1/chat/completions", json=body, headers={"api-key": KEY}
        ) as response,
    ):
        return await response.read()


def errors(stream: bytes) -> list[dict[str, object]]:
    events = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n")]
    found = []
    for event in events:
        try:
            value = json.loads(event)
        except ValueError:
            continue
        if isinstance(value, dict) and "error" in value:
            found.append(value["error"])
    return found


# ---- bytes


@pytest.mark.parametrize("n", [1, 3])
async def test_usage_is_requested_and_hidden(twin: tuple[Stage, str, str], n: int) -> None:
    stage, model, credential = twin
    body = QUESTION | {"stream": True, "n": n}
    plain = await direct(stage.simulator, **body, model="gpt-4o")
    got = await answered(stage.post(headers={"api-key": credential}, json=body | {"model": model}))
    assert got.status == 200
    assert got.body == plain
    assert b"usage" not in got.body
    assert stage.simulator.calls[-1].json["stream_options"] == {"include_usage": True}
    assert stage.simulator.calls[-1].usage is not None


async def test_usage_that_the_client_requested_is_unchanged(twin: tuple[Stage, str, str]) -> None:
    stage, model, credential = twin
    options = {"stream": True, "stream_options": {"include_usage": True, "future": 1}}
    plain = await direct(stage.simulator, **QUESTION, **options, model="gpt-4o")
    got = await answered(
        stage.post(headers={"api-key": credential}, json=QUESTION | options | {"model": model})
    )
    assert got.body == plain
    assert b'"completion_tokens":' in got.body
    assert stage.simulator.calls[-1].json["stream_options"] == options["stream_options"]


async def test_other_stream_options_are_kept_when_usage_is_added(stage: Stage) -> None:
    options = {"include_obfuscation": False, "include_usage": False}
    got = await answered(stage.post(json=STREAM | {"stream_options": options}))
    assert b"usage" not in got.body
    assert stage.simulator.calls[-1].json["stream_options"] == options | {"include_usage": True}


@pytest.mark.parametrize("stream", [False, None])
async def test_usage_is_not_requested_without_a_stream(stage: Stage, stream: bool | None) -> None:
    got = await answered(stage.post(json=QUESTION | {"stream": stream}))
    assert got.headers["content-type"] == "application/json"
    assert "stream_options" not in stage.simulator.calls[-1].json


async def test_a_stream_is_an_event_stream_with_the_ids_of_its_call(stage: Stage) -> None:
    got = await answered(stage.post(json=STREAM))
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.headers["cache-control"] == "no-cache"
    assert got.headers["x-request-id"]
    assert got.headers["apim-request-id"]
    assert got.body.endswith(ENDED)
    assert got.body.startswith(
        b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter'
    )


async def relayed(stage: Stage, body: dict[str, object], streams: list[RawStream]) -> list[bytes]:
    """What the client gets of each of these, twenty at a time."""
    got: list[bytes] = []
    for at in range(0, len(streams), 20):
        for some in streams[at : at + 20]:
            stage.simulator.behave(MODEL, some)
        part = streams[at : at + 20]
        got += [one.body for one in await asyncio.gather(*(answered(stage.post(json=body)) for _ in part))]
    return got


def split_everywhere(whole: bytes) -> list[RawStream]:
    return [RawStream((whole[:at], whole[at:])) for at in range(1, len(whole))]


async def test_a_stream_split_at_every_byte_offset_relays_byte_for_byte(stage: Stage, swift: Stage) -> None:
    stage.simulator.behave(MODEL, Answer("Glove boxes."))
    whole = await direct(stage.simulator, **WITH_USAGE)
    got = await relayed(swift, WITH_USAGE, [RawStream((whole,)), *split_everywhere(whole)])
    assert set(got) == {whole}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.usefixtures("stage")
async def test_every_offset_and_line_end_hides_the_usage_alike(swift: Stage, line_end: bytes) -> None:
    seen = [
        b'data: {"choices":[{"delta":{"content":"caf\xc3\xa9 \\n\\n data: x"},"index":0}]%s}',
        b": a comment",
        b'event: more\ndata: {"choices":[],%s"x":\ndata: 1}',
        b"data: [DONE]",
    ]
    hidden = [b"".join(part.split(b"%s")) + b"\n\n" for part in seen]
    asked = [
        seen[0].replace(b"%s", b',"usage":null') + b"\n\n",
        hidden[1],
        seen[2].replace(b"%s", b'"usage":null,') + b"\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n',
        hidden[3],
    ]
    whole = b"".join(asked).replace(b"\n", line_end)
    pieces = [RawStream(tuple(whole[at : at + 1] for at in range(len(whole)))), *split_everywhere(whole)]
    assert set(await relayed(swift, STREAM, pieces)) == {b"".join(hidden).replace(b"\n", line_end)}


async def test_a_long_stream_relays_byte_for_byte(stage: Stage) -> None:
    event = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * 500)
    whole = event * 4000 + ENDED
    stage.simulator.behave(
        MODEL, RawStream(tuple(whole[at : at + 9_999] for at in range(0, len(whole), 9_999)))
    )
    assert (await answered(stage.post(json=STREAM))).body == whole


async def test_a_whole_response_to_a_streamed_call_passes(stage: Stage) -> None:
    stage.simulator.behave(MODEL, Answer(filtered_after=2))
    got = await answered(stage.post(json=STREAM))
    assert b'"finish_reason":"content_filter"' in got.body
    assert got.body.endswith(ENDED)


# ---- as it is produced


async def test_the_first_content_reaches_the_sdk_while_the_upstream_still_produces(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)  # the prompt's filter results, the role, the first word
    async with client(stage) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        words = []
        async for chunk in stream:
            for choice in chunk.choices:
                words += [choice.delta.content] if choice.delta.content else []
            if words == ["One"]:
                assert not stage.simulator.calls[-1].finished
                assert stage.simulator.calls[-1].chunks == 3
                gate.open_all()
    assert "".join(words) == "One two three four five."


async def test_each_event_is_relayed_before_the_next_is_produced(stage: Stage) -> None:
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
        assert (await response.read()).endswith(ENDED)


async def test_the_status_is_not_sent_before_the_upstreams_is_known(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, Failure(422))
    call = asyncio.create_task(answered(stage.post(json=STREAM)))
    await gate.arrived()
    assert not call.done()
    gate.open_all()
    assert (await call).status == 422


# ---- errors


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (FilteredPrompt(), 400, "content_filter"),
        (TooLong(), 400, "context_length_exceeded"),
        (RateLimited(retry_after=1), 429, "upstream_busy"),
        (Failure(401), 502, "upstream_error"),
        (Failure(500), 502, "upstream_error"),
        (ResetBeforeHeaders(), 502, "upstream_error"),
        (RawSocket(), 502, "upstream_error"),
        (WrongType(), 502, "upstream_error"),
    ],
)
async def test_an_error_before_the_first_byte_is_a_plain_http_error(
    stage: Stage, behaviour: Behaviour, status: int, code: str
) -> None:
    stage.simulator.behave(MODEL, behaviour)
    got = await answered(stage.post(json=STREAM))
    assert (got.status, got.error["code"]) == (status, code)
    assert got.headers["content-type"] == "application/json"


async def test_a_malformed_streamed_call_is_a_plain_http_error(stage: Stage) -> None:
    got = await answered(stage.post(json=STREAM | {"n": 0}))
    assert (got.status, got.error["code"]) == (400, "invalid_request")


CUTS: dict[str, Behaviour] = {
    "closed": CutStream(),
    "reset": CutStream(cut="reset"),
    "clean-end-without-done": CutStream(cut="clean"),
    "closed-at-once": CutStream(0),
    "clean-end-at-once": CutStream(0, "clean"),
    "within-an-event": RawStream((b'data: {"choices":[]}\n\n', b'data: {"cho'), cut="close"),
    "clean-end-within-an-event": RawStream((b'data: {"choices":[]}\n\n', b'data: {"cho')),
    "garbage": Garbage(),
    "endless-event": RawStream((b"data: ", *[b"x" * 100_000] * 12)),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_a_failure_after_the_first_byte_is_one_error_event_without_done(
    stage: Stage, cut: Behaviour
) -> None:
    stage.simulator.behave(MODEL, cut)
    got = await answered(stage.post(json=STREAM))
    assert got.status == 200
    assert b"[DONE]" not in got.body
    told = errors(got.body)
    assert [(error["code"], error["type"]) for error in told] == [("upstream_error", "server_error")]
    assert got.body.endswith(b"}}\n\n")


@pytest.mark.parametrize("cut", ["close", "reset", "clean"])
async def test_events_before_the_cut_are_relayed(stage: Stage, cut: str) -> None:
    events = tuple(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number for number in range(5))
    stage.simulator.behave(MODEL, RawStream(events, cut=cut))  # type: ignore[arg-type]
    got = await answered(stage.post(json=STREAM))
    assert got.body.startswith(b"".join(events))


async def test_an_error_event_of_the_upstream_is_the_only_one(stage: Stage) -> None:
    stage.simulator.behave(MODEL, StreamError(message="The upstream's own words."))
    got = await answered(stage.post(json=STREAM))
    assert [error["message"] for error in errors(got.body)] == ["The upstream's own words."]


@pytest.mark.parametrize("behaviour", [CutStream(), CutStream(cut="clean"), StreamError()])
async def test_in_the_sdk_an_error_after_the_first_byte_is_an_api_error(
    stage: Stage, behaviour: Behaviour
) -> None:
    stage.simulator.behave(MODEL, behaviour)
    async with client(stage) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        got = []
        with pytest.raises(openai.APIError):
            async for chunk in stream:
                got.append(chunk)
        assert got


async def test_a_broken_stream_does_not_affect_the_next_call(stage: Stage) -> None:
    for behaviour in (CutStream(), StreamError(), Garbage()):
        stage.simulator.behave(MODEL, behaviour)
        await answered(stage.post(json=STREAM))
        assert (await answered(stage.post(json=STREAM))).body.endswith(ENDED)


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
    assert whole.endswith(ENDED)
    assert "".join(_contents(whole)) == "One two three four five."


async def test_no_comment_is_sent_within_an_event(beating: Stage, stage: Stage) -> None:
    whole = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' + ENDED
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
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        lines = stream.response.aiter_lines()
        assert await anext(lines) == ": keep-alive"
    gate.open_all()


async def test_a_stream_that_stays_silent_is_ended_with_a_timeout(impatient: Stage, stage: Stage) -> None:
    stage.simulator.gate(MODEL, WORDS).open(3)
    got = await answered(impatient.post(json=STREAM))
    assert [error["code"] for error in errors(got.body)] == ["upstream_timeout"]
    assert b"[DONE]" not in got.body
    assert b'"content":"One"' in got.body
    await stage.simulator.until(lambda calls: calls[-1].left)


@pytest.fixture(scope="module")
async def bounded(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    settings = environment | {"PROXY_LONGEST_STREAM_SECONDS": "0.5"}
    async with serve(running.tables, running.simulator, settings) as stage:
        yield stage


async def test_a_stream_that_takes_too_long_ends_with_an_error_event_and_counts_as_cut(
    bounded: Stage, stage: Stage, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"patient-{next(_users)}"
    stage.simulator.gate(MODEL, WORDS).open(3)
    async with nothing_left_in_flight():
        got = await answered(bounded.post(json=STREAM, headers={"api-key": f"hackathon/{user}"}))
    (error,) = errors(got.body)
    assert error["code"] == "upstream_timeout"
    assert "longer than 0.5 seconds" in str(error["message"])
    assert got.body.endswith(b"}}\n\n")
    assert b'"content":"One"' in got.body
    await stage.simulator.until(lambda calls: calls[-1].left)
    assert counted(user)[0] == 1
    assert calls_in_log(caplog, bounded)[-1]["ending"] == "cut"


async def test_a_client_that_reads_nothing_does_not_hold_a_stream_beyond_its_limit(
    bounded: Stage, stage: Stage, counted: Counted
) -> None:
    user = f"deaf-{next(_users)}"
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"a" * 50_000)
    stage.simulator.behave(MODEL, RawStream((event,) * 400))
    async with nothing_left_in_flight():
        _, writer = await _asked(bounded, user, stream=True)
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


# ---- a client that leaves


Counted = Callable[[str], tuple[int, int]]


@pytest.fixture
def counted(caplog: pytest.LogCaptureFixture, stage: Stage, bounded: Stage) -> Counted:
    """Calls and tokens that were accounted to a user, by the lines of the log."""
    caplog.set_level(logging.INFO, logger="shared.usage.call_log")

    def of(user: str) -> tuple[int, int]:
        mine = [call for call in calls_in_log(caplog, stage, bounded) if call["user"] == hashed(user)]
        return len(mine), sum(call["prompt_tokens"] + call["completion_tokens"] for call in mine)

    return of


async def _leave(stage: Stage, pieces: int | None, *, stream: bool, abort: bool) -> str:
    """Call, wait until so many pieces were sent (None: not even the status), and hang up."""
    user = f"leaver-{next(_users)}"
    gate = stage.simulator.gate(MODEL, WORDS)
    if pieces is not None:
        gate.open(pieces)
    reader, writer = await _asked(stage, user, stream=stream)
    if pieces is None:
        await gate.arrived()
    else:
        await gate.reached(pieces)
    if stream and pieces is not None:
        await reader.readuntil(b"\r\n\r\n")
    if stream and pieces:
        seen = b""
        while seen.count(b"data: ") < pieces:
            seen += await reader.readuntil(b"\n\n")
    if abort:
        writer.transport.abort()
    else:
        writer.close()
    await stage.simulator.until(lambda calls: calls[-1].left)
    return user


async def _asked(
    stage: Stage, user: str, *, stream: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a call was sent, and nothing read yet."""
    host, port = stage.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(QUESTION | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: hackathon/{user}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


LEAVES = [(None, True), (0, True), (1, True), (3, True), (None, False), (0, False)]


@pytest.mark.parametrize("abort", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize(("pieces", "stream"), LEAVES)
async def test_a_client_that_leaves_closes_the_upstream_call_and_leaves_nothing_in_flight(
    stage: Stage, pieces: int | None, stream: bool, abort: bool
) -> None:
    assert (await answered(stage.post())).status == 200
    async with nothing_left_in_flight():
        await _leave(stage, pieces, stream=stream, abort=abort)
    assert stage.simulator.calls[-1].left
    assert (await answered(stage.post())).status == 200


@pytest.mark.parametrize(("pieces", "stream"), LEAVES)
async def test_a_call_whose_client_left_is_counted_once(
    stage: Stage, counted: Counted, pieces: int | None, stream: bool
) -> None:
    async with nothing_left_in_flight():
        user = await _leave(stage, pieces, stream=stream, abort=False)
    assert counted(user)[0] == 1


async def test_the_tokens_that_a_client_saw_before_it_left_are_counted(
    stage: Stage, counted: Counted
) -> None:
    async with nothing_left_in_flight():
        user = await _leave(stage, 6, stream=True, abort=False)
    assert counted(user)[1] >= 4


async def test_many_clients_that_leave_at_once_leave_nothing_in_flight(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS, calls=None)
    gate.open(3)
    async with nothing_left_in_flight():
        async with aiohttp.ClientSession() as http:
            async with asyncio.TaskGroup() as group:
                begun = [group.create_task(_begun(http, stage.url)) for _ in range(40)]
            assert {task.result() for task in begun} == {200}
        calls = await stage.simulator.until(lambda calls: sum(call.left for call in calls) == 40)
    assert len(calls) == 40


async def _begun(http: aiohttp.ClientSession, url: str) -> int:
    response = await http.post(f"{url}/v1/chat/completions", json=STREAM, headers={"api-key": CREDENTIAL})
    await response.content.readuntil(b"\n\n")
    response.close()
    return response.status


async def test_the_sdk_may_leave_during_a_stream(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, WORDS)
    gate.open(3)
    async with client(stage) as sdk:
        stream = await sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        async for _ in stream:
            break
        await stream.close()
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
async def test_the_usage_of_a_call_is_accounted_for(
    stage: Stage, counted: Counted, behaviour: Behaviour, tokens: int | None, body: dict[str, object]
) -> None:
    user = f"user-{next(_users)}"
    stage.simulator.behave(MODEL, behaviour)
    async with nothing_left_in_flight():
        got = await answered(stage.post(headers={"api-key": f"hackathon/{user}"}, json=body))
    assert got.status == 200
    calls, used = counted(user)
    assert calls == 1
    assert used == tokens if tokens is not None else used >= 0
