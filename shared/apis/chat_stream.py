"""Reads the stream of a chat completion: usage, end, errors, and the amount of output. Hides the usage.

With `include_usage`, an upstream puts `"usage":null` into every chunk, and sends one more chunk with empty
`choices` at the end. A client that did not request the usage gets neither.
"""

from __future__ import annotations

import re

import msgspec

from ..core.errors import ProxyError
from ..core.models import Usage
from . import sse
from .usage import UsageFinder, read_usage

_USAGE_NULL = b',"usage":null'
"""The form that Azure writes. This search is much faster than the expressions below, which find all forms."""

_GAP = rb"(?:\s|(?<=[\r\n])data:)*+"
"""Between two tokens: space, or a new line of the same event."""

_usage_null = re.compile(rb',%b"usage"%b:%bnull|(?<!\\)"usage"%b:%bnull%b,' % ((_GAP,) * 6))
_usage_value = re.compile(rb'(?<!\\)"usage"%b:%b(?!null)' % (_GAP, _GAP))
_only_usage_null = re.compile(rb'\s*\{\s*"usage"\s*:\s*null\s*\}\s*')
_filled_choices = re.compile(rb'(?<!\\)"choices"%b:%b\[%b[^\s\]]' % (_GAP, _GAP, _GAP))
_empty_choices = re.compile(rb'(?<!\\)"choices"%b:%b\[%b\]' % (_GAP, _GAP, _GAP))
_error_line = re.compile(rb'(?:^|[\r\n])data: ?\{\s*"error"\s*:\s*[{"]')
_done_line = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")

_DELTA = b'"delta"'
_AFTER_DELTA = b'"finish_reason":'
_NO_LOGPROBS = b'"logprobs":null,'
_NO_LOGPROBS_BYTES = len(_NO_LOGPROBS)
_LEAST_AROUND_TEXT = len(b'"delta":{"content":""},')

_HELD_BYTES = 64
"""Of a long event. Longer than the text that may have to be hidden."""


class _Chunk(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")
    choices: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class ChatStream:
    """One stream. Takes the upstream's bytes and returns those for the client; with `hide`, without usage."""

    def __init__(self, *, hide: bool) -> None:
        self._hide = hide
        self._events = sse.EventSplitter()
        self._long: _LongEvent | None = None
        """The event that is passed on in pieces, because it is too long to be kept."""
        self._has_part = False
        """Whether the last piece ended within an event."""
        self._usage: Usage | None = None
        """The last one that the upstream reported."""
        self._usage_at = 0
        """`output_bytes` when it came."""
        self.output_bytes = 0
        """An upper bound of the output of all choices (text, tool calls, refusals), in bytes of JSON. It is
        not below their tokens. For the chunks that Azure writes, it is the length of the text."""
        self.done = False
        """`[DONE]` came. What follows it is ignored."""
        self.failed = False
        """The upstream sent an error event."""

    @property
    def usage(self) -> Usage | None:
        """As reported, and a token for each byte of output after it. None if it is not reported."""
        if (usage := self._usage) is None:
            return None
        later_bytes = self.output_bytes - self._usage_at
        return usage.plus(Usage(completion_tokens=later_bytes))

    @property
    def in_event(self) -> bool:
        """Whether the client has got a part of an event."""
        return self._long is not None

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on: whole events, or a piece of a long one."""
        if self._has_part or data[-2:] != b"\n\n" or data.find(b"\r") >= 0:
            return self._feed_part(data)
        return self._read(data)

    def _feed_part(self, data: bytes) -> bytes:
        if self._long is not None:
            return self._feed_long(self._long, data)
        try:
            events = self._events.feed(data)
        except sse.EventTooLong:
            return self._begin_long(self._events.take())
        self._has_part = self._events.has_part
        return self._read(events) if events else events

    def end(self) -> bool:
        """Read what is left after the last byte. Whether the stream was complete."""
        if not self.done:
            self._read(self._events.take())
        return self.done

    def error_event(self, error: ProxyError) -> bytes:
        return sse.error_event(error.body())

    def _read(self, events: bytes) -> bytes:
        # `find` is much faster than an expression, and than `in`.
        if (at := events.find(b"[DONE]")) >= 0:
            events = self._until_done(events, at)
        if events.find(b'"error"') >= 0:
            self.failed = self.failed or any(map(_is_error, sse.split(events)))
        if (at := events.find(_DELTA)) >= 0:
            self.output_bytes += _output_bytes(events, at)
        plain = b"".join(events.split(_USAGE_NULL))  # `replace` searches twice
        at = plain.find(b'"usage"')
        if at < 0:
            return plain if self._hide else events
        if self._hide:
            events = plain
        begin = _event_begin(events, at)
        return events[:begin] + self._read_each(sse.split(events[begin:]))

    def _read_each(self, events: list[bytes]) -> bytes:
        """Read the usage in events whose output is counted."""
        out, latest = [], None
        for number, event in enumerate(events):
            seen = self._usage
            out.append(self._read_one(event))
            latest = latest if self._usage is seen else number
        if latest is not None:
            later = b"".join(events[latest + 1 :])
            self._usage_at = self.output_bytes - _output_bytes(later, later.find(_DELTA))
        return b"".join(out)

    def _until_done(self, events: bytes, at: int) -> bytes:
        line = _done_line.search(events, max(0, at - 7))
        if line is None:
            return events
        self.done = True
        return events[: sse.first_end(events, line.end()) or len(events)]

    def _read_one(self, event: bytes) -> bytes:
        is_only_usage = False
        if _usage_value.search(event):
            chunk = _chunk(event)
            is_only_usage = _seems_only_usage(event) if chunk is None else _is_only_usage(chunk)
            if chunk is not None and (usage := read_usage(chunk.usage)) is not None:
                self._usage = usage
        if not self._hide:
            return event
        if is_only_usage or _only_usage_null.fullmatch(sse.data(event)):
            return b""
        return _usage_null.sub(b"", event)

    def _begin_long(self, begin: bytes) -> bytes:
        self.failed = self.failed or _error_line.search(begin) is not None
        self._has_part = True
        self._long = _LongEvent(hide=self._hide, is_hidden=self._hide and _seems_only_usage(begin))
        return self._feed_long(self._long, begin)

    def _feed_long(self, event: _LongEvent, data: bytes) -> bytes:
        piece, rest = event.feed(data)
        self.output_bytes += len(piece)
        if rest is None:
            return piece
        self._long, self._has_part = None, False
        if event.usage is not None:
            self._usage, self._usage_at = event.usage, self.output_bytes
        return piece + self.feed(rest)


class _LongEvent:
    """An event that is passed on in pieces. Its last bytes are held back, so that the usage can be hidden."""

    def __init__(self, *, hide: bool, is_hidden: bool) -> None:
        self._hide = hide
        self._is_hidden = is_hidden
        self._held = b""
        self._finder = UsageFinder()

    @property
    def usage(self) -> Usage | None:
        return self._finder.usage

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """What to pass on, and what came after the end of the event; None if it has not ended."""
        held, data = len(self._held), self._held + data
        end = sse.first_end(data, max(0, held - 3))
        piece, rest = (data[:end], data[end:]) if end else (data, None)
        self._finder.feed(piece[held:])
        if self._hide and b'"usage"' in piece:
            piece = _usage_null.sub(b"", piece)
        if rest is None:
            piece, self._held = piece[:-_HELD_BYTES], piece[-_HELD_BYTES:]
        return b"" if self._is_hidden else piece, rest


def _output_bytes(events: bytes, at: int) -> int:
    """The bytes from each `delta` to the `finish_reason` after it. The first is at `at`; -1: there is none.

    Text cannot contain these names: a quote within JSON text has a backslash before it.
    """
    found, after = 0, _AFTER_DELTA
    while at >= 0:
        end = events.find(after, at)
        if end < 0:  # not Azure's form: from here on, count up to the ends of the events
            after = b"\n\n"
            end = events.find(after, at)
            end = len(events) if end < 0 else end
        size = end - at - _LEAST_AROUND_TEXT
        if size >= _NO_LOGPROBS_BYTES and events.endswith(_NO_LOGPROBS, at, end):
            size -= _NO_LOGPROBS_BYTES
        if size > 0:
            found += size
        at = events.find(_DELTA, end)
    return found


def _event_begin(events: bytes, at: int) -> int:
    """The beginning of the event around `at`; 0 if the line ends are not plain LF."""
    if b"\r" in events:
        return 0
    end = events.rfind(b"\n\n", 0, at)
    return end + 2 if end >= 0 else 0


def _chunk(event: bytes) -> _Chunk | None:
    """The chunk in an event; None if it is no JSON object."""
    try:
        return _decode_chunk(sse.data(event))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_error(event: bytes) -> bool:
    """Whether an event is an error event. The SDKs ignore an error that is null, false or empty."""
    chunk = _chunk(event)
    return _error_line.search(event) is not None if chunk is None else not _is_empty(chunk.error)


def _is_only_usage(chunk: _Chunk) -> bool:
    return bytes(chunk.usage) != b"null" and _is_empty(chunk.choices)


def _seems_only_usage(event: bytes) -> bool:
    """The same for an event that is not valid, or not complete."""
    if _filled_choices.search(event):
        return False
    return _usage_value.search(event) is not None or _empty_choices.search(event) is not None


def _is_empty(member: msgspec.Raw) -> bool:
    try:
        return not msgspec.json.decode(member)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
