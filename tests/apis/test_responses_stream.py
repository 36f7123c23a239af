"""Streams of the Responses API: ids are sealed in every event, usage and end are read, errors raise in the SDKs."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from openai import APIError, AsyncOpenAI

from shared.apis.response_ids import Owner, turn_of
from shared.apis.response_sealing import MOST_CACHED, Sealer
from shared.apis.responses_stream import MOST_EVENT_BYTES, ResponsesStream
from shared.core.errors import ProxyError, UpstreamBusy, UpstreamError
from shared.core.models import Credential, Usage
from shared.core.quota_errors import EventQuotaExceeded

PLACE = b"12345678"
ANNA = Owner(b"a secret of an event", Credential("hackathon", "anna"))
RESPONSE, MESSAGE = "resp_05500b38c2cd9bfc00691c7c9d222481", "msg_05500b38c2cd9bfc00691c7c9d222481"
REASONING, PREVIOUS = "rs_05500b38c2cd9bfc00691c7c9d222481", "resp_0a0b0c0d00691c7c9d222481a3b59542"
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "total_tokens": 12,
}


def event(kind: str, **members: Any) -> bytes:
    data = json.dumps({"type": kind, **members}, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


def response(status: str, **members: Any) -> dict[str, Any]:
    return {
        "id": RESPONSE,
        "object": "response",
        "created_at": 1763474589,
        "status": status,
        "error": None,
        "model": "gpt-4o",
        "output": [],
        "previous_response_id": PREVIOUS,
        "usage": None,
        **members,
    }


def delta(text: str = " word", item_id: str = MESSAGE, number: int = 4) -> bytes:
    return event(
        "response.output_text.delta",
        content_index=0,
        delta=text,
        item_id=item_id,
        logprobs=[],
        obfuscation="AbCdEf",
        output_index=0,
        sequence_number=number,
    )


MESSAGE_ITEM = {
    "id": MESSAGE,
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": " word", "annotations": []}],
}
REASONING_ITEM = {"id": REASONING, "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
EVENTS = [
    event("response.created", response=response("in_progress"), sequence_number=0),
    event("response.queued", response=response("queued"), sequence_number=1),
    event("response.output_item.added", item=REASONING_ITEM, output_index=0, sequence_number=2),
    event("response.output_item.added", item=MESSAGE_ITEM, output_index=1, sequence_number=3),
    delta(),
    event("response.output_text.done", item_id=MESSAGE, text=" word", sequence_number=5),
    event("response.output_item.done", item=MESSAGE_ITEM, output_index=1, sequence_number=6),
    event("response.new_event", response_id=RESPONSE, deeper={"list": [{"item_id": MESSAGE}]}),
    event(
        "response.completed",
        response=response("completed", output=[REASONING_ITEM, MESSAGE_ITEM], usage=USAGE),
        sequence_number=8,
    ),
]
STREAM = b"".join(EVENTS)


def reader() -> ResponsesStream:
    return ResponsesStream(Sealer(ANNA, PLACE, 300, 100))


def events_of(data: bytes) -> list[Any]:
    return [json.loads(part.partition(b"data: ")[2]) for part in data.split(b"\n\n") if b"data: " in part]


def texts(value: Any, name: str) -> Iterator[Any]:
    """Every value of the members with this name."""
    if isinstance(value, list):
        for item in value:
            yield from texts(item, name)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner
            yield from texts(inner, name)


def test_every_id_is_sealed_in_every_event() -> None:
    out = reader().feed(STREAM)
    assert not [upstream for upstream in (RESPONSE, MESSAGE, REASONING, PREVIOUS) if upstream.encode() in out]
    events = events_of(out)
    assert [each["type"] for each in events] == [each["type"] for each in events_of(STREAM)]
    responses = {*texts([each.get("response") for each in events], "previous_response_id")}
    assert {ANNA.open(sealed) for sealed in responses} == {(PREVIOUS, PLACE, 300, bytes(4))}
    own = {each["response"]["id"] for each in events if "response" in each} | {*texts(events, "response_id")}
    assert {ANNA.open(sealed) for sealed in own} == {(RESPONSE, PLACE, 300, bytes(4))}
    ids = {*texts(events, "item_id"), *texts([each.get("item") for each in events], "id")}
    ids |= {*texts(events[-1]["response"]["output"], "id")}
    turn = turn_of(RESPONSE)
    assert {ANNA.open_item(sealed) for sealed in ids} == {
        (MESSAGE, PLACE, 100, turn),
        (REASONING, PLACE, 100, turn),
    }
    assert {ANNA.open_content(sealed) for sealed in texts(events, "encrypted_content")} == {("gAAAA", PLACE)}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_the_cuts_and_line_ends_of_a_stream_do_not_matter(size: int, line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    whole, parts = reader(), reader()
    expected = whole.feed(STREAM)
    got = b"".join(parts.feed(stream[at : at + size]) for at in range(0, len(stream), size))
    assert got == expected
    for stream_reader in (whole, parts):
        assert (stream_reader.usage, stream_reader.done, stream_reader.failed) == (Usage(7, 5), True, False)
        assert stream_reader.end()


@pytest.mark.parametrize("seed", range(60))
def test_events_that_come_together_are_read_as_those_that_come_one_by_one(seed: int) -> None:
    kinds = [
        *[delta()] * 6,
        delta('a "quote", \u00e4 and\na line'),
        delta(item_id="msg_2"),
        event("response.function_call_arguments.delta", item_id="fc_1", delta="{}", sequence_number=7),
        event("response.output_text.delta", item_id=MESSAGE, delta="new", response_id=RESPONSE),
        event("response.output_text.delta", delta="no id"),
        event("response.output_text.delta", item_id=MESSAGE, delta="x", logprobs=[{"item_id": MESSAGE}]),
        delta().replace(b'"msg_', b'"\\u006dsg_'),
        delta().replace(b'"item_id":', b'"item_id": '),
        delta().partition(b"\n")[2],
        b"id: 7\n" + delta(),
        delta().replace(b"data: ", b"data:"),
        delta().replace(b',"delta"', b'\ndata: ,"delta"'),
        b": a comment\n\n",
        EVENTS[3],
        EVENTS[5],
    ]
    chosen = [EVENTS[0], *random.Random(seed).choices(kinds, k=30)]
    chosen += [EVENTS[-1], delta("ignored")] * (seed % 2)
    together, one_by_one = reader(), reader()
    whole = together.feed(b"".join(chosen))
    assert whole == b"".join(one_by_one.feed(part) for part in chosen if not one_by_one.done)
    assert whole.count(MESSAGE.encode()) == whole.count(b'"logprobs":[{"item_id"')  # those are not searched
    assert RESPONSE.encode() not in whole
    assert (together.done, together.output_bytes) == (one_by_one.done, one_by_one.output_bytes)
    error = UpstreamError("late")
    assert together.error_event(error) == one_by_one.error_event(error)


@pytest.mark.parametrize(
    "data",
    [
        delta() + delta().replace(b'{"type"', b'{"type":"x"},{"type"') + delta(),
        delta() + delta()[:-1] + delta(),
        delta() + delta().replace(b"data: {", b"data: "),
    ],
)
def test_a_broken_delta_among_others_ends_the_stream(data: bytes) -> None:
    with pytest.raises(UpstreamError):
        reader().feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"response.output_text.delta","item_id" : "%b","delta":"a"}',
        b'{"type":"response.output_text.delta","item\\u005fid":"%b","delta":"a"}',
        b'{"type":"response.output_text.delta",\ndata: "item_id":"%b","delta":"a"}',
        b'{"type":"response.audio.delta","response_id":"%b","item_id":"%b","delta":"a"}',
        b'{"type":"response.output_text.delta","item_id":"%b","delta":"a","new":{"id":"%b"}}',
    ],
)
def test_a_delta_in_another_form_is_sealed(data: bytes) -> None:
    data = data.replace(b"%b", MESSAGE.encode())
    stream = reader()
    out = stream.feed(b"data: " + data + b"\n\n")
    assert MESSAGE.encode() not in out
    assert events_of(out)[0]["delta"] == "a"
    assert stream.output_bytes == 3


def test_text_that_looks_like_an_id_is_unchanged() -> None:
    text = f'"item_id":"{MESSAGE}" {RESPONSE} \\u0069d data: x'
    sealed = events_of(reader().feed(delta(text) + delta(text)))
    assert [each["delta"] for each in sealed] == [text, text]
    assert all(ANNA.open_item(each["item_id"]) for each in sealed)


def test_an_upstream_may_give_an_item_another_id_in_each_event() -> None:
    stream = reader()
    for number in range(3 * MOST_CACHED):
        opened = ANNA.open_item(events_of(stream.feed(delta(item_id=f"msg_{number}")))[0]["item_id"])
        assert opened is not None
        assert opened.upstream_id == f"msg_{number}"


@pytest.mark.parametrize(
    ("kind", "usage", "expected"),
    [
        ("response.completed", USAGE, Usage(7, 5)),
        ("response.incomplete", USAGE, Usage(7, 5)),
        ("response.failed", USAGE, Usage(7, 5)),
        ("response.failed", None, None),
        ("response.completed", {**USAGE, "output_tokens": -1}, None),
        ("response.completed", {**USAGE, "input_tokens": 0}, None),
    ],
)
def test_one_of_three_events_ends_a_stream(kind: str, usage: Any, expected: Usage | None) -> None:
    stream = reader()
    last = event(kind, response=response("x", usage=usage))
    out = stream.feed(delta() + last + delta("ignored"))
    assert [each["type"] for each in events_of(out)] == ["response.output_text.delta", kind]
    assert (stream.usage, stream.done, stream.failed) == (expected, True, False)


@pytest.mark.parametrize(
    "data",
    [b'{"type":"error","code":"x","message":"no"}', b'{"error":{"message":"no"}}', b'{"type":"error"}'],
)
def test_an_error_event_is_no_end(data: bytes) -> None:
    stream = reader()
    assert stream.feed(b"event: error\ndata: " + data + b"\n\n").endswith(data + b"\n\n")
    assert (stream.done, stream.failed, stream.end()) == (False, True, False)
    stream.feed(event("response.failed", response=response("failed")))
    assert (stream.done, stream.failed) == (True, True)


def test_an_error_of_the_upstream_names_no_id() -> None:
    text = f"Item '{REASONING}' of '{PREVIOUS}' not found for call_05500b38c2cd9bfc00691c7c9d222481."
    shown = "Item 'rs_...' of 'resp_...' not found for call_05500b38c2cd9bfc00691c7c9d222481."
    error = {"message": text, "code": "x"}
    out = reader().feed(
        event("error", message=text, error=error)
        + event("response.failed", response=response("failed", error=error))
    )
    assert [*texts(events_of(out), "message")] == [shown, shown, shown]


def test_a_stream_without_its_last_event_is_not_complete() -> None:
    stream = reader()
    stream.feed(STREAM[:-1])
    assert (stream.end(), stream.done, stream.usage) == (False, False, Usage(7, 5))


@pytest.mark.parametrize(
    "data",
    [
        b"data: no JSON\n\n",
        b"data: [1]\n\n",
        b'data: {"type":1}\n\n',
        b'data: {"type":"response.completed"}\n\n',
        event("response.output_item.added", item={"id": "\u00e9"}),
        event("response.output_text.delta", item_id="x" * 2000, delta="a"),
        b'data: {"item":' + b'{"item":' * 50 + b'{"id":"x"}' + b"}" * 51 + b"\n\n",
    ],
)
def test_an_event_whose_ids_cannot_be_found_is_not_passed_on(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="invalid stream event"):
        reader().feed(data)


@pytest.mark.parametrize("data", [b": keep-alive\n\n", b"\n\n", b"event: ping\n\n", b"data: [DONE]\n\n"])
def test_what_holds_no_data_is_passed_on(data: bytes) -> None:
    stream = reader()
    assert stream.feed(data + delta()).startswith(data)
    assert not stream.done


def test_a_long_last_event_is_sealed_as_a_whole_up_to_a_limit() -> None:
    picture = {"id": "ig_1", "type": "image_generation_call", "result": "A" * (3 * 1024 * 1024)}
    stream = reader()
    last = event("response.completed", response=response("completed", output=[picture], usage=USAGE))
    out = b"".join(stream.feed(last[at : at + 65536]) for at in range(0, len(last), 65536))
    assert ANNA.open_item(events_of(out)[0]["response"]["output"][0]["id"])
    assert stream.usage == Usage(7, 5)
    with pytest.raises(UpstreamError, match="too long"):
        reader().feed(b"data: " + b"x" * MOST_EVENT_BYTES)


def test_the_output_is_never_counted_too_low() -> None:
    stream = reader()
    stream.feed(b"".join(EVENTS[:4]))
    assert stream.output_bytes == 0
    stream.feed(delta("four") + event("response.function_call_arguments.delta", item_id="fc_1", delta="{}"))
    stream.feed(event("response.reasoning_summary_text.delta", item_id="rs_1", summary_index=0, delta="abc"))
    assert stream.output_bytes == len('"four"') + len('"{}"') + len('"abc"')
    before = stream.output_bytes
    stream.feed(event("response.output_text.done", item_id=MESSAGE, text="four"))
    stream.feed(event("response.output_item.done", item=MESSAGE_ITEM))
    assert stream.output_bytes == before
    stream.feed(event("response.output_item.done", item=REASONING_ITEM))
    assert stream.output_bytes > before + len("gAAAA")
    before = stream.output_bytes
    stream.feed(event("response.unknown", words="w" * 100))
    assert stream.output_bytes > before + 100


ERRORS = [
    (UpstreamError("The answer was cut off."), "upstream_error"),
    (EventQuotaExceeded("Used up."), "insufficient_quota"),
    (UpstreamBusy("Busy. Try again in 5 seconds.", 5), "rate_limit_exceeded"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=[code for _, code in ERRORS])
def test_an_error_of_the_proxy_goes_on_from_the_stream(error: ProxyError, code: str) -> None:
    stream = reader()
    sealed = events_of(stream.feed(b"".join(EVENTS[:5])))[0]["response"]["id"]
    stream.feed(event("response.output_text.done", item_id=MESSAGE, text="a", sequence_number=9))
    first, last = events_of(stream.error_event(error))
    assert (first["type"], first["sequence_number"]) == ("error", 10)
    own = {"message": error.message, "type": error.type, "param": None, "code": error.code}
    assert first["error"] == own
    assert (first["message"], first["param"], first["code"]) == (error.message, None, error.code)
    assert (last["type"], last["sequence_number"]) == ("response.failed", 11)
    assert last["response"]["id"] == sealed
    assert (last["response"]["status"], last["response"]["model"]) == ("failed", "gpt-4o")
    assert last["response"]["error"] == {"code": code, "message": error.message}


@pytest.mark.parametrize("begun", [0, 5])
async def test_the_openai_sdk_raises_the_error_of_a_cut_stream(begun: int) -> None:
    stream = reader()
    body = stream.feed(b"".join(EVENTS[:begun])) + stream.error_event(UpstreamError("It was cut off."))

    async def serve(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        await source.readuntil(b"\r\n\r\n")
        sink.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + body)
        await sink.drain()
        sink.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="a/b", max_retries=0) as client:
            events = await client.responses.create(model="gpt-4o", input="hi", stream=True)
            seen = []
            with pytest.raises(APIError, match=r"It was cut off\.") as raised:
                async for each in events:
                    seen.append(each.type)
    assert (len(seen), raised.value.code) == (begun, "upstream_error")
