"""The stream of a chat completion: the usage is read and hidden, the end and errors are found, output is counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.chat_stream import ChatStream
from shared.apis.sse import MAX_EVENT_BYTES
from shared.core.models import Usage
from tests.apis.test_usage import ODD

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("with_usage", "plain"),
    [
        (b'{"id":"1","choices":[{"delta":{}}],"usage":null}', b'{"id":"1","choices":[{"delta":{}}]}'),
        (b'{"id":"1", "choices":[], "usage" : null}', b'{"id":"1", "choices":[]}'),
        (b'{"id":"1","usage":null,"obfuscation":"x"}', b'{"id":"1","obfuscation":"x"}'),
        (b'{"usage":null,"id":"1"}', b'{"id":"1"}'),
        (b'{"usage": null ,"id":"1"}', b'{"id":"1"}'),
        (
            b'{"choices":[{"delta":{"content":"say ,\\"usage\\":null, twice"}}],"usage":null}',
            b'{"choices":[{"delta":{"content":"say ,\\"usage\\":null, twice"}}]}',
        ),
        (
            b'{"choices":[{"delta":{"content":"\\"usage\\":{ and [DONE]"}}],"usage":null}',
            b'{"choices":[{"delta":{"content":"\\"usage\\":{ and [DONE]"}}]}',
        ),
        (b'{"choices":[{"delta":{"content":"usage"}}]}', b'{"choices":[{"delta":{"content":"usage"}}]}'),
        (b'{"a\\"usage":null,"b":1}', b'{"a\\"usage":null,"b":1}'),
    ],
)
@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_stream_with_hidden_usage_equals_one_without_include_usage(
    with_usage: bytes, plain: bytes, line_end: bytes
) -> None:
    end = line_end * 2
    stream = b"data: " + with_usage + end + USAGE_CHUNK + end + b"data: [DONE]" + end
    reader = ChatStream(hide=True)
    assert reader.feed(stream) == b"data: " + plain + end + b"data: [DONE]" + end
    assert (reader.usage, reader.done) == (Usage(7, 5), True)


@given(st.text(), st.sampled_from(LINE_ENDS), st.booleans())
def test_content_of_the_model_is_unchanged(content: str, line_end: bytes, ascii_only: bool) -> None:
    chunk = {"choices": [{"delta": {"content": content + '"usage":null, "usage":{ data: [DONE]'}}]}
    text = json.dumps(chunk, ensure_ascii=ascii_only).encode(errors="replace")
    event = b"data: " + text + line_end * 2
    with_usage = b"data: " + text[:-1] + b',"usage":null}' + line_end * 2
    reader = ChatStream(hide=True)
    assert reader.feed(event) + reader.feed(with_usage + b": next") == event * 2
    assert (reader.usage, reader.done) == (None, False)


def test_requested_usage_is_read_and_relayed() -> None:
    stream = b'data: {"choices":[],"usage":null}\n\n' + USAGE_CHUNK + b"\n\ndata: [DONE]\n\n"
    reader = ChatStream(hide=False)
    assert reader.feed(stream) == stream
    assert reader.usage == Usage(7, 5)


def test_usage_beside_choices_is_read_and_the_chunk_stays() -> None:
    event = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    reader = ChatStream(hide=True)
    assert reader.feed(event) == event
    assert reader.usage == Usage(1, 2)


def test_the_last_usage_counts() -> None:
    reader = ChatStream(hide=False)
    reader.feed(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n')
    reader.feed(USAGE_CHUNK + b"\n\n")
    assert reader.usage == Usage(7, 5)


@pytest.mark.parametrize("is_one_piece", [True, False])
def test_output_after_the_usage_is_added_to_it(is_one_piece: bool) -> None:
    usage = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":null}],"usage":USAGE}\n\n'
    usage = usage.replace(b"USAGE", b'{"prompt_tokens":7,"completion_tokens":5}')
    later = b'data: {"choices":[{"delta":{"content":"' + b"x" * 1000 + b'"},"finish_reason":null}]}\n\n'
    reader = ChatStream(hide=True)
    for piece in [usage + later] if is_one_piece else [usage, later]:
        reader.feed(piece)
    assert reader.usage is not None
    assert 5 + 1000 <= reader.usage.completion_tokens <= 5 + 1010


@pytest.mark.parametrize("value", [value for value in ODD if value != b"null"])
@pytest.mark.parametrize("form", [b'{"choices":[],"usage":%b}', b'{"id":"1", "usage" : %b , "choices": [ ]}'])
@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_chunk_with_only_usage_is_hidden_however_odd_the_usage_is(
    value: bytes, form: bytes, line_end: bytes
) -> None:
    event = b"data: " + form % value + line_end * 2
    reader = ChatStream(hide=True)
    assert reader.feed(event + b": next") == b""
    assert reader.usage is None
    reader = ChatStream(hide=False)
    assert reader.feed(event + b": next") == event
    assert reader.usage is None


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[],"usage":{',
        b'{"usage":{"prompt_tokens":3}}',
        b'{"choices":null,"usage":{"prompt_tokens":3}}',
        b'{"choices":{},"usage":{"prompt_tokens":3}}',
        b'{"choices":[],"usage":{"x":' + b"[" * 100_000,
        b'{"choices":[],\ndata: "usage":\ndata: {"prompt_tokens":3}}',
        b'{"usage":null}',
        b'{ "usage" : null }',
    ],
)
def test_a_chunk_with_only_usage_is_hidden_whatever_is_wrong_with_it(payload: bytes) -> None:
    reader = ChatStream(hide=True)
    assert reader.feed(b"data: " + payload + b"\n\n") == b""
    assert reader.usage is None


def test_odd_usage_beside_choices_stays_and_is_not_counted() -> None:
    event = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":-1,"completion_tokens":2}}\n\n'
    reader = ChatStream(hide=True)
    assert reader.feed(event) == event
    assert reader.usage is None


def test_odd_usage_does_not_replace_a_good_one() -> None:
    reader = ChatStream(hide=True)
    reader.feed(USAGE_CHUNK + b'\n\ndata: {"choices":[],"usage":{}}\n\n')
    assert reader.usage == Usage(7, 5)


@pytest.mark.parametrize("error", [b"null", b"false", b"{}", b'""'])
def test_an_empty_error_is_no_error(error: bytes) -> None:
    reader = ChatStream(hide=True)
    event = b'data: {"error": %b,"choices":[{"delta":{"content":"a"}}]}\n\n' % error
    assert reader.feed(event) == event
    assert not reader.failed


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error":{"message":"no"}}',
        b'{ "error" : "no"}',
        b'{"id":"1","error":{"message":"no"}}',
        b'{"error":{"x":' + b"[" * 100_000,
    ],
)
def test_an_error_event_is_found(payload: bytes) -> None:
    reader = ChatStream(hide=True)
    event = b"data: " + payload + b"\n\n"
    assert reader.feed(b'data: {"choices":[]}\n\n' + event).endswith(event)
    assert reader.failed


def test_an_error_within_a_chunk_is_no_error_event() -> None:
    filtered = (
        b'data: {"choices":[{"delta":{"content":"a"},"content_filter_result":{"error":{"code":"x"}}}]}\n\n'
    )
    reader = ChatStream(hide=True)
    assert reader.feed(filtered) == filtered
    assert not reader.failed


@pytest.mark.parametrize("event", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"id: 1\rdata: [DONE]\r\r"])
def test_done_is_recognised_as_a_line(event: bytes) -> None:
    reader = ChatStream(hide=True)
    assert reader.feed(event + b": next") == event
    assert reader.done


@pytest.mark.parametrize("event", [b"data: x [DONE]\n\n", b": data: [DONE]\n\n"])
def test_done_within_a_line_is_not_the_end(event: bytes) -> None:
    reader = ChatStream(hide=True)
    reader.feed(event)
    assert not reader.done


def test_what_follows_done_in_the_same_piece_is_ignored() -> None:
    reader = ChatStream(hide=True)
    stream = b'data: {"choices":[{"delta":{}}]}\n\n' + DONE
    assert reader.feed(stream + b'data: {"error":{"message":"no"}}\n\n' + USAGE_CHUNK + b"\n\n") == stream
    assert (reader.done, reader.failed, reader.usage) == (True, False, None)


def test_the_usage_in_an_unfinished_last_event_is_read() -> None:
    reader = ChatStream(hide=True)
    assert reader.feed(USAGE_CHUNK) == b""
    assert not reader.end()
    assert reader.usage == Usage(7, 5)


# ---- the amount of output


def azure_chunk(delta: dict[str, object]) -> bytes:
    choice = {
        "content_filter_results": {},
        "delta": delta,
        "finish_reason": None,
        "index": 0,
        "logprobs": None,
    }
    return chunk_of({"choices": [choice], "created": 1, "id": "chatcmpl-1", "model": "gpt-4o", "usage": None})


def openai_chunk(delta: dict[str, object]) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return chunk_of({"id": "chatcmpl-1", "choices": [choice]})


def chunk_of(chunk: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize("chunk", [azure_chunk, openai_chunk])
@pytest.mark.parametrize("together", [False, True])
def test_the_output_of_content_is_counted_exactly(chunk: Callable[..., bytes], together: bool) -> None:
    texts = [" glove", "", '"}],"finish_reason":null', "\u00e9\n", "," * 1000]
    events = [chunk({"content": text}) for text in texts]
    reader = ChatStream(hide=True)
    for piece in [b"".join(events)] if together else events:
        reader.feed(piece)
    assert reader.output_bytes == sum(len(json.dumps(text)) - 2 for text in texts)


@pytest.mark.parametrize(
    "delta",
    [
        {"refusal": "I cannot help."},
        {
            "tool_calls": [
                {"index": 0, "id": "call_1", "function": {"name": "finish_reason", "arguments": "{}"}}
            ]
        },
        {"function_call": {"name": "f", "arguments": '{"a":"},\\"finish_reason\\":"}'}},
        {"reasoning_content": "Let me see."},
        {"content": "a", "refusal": "b", "audio": {"transcript": "c", "data": "abcd"}},
    ],
)
@pytest.mark.parametrize("chunk", [azure_chunk, openai_chunk])
def test_output_of_any_kind_is_counted(chunk: Callable[..., bytes], delta: dict[str, object]) -> None:
    reader = ChatStream(hide=True)
    reader.feed(chunk(delta))
    text = sum(map(len, strings(delta)))
    assert text <= reader.output_bytes <= text + 120


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


@given(st.lists(st.text(), min_size=1), st.booleans(), st.integers(1, 400))
def test_the_count_is_never_below_the_text(texts: list[str], ascii_only: bool, size: int) -> None:
    def event(text: str) -> bytes:
        choices = [
            {"delta": {"content": text}},
            {"finish_reason": None, "delta": {"content": text}, "index": 1},
        ]
        body = json.dumps({"choices": choices}, ensure_ascii=ascii_only)
        return b"data: " + body.encode(errors="replace") + b"\n\n"

    stream = b"".join(map(event, texts))
    reader = ChatStream(hide=False)
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    assert reader.output_bytes >= 2 * sum(len(text.encode(errors="replace")) for text in texts)


# ---- events that are too long to be kept

PIECE = 50_000
LONG = b"x" * (MAX_EVENT_BYTES * 3)


def in_pieces(reader: ChatStream, stream: bytes) -> list[bytes]:
    return [reader.feed(stream[at : at + PIECE]) for at in range(0, len(stream), PIECE)]


@pytest.mark.parametrize("line_end", LINE_ENDS)
@pytest.mark.parametrize("hide", [False, True])
def test_a_long_event_is_passed_on_in_pieces(line_end: bytes, hide: bool) -> None:
    event = b'data: {"choices":[{"delta":{"audio":"%b"}}],"usage":null}' % LONG + line_end * 2
    last = b'data: {"choices":[{"delta":{}}]}' + line_end * 2
    stream = event + last + b"data: [DONE]" + line_end * 2
    reader = ChatStream(hide=hide)
    pieces = in_pieces(reader, stream)
    shown = stream.replace(b',"usage":null', b"") if hide else stream
    assert b"".join(pieces) == shown
    assert reader.done
    assert max(map(len, pieces)) <= MAX_EVENT_BYTES + 2 * PIECE
    assert reader.output_bytes >= len(LONG)


def test_usage_null_in_a_long_event_is_hidden_wherever_the_pieces_end() -> None:
    event = b'data: {"choices":[{"delta":{"audio":"%b"}}],"usage":null}\n\n' % (b"x" * MAX_EVENT_BYTES)
    for at in range(len(event) - 16, len(event)):
        reader = ChatStream(hide=True)
        shown = reader.feed(event[:at])
        assert shown + reader.feed(event[at:]) == event.replace(b',"usage":null', b"")


def test_the_usage_in_a_long_event_is_read() -> None:
    usage = b'{"prompt_tokens":7,"completion_tokens":5}'
    stream = b'data: {"choices":[{"delta":{"audio":"%b"}}],"usage":%b}\n\n' % (LONG, usage)
    reader = ChatStream(hide=True)
    assert b"".join(in_pieces(reader, stream)) == stream
    assert reader.usage == Usage(7, 5)


@pytest.mark.parametrize(
    "form",
    [b'{"choices":[],"x":"%b","usage":{}}', b'{"usage":{"x":"%b"},"choices":[]}', b'{"choices":[],"x":"%b"}'],
)
def test_a_long_chunk_with_only_usage_is_hidden(form: bytes) -> None:
    reader = ChatStream(hide=True)
    pieces = in_pieces(reader, b"data: " + form % LONG + b"\n\n" + DONE)
    assert b"".join(pieces) == DONE


def test_a_long_error_event_is_passed_on() -> None:
    stream = b'data: {"error":{"message":"%b"}}\n\n' % LONG
    reader = ChatStream(hide=True)
    assert b"".join(in_pieces(reader, stream)) == stream
    assert reader.failed


def test_the_reader_says_whether_the_client_has_a_part_of_an_event() -> None:
    reader = ChatStream(hide=True)
    in_pieces(reader, b"data: " + LONG)
    assert reader.in_event
    reader.feed(b"\n\n")
    assert not reader.in_event
    assert not reader.end()


@given(st.binary() | st.text().map(lambda text: json.dumps({"usage": text}).encode()))
def test_any_event_is_accepted(body: bytes) -> None:
    reader = ChatStream(hide=True)
    reader.feed(b"data: " + body + b"\n\n")
    reader.end()
