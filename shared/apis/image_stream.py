"""Reads the stream of generated images: usage, end and errors. An event may hold a picture of several MB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce

import msgspec

from ..core.errors import ProxyError
from ..core.models import Usage
from . import sse
from .api import UNKNOWN_OUTPUT
from .usage import ReadUsage, UsageFinder

_KEPT_BYTES = 200
"""Of the end of a piece. More than the name of an event needs."""

_COMPLETED = b"image_generation.completed"
_completed = re.compile(
    rb"(?:^|[\r\n])event: ?image_generation\.completed[\r\n]"
    rb'|"type"\s*:\s*"image_generation\.completed"'
)
_error_line = re.compile(rb"(?:^|[\r\n])event: ?error[\r\n]")
_NO_ERROR = (b"null", b"false", b'""', b"{}")


class _Event(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


_decode_event = msgspec.json.Decoder(_Event).decode


class ImageStream:
    """One stream, with a completed event for each of `images`. Everything is passed on as it is."""

    output_bytes = UNKNOWN_OUTPUT
    """The bytes of a picture say nothing about its tokens."""

    def __init__(self, images: int, read: ReadUsage) -> None:
        self.done = False
        """The last completed event came. What follows it is ignored."""
        self.failed = False
        """The upstream sent an error event."""
        self._images = images
        self._read = read
        self._events = sse.EventSplitter()
        self._long: _Reading | None = None
        """The event that is passed on in pieces, because it is too long to be kept."""
        self._usages: list[Usage | None] = []
        """Of each completed event."""

    @property
    def usage(self) -> Usage | None:
        """Of all pictures together; None until the last one is complete, or if one has none."""
        known = [usage for usage in self._usages if usage is not None]
        if not self.done or len(known) < len(self._usages):
            return None
        return reduce(Usage.plus, known, Usage())

    @property
    def in_event(self) -> bool:
        """Whether the client has got a part of an event."""
        return self._long is not None

    def feed(self, data: bytes) -> bytes:
        """The bytes to pass on: whole events, or a piece of a long one."""
        if self.done:
            return b""
        if self._long is not None:
            return self._feed_long(self._long, data)
        try:
            events = self._events.feed(data)
        except sse.EventTooLong:
            self._long = _Reading(self._read)
            return self._feed_long(self._long, self._events.take())
        return b"".join(self._read_events(events))

    def end(self) -> bool:
        """Read what is left after the last byte. Whether the stream was complete.

        An event without its end is lost for the client, but its usage counts.
        """
        was_complete = self.done
        if self._long is not None:
            self._end_event(self._long)
        for _ in self._read_events(self._events.take()):
            pass
        return was_complete

    def error_event(self, error: ProxyError) -> bytes:
        """In the form of the API's own errors."""
        return b'event: error\ndata: {"type":"error",' + error.body()[1:] + b"\n\n"

    def _read_events(self, events: bytes) -> Iterator[bytes]:
        """Each event until the last completed one."""
        while events and not self.done:
            end = sse.first_end(events) or len(events)
            event, events = events[:end], events[end:]
            reading = _Reading(self._read)
            reading.feed(event)
            self.failed = self.failed or _is_error(event)
            self._end_event(reading)
            yield event

    def _feed_long(self, event: _Reading, data: bytes) -> bytes:
        held = event.kept[-3:]
        text = held + data
        end = sse.first_end(text)
        if end == len(text) and text.endswith(b"\n\r"):
            end = 0  # it may be half of a CRLF
        piece = data[: end - len(held)] if end else data
        event.feed(piece)
        if not end:
            return piece
        self._long = None
        self._end_event(event)
        return piece + self.feed(data[len(piece) :])

    def _end_event(self, event: _Reading) -> None:
        if event.is_completed:
            self._usages.append(event.usage)
            self.done = len(self._usages) == self._images


class _Reading:
    """What one event is, found in its pieces."""

    def __init__(self, read: ReadUsage) -> None:
        self._finder = UsageFinder(read)
        self.kept = b""
        """The end of the last piece."""
        self.is_completed = False
        """Whether a picture is complete with this event."""

    @property
    def usage(self) -> Usage | None:
        return self._finder.usage

    def feed(self, piece: bytes) -> None:
        self._finder.feed(piece)
        text = self.kept + piece
        if _COMPLETED in text and _completed.search(text):
            self.is_completed = True
        self.kept = text[-_KEPT_BYTES:]


def _is_error(event: bytes) -> bool:
    if b'"error"' not in event:
        return False
    try:
        return bytes(_decode_event(sse.data(event)).error) not in _NO_ERROR
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _error_line.search(event) is not None
