"""Server-sent events as bytes: the splitter, and what finds the parts of an event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.sse import (
    MAX_EVENT_BYTES,
    EventSplitter,
    EventTooLong,
    data,
    error_event,
    first_end,
    split,
)

LINE_ENDS = [b"\n", b"\r\n", b"\r"]
STREAM = b'data: {"a":1}\n\n: keep-alive\n\nevent: x\ndata: one\ndata: two\n\ndata: three\n\n'


def events_of(stream: bytes) -> list[bytes]:
    return split(stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_data_split_at_any_byte_gives_whole_events_and_all_bytes(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    for at in range(len(stream) + 1):
        splitter = EventSplitter()
        pieces = [splitter.feed(stream[:at]), splitter.feed(stream[at:])]
        assert b"".join(pieces) + splitter.take() == stream
        for piece in pieces:
            assert b"".join(split(piece)) == piece


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_data_that_arrives_byte_by_byte_gives_single_events(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    splitter = EventSplitter()
    pieces = [piece for at in range(len(stream)) if (piece := splitter.feed(stream[at : at + 1]))]
    if rest := splitter.take():
        pieces.append(rest)
    assert b"".join(pieces) == stream
    normal = [piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for piece in pieces]
    assert normal == events_of(stream)


def test_an_extra_line_end_is_kept() -> None:
    assert split(b"data: a\n\n\n") == [b"data: a\n\n", b"\n"]


@given(st.binary(max_size=40) | st.text(alphabet="a\r\n", max_size=40).map(str.encode), st.data())
def test_any_pieces_give_the_same_bytes(stream: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    splitter = EventSplitter()
    fed = b"".join(
        splitter.feed(stream[start:end]) for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
    )
    assert fed + splitter.take() == stream
    assert b"".join(split(fed)) == fed


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_an_event_is_passed_on_with_its_last_byte(line_end: bytes) -> None:
    event = b"data: x" + line_end * 2
    splitter = EventSplitter()
    assert splitter.feed(event[:-1]) == b""
    assert splitter.feed(event[-1:]) == event
    assert splitter.take() == b""


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_a_long_event_is_read_in_proportion_to_its_length(line_end: bytes) -> None:
    """To search the whole event after each of its pieces would take hours, and stop the event loop."""
    event = b"event: x" + line_end + b"data: " + b"x" * 16_000_000 + line_end * 2
    splitter = EventSplitter(len(event))
    pieces = [splitter.feed(event[at : at + 1000]) for at in range(0, len(event), 1000)]
    assert b"".join(pieces) == event


def test_an_incomplete_event_is_held_back() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == b"data: a\n\n"
    assert splitter.take() == b"data: b\n"


def test_an_event_beyond_the_limit_is_refused() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"x" * MAX_EVENT_BYTES) == b""
    with pytest.raises(EventTooLong):
        splitter.feed(b"x")
    assert splitter.take() == b"x" * (MAX_EVENT_BYTES + 1)
    assert splitter.take() == b""


@pytest.mark.parametrize("line_end", [*LINE_ENDS, b""])
@pytest.mark.parametrize("blank", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_done_is_complete_without_its_blank_line(line_end: bytes, blank: bytes) -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a" + blank + b"data: [DONE") + splitter.feed(b"]" + line_end) == (
        b"data: a" + blank + b"data: [DONE]" + blank
    )


def test_text_like_done_waits_for_its_end() -> None:
    splitter = EventSplitter()
    for text in (b"data: [DONE] x\n", b"data: x\ndata: [DONE]\n", b": [DONE]\n"):
        assert splitter.feed(text) == b""
        assert splitter.feed(b"\n") == text + b"\n"


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_the_end_of_the_first_event_is_found(line_end: bytes) -> None:
    event = b"data: a" + line_end * 2
    assert first_end(event + b"data: b" + line_end * 2) == len(event)
    assert first_end(event[: -len(line_end)]) == 0


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
