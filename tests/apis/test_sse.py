"""Server-sent events as bytes: the splitter, and the reader that finds the usage and hides it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.sse import (
    MAX_EVENT_BYTES,
    EventSplitter,
    EventTooLong,
    UsageReader,
    data,
    error_event,
    split,
    usage_of,
)
from shared.core.models import Usage

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
STREAM = b'data: {"a":1}\n\n: keep-alive\n\nevent: x\ndata: one\ndata: two\n\ndata: [DONE]\n\n'
USAGE_CHUNK = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}'


def events_of(stream: bytes) -> list[bytes]:
    return split(stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_data_split_at_any_byte_gives_whole_events_and_all_bytes(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    for at in range(len(stream) + 1):
        splitter = EventSplitter()
        pieces = [splitter.feed(stream[:at]), splitter.feed(stream[at:])]
        assert b"".join(pieces) + splitter.rest() == stream
        for piece in pieces:
            assert b"".join(split(piece)) == piece


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_data_that_arrives_byte_by_byte_gives_single_events(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    splitter = EventSplitter()
    pieces = [piece for at in range(len(stream)) if (piece := splitter.feed(stream[at : at + 1]))]
    if splitter.rest():
        pieces.append(splitter.rest())
    assert b"".join(pieces) == stream
    normal = [piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for piece in pieces]
    assert normal == events_of(stream)


def test_an_extra_line_end_is_kept() -> None:
    assert split(b"data: a\n\n\n") == [b"data: a\n\n", b"\n"]
    usage = b'data: {"choices":[{}],"usage":{"prompt_tokens":1}}\n\n\n'
    assert UsageReader(hide=False).read(usage) == usage


@given(st.binary(max_size=40) | st.text(alphabet="a\r\n", max_size=40).map(str.encode), st.data())
def test_any_pieces_give_the_same_bytes(stream: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = EventSplitter()
    fed = b"".join(
        splitter.feed(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
    )
    assert fed + splitter.rest() == stream
    assert b"".join(split(fed)) == fed


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_an_event_is_passed_on_with_its_last_byte(line_end: bytes) -> None:
    event = b"data: x" + line_end * 2
    splitter = EventSplitter()
    assert splitter.feed(event[:-1]) == b""
    assert splitter.feed(event[-1:]) == event
    assert splitter.rest() == b""


def test_an_incomplete_event_is_held_back() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == b"data: a\n\n"
    assert splitter.rest() == b"data: b\n"


def test_an_event_beyond_the_limit_is_refused() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(EventTooLong):
        splitter.feed(b"x")


def test_one_piece_with_many_events_may_exceed_the_event_limit() -> None:
    stream = b"data: x\r\n\r\n" * (MAX_EVENT_BYTES // 8)
    assert EventSplitter().feed(stream) == stream


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_the_data_of_an_event_is_its_data_lines_joined(line_end: bytes) -> None:
    event = b'event: x\ndata: {"a":\ndata:1}\nid: 3\n\n'.replace(b"\n", line_end)
    assert data(event) == b'{"a":\n1}'


def test_an_error_event_is_one_event_with_its_body() -> None:
    assert data(error_event(b'{"error":{}}')) == b'{"error":{}}'
    assert split(error_event(b"{}")) == [error_event(b"{}")]


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
    reader = UsageReader(hide=True)
    assert reader.read(stream) == b"data: " + plain + end + b"data: [DONE]" + end
    assert (reader.usage, reader.done) == (Usage(7, 5), True)


@given(st.text(), st.sampled_from(LINE_ENDS), st.booleans())
def test_content_of_the_model_is_unchanged(content: str, line_end: bytes, ascii_only: bool) -> None:
    chunk = {"choices": [{"delta": {"content": content + '"usage":null, "usage":{ data: [DONE]'}}]}
    text = json.dumps(chunk, ensure_ascii=ascii_only).encode(errors="replace")
    event = b"data: " + text + line_end * 2
    with_usage = b"data: " + text[:-1] + b',"usage":null}' + line_end * 2
    reader = UsageReader(hide=True)
    assert reader.read(event) + reader.read(with_usage) == event * 2
    assert (reader.usage, reader.done, reader.chunks) == (None, False, 2)


def test_requested_usage_is_read_and_relayed() -> None:
    stream = b'data: {"choices":[],"usage":null}\n\n' + USAGE_CHUNK + b"\n\ndata: [DONE]\n\n"
    reader = UsageReader(hide=False)
    assert reader.read(stream) == stream
    assert reader.usage == Usage(7, 5)


def test_usage_beside_choices_is_read_and_the_chunk_stays() -> None:
    event = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    reader = UsageReader(hide=True)
    assert reader.read(event) == event
    assert reader.usage == Usage(1, 2)


def test_the_last_usage_counts() -> None:
    reader = UsageReader(hide=False)
    reader.read(b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n')
    reader.read(USAGE_CHUNK + b"\n\n")
    assert reader.usage == Usage(7, 5)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"usage":{',
        b'{"choices":[],"usage":{"prompt_tokens":"many"}}',
        b'{"choices":[],"usage":{"prompt_tokens":-3}}',
        b'{"choices":{},"usage":{"prompt_tokens":3}}',
        b'["usage", {"usage":{}}]',
        b'"usage":{}\xff',
        b'{"choices":[],"usage":{"x":' + b"[" * 100_000,
    ],
)
def test_usage_of_another_shape_is_relayed_and_not_counted(payload: bytes) -> None:
    event = b"data: " + payload + b"\n\n"
    reader = UsageReader(hide=True)
    assert reader.read(event) == event
    assert reader.usage is None


@pytest.mark.parametrize("event", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"id: 1\rdata: [DONE]\r\r"])
def test_done_is_recognised_only_as_a_line(event: bytes) -> None:
    reader = UsageReader(hide=True)
    reader.read(event)
    assert reader.done


def test_each_delta_is_a_chunk() -> None:
    reader = UsageReader(hide=True)
    reader.read(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' * 3)
    reader.read(b'data: {"choices":[]}\n\n')
    assert reader.chunks == 3


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":5,"x":{}}}', Usage(7, 5)),
        (b' {"choices":7,"usage":{"prompt_tokens":7}} ', Usage(7, 0)),
        (b"{}", None),
        (b'{"usage":null}', None),
        (b'{"usage":[]}', None),
        (b'{"usage":{"prompt_tokens":1.5}}', None),
        (b'{"usage":{"prompt_tokens":-1}}', None),
        (b'{"error":{"message":"no"}}', None),
    ],
)
def test_the_usage_of_a_response_is_read(body: bytes, usage: Usage | None) -> None:
    assert usage_of(body) == usage


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'[{"usage":{}}]', b"1", b"null", b'"x"', b"<html>", b"{", b"\xff\xfe", b"[" * 100_000],
)
def test_usage_of_a_body_that_is_not_an_object_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        usage_of(body)


@given(st.binary() | st.text().map(lambda text: json.dumps({"usage": text}).encode()))
def test_the_reader_accepts_any_event(body: bytes) -> None:
    try:
        usage_of(body)
    except ValueError as error:
        assert str(error) == "not a JSON object"
    UsageReader(hide=True).read(b"data: " + body + b"\n\n")
