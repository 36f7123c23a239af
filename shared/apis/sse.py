"""Reads server-sent events: bytes in, whole events out, and no I/O.

Line ends are LF, CR or CRLF, and nothing else (WHATWG HTML, "Server-sent events").
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from ..core.models import Usage

MAX_EVENT_BYTES = 1024 * 1024
"""A longer event cannot be a chunk of a chat completion."""

HEARTBEAT = b": keep-alive\n\n"
"""A comment: clients skip it."""

_blank_line = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_usage_null = re.compile(rb',\s*"usage"\s*:\s*null|(?<!\\)"usage"\s*:\s*null\s*,')
_USAGE_NULL = b',"usage":null'
"""The form that Azure writes. This search is much faster than the expression above, which finds all forms."""

_usage_object = re.compile(rb'"usage"\s*:\s*\{')
_error_line = re.compile(rb'(?:^|[\r\n])data: ?\{\s*"error"')
_done_line = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")


class EventTooLong(ValueError):
    """An event of the stream is longer than `MAX_EVENT_BYTES`."""


class EventSplitter:
    """Keeps an incomplete event back, so that only whole events are passed on."""

    def __init__(self) -> None:
        self._tail = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All events that `data` completes, as one piece; empty if it completes none.

        Raises:
            EventTooLong: the incomplete event is too long.
        """
        if not self._tail and data.endswith(b"\n\n") and b"\r" not in data:
            return data
        searched = max(0, len(self._tail) - 3)
        self._tail += data
        end = self._last_end(searched)
        if not end and len(self._tail) > MAX_EVENT_BYTES:
            raise EventTooLong
        whole = bytes(self._tail[:end])
        del self._tail[:end]
        return whole

    def rest(self) -> bytes:
        """After the end of the stream: the event that its sender did not finish, or nothing."""
        return bytes(self._tail)

    def _last_end(self, searched: int) -> int:
        if b"\r" not in self._tail:
            return self._tail.rfind(b"\n\n", searched) + 2 if b"\n\n" in self._tail[searched:] else 0
        # A CR at the end may be half of a CRLF, so wait for the next byte.
        ready = self._tail[:-1] if self._tail.endswith(b"\r") else self._tail
        return max((match.end() for match in _blank_line.finditer(ready)), default=0)


def split(events: bytes) -> list[bytes]:
    """Whole events, one by one, each with the blank line that ends it. Extra line ends are separate items."""
    ends = [match.end() for match in _blank_line.finditer(events)]
    if events and (not ends or ends[-1] < len(events)):
        ends.append(len(events))
    return [events[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def data(event: bytes) -> bytes:
    """The payload of one event: its `data:` lines, joined by LF."""
    lines = re.split(rb"\r\n|\r|\n", event)
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def error_event(body: bytes) -> bytes:
    """A stream event for an error after the first byte, when no status can be sent any more."""
    return b"data: " + body + b"\n\n"


_Count = Annotated[int, msgspec.Meta(ge=0)]


class WireUsage(msgspec.Struct):
    """The member `usage` of a chat completion."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0

    def usage(self) -> Usage:
        return Usage(self.prompt_tokens, self.completion_tokens)


class _Response(msgspec.Struct):
    usage: WireUsage | None = None


class _Chunk(_Response):
    choices: list[msgspec.Raw] | None = None


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class UsageReader:
    """Reads the usage in a stream. With `hide`, removes it from the stream.

    With `include_usage`, an upstream puts `"usage":null` into every chunk, and sends one more chunk with
    empty `choices` at the end. A client that did not request the usage gets neither.
    """

    def __init__(self, *, hide: bool) -> None:
        self._hide = hide
        self.usage: Usage | None = None
        self.chunks = 0
        self.done = False
        self.failed = False
        """The upstream sent an error event."""

    def read(self, events: bytes) -> bytes:
        """Read whole events; return the bytes to pass on."""
        self.chunks += events.count(b'"delta"')
        # A plain search comes first, because the expressions would read every byte.
        if (at := events.find(b"[DONE]")) >= 0 and _done_line.search(events, max(0, at - 7)):
            self.done = True
        if (at := events.find(b'"error"')) >= 0:
            begin = events.rfind(b"data:", 0, at)
            self.failed = self.failed or _error_line.search(events, max(0, begin - 1)) is not None
        if self._hide:
            events = events.replace(_USAGE_NULL, b"")
        at = events.find(b'"usage"')
        if at < 0:
            return events
        if not _usage_object.search(events, at):
            return _usage_null.sub(b"", events) if self._hide else events
        begin = _event_begin(events, at)
        return events[:begin] + b"".join([self._read_one(event) for event in split(events[begin:])])

    def _read_one(self, event: bytes) -> bytes:
        chunk = _chunk(data(event)) if _usage_object.search(event) else None
        if chunk is not None and chunk.usage is not None:
            self.usage = chunk.usage.usage()
            if self._hide and not chunk.choices:
                return b""
        return _usage_null.sub(b"", event) if self._hide else event


def _event_begin(events: bytes, at: int) -> int:
    """The beginning of the event around `at`; 0 if the line ends are not plain LF."""
    if b"\r" in events:
        return 0
    end = events.rfind(b"\n\n", 0, at)
    return end + 2 if end >= 0 else 0


def _chunk(payload: bytes) -> _Chunk | None:
    try:
        return _decode_chunk(payload)
    except (msgspec.MsgspecError, RecursionError):
        return None


def usage_of(body: bytes) -> Usage | None:
    """The usage in a whole response; None if it reports none.

    Raises:
        ValueError: the body is not a JSON object.
    """
    try:
        response = _decode_response(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        if isinstance(_decoded(body), dict):
            return None  # the client gets an object of another shape as it is
        raise ValueError("not a JSON object") from error
    return response.usage.usage() if response.usage else None


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
