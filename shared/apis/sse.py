"""Reads server-sent events: bytes in, whole events out, and no I/O.

Line ends are LF, CR or CRLF, and nothing else (WHATWG HTML, "Server-sent events").
"""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 1024 * 1024
"""A longer event of a chat completion is not kept as a whole."""

HEARTBEAT = b": keep-alive\n\n"
"""A comment: clients skip it."""

_blank_line = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_unfinished_done = re.compile(rb"(data: ?\[DONE\])[\r\n]*")


class EventTooLong(ValueError):
    """An event of the stream is longer than the splitter keeps."""


class EventSplitter:
    """Keeps an incomplete event back, so that only whole events are passed on."""

    def __init__(self, most_bytes: int = MAX_EVENT_BYTES) -> None:
        """`most_bytes` is the longest event that is kept as a whole."""
        self._most_bytes = most_bytes
        self._tail = bytearray()
        self._blank_line = b"\n\n"
        """The last one, in the line ends of this stream."""
        self._has_cr = False
        """Whether a CR has come."""

    def feed(self, data: bytes) -> bytes:
        """All events that `data` completes, as one piece; empty if it completes none.

        `[DONE]` is complete without its blank line: nothing of interest follows it.

        Raises:
            EventTooLong: the incomplete event is too long. `take` returns it.
        """
        searched = max(0, len(self._tail) - 3)
        self._tail += data
        self._has_cr = self._has_cr or b"\r" in data
        end = self._last_end(searched)
        if not end and len(self._tail) > self._most_bytes:
            raise EventTooLong
        whole = bytes(self._tail[:end])
        del self._tail[:end]
        if self._tail.endswith((b"]", b"\r", b"\n")) and (done := _unfinished_done.fullmatch(self._tail)):
            whole += done[1] + self._blank_line
            self._tail.clear()
        return whole

    @property
    def has_part(self) -> bool:
        """Whether a part of an event is kept back."""
        return bool(self._tail)

    def take(self) -> bytes:
        """The event that its sender has not finished, or nothing. It is not kept any longer."""
        rest = bytes(self._tail)
        self._tail.clear()
        return rest

    def _last_end(self, searched: int) -> int:
        if not self._has_cr:
            return self._tail.rfind(b"\n\n", searched) + 2 if b"\n\n" in self._tail[searched:] else 0
        # A CR at the end may be half of a CRLF, so wait for the next byte. After a CR, it ends the event.
        is_half = self._tail.endswith(b"\r") and not self._tail.endswith(b"\r\r")
        ready = self._tail[:-1] if is_half else self._tail
        end = 0
        for match in _blank_line.finditer(ready, searched):
            self._blank_line, end = match[0], match.end()
        return end


def first_end(data: bytes, searched: int = 0) -> int:
    """Where the first event ends, with its blank line; 0 if it does not end. Searches from `searched` on."""
    if b"\r" not in data:
        return data.find(b"\n\n", searched) + 2 if b"\n\n" in data[searched:] else 0
    match = _blank_line.search(data, searched)
    return match.end() if match else 0


def split(events: bytes) -> list[bytes]:
    """Whole events, one by one, each with the blank line that ends it. Extra line ends are separate items."""
    ends = [match.end() for match in _blank_line.finditer(events)]
    if events and (not ends or ends[-1] < len(events)):
        ends.append(len(events))
    return [events[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def data(event: bytes) -> bytes:
    """The payload of one event: its `data:` lines, joined by LF."""
    # The expression takes five times as long.
    lines = re.split(rb"\r\n|\r|\n", event) if b"\r" in event else event.split(b"\n")
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))


def error_event(body: bytes) -> bytes:
    """A stream event for an error after the first byte, when no status can be sent any more."""
    return b"data: " + body + b"\n\n"
