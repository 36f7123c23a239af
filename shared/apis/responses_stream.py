"""Reads the stream of the Responses API: seals the ids, reads the usage, finds the end and errors.

A stream is a sequence of typed events (OpenAI's API reference, "Streaming events"). One of three ends it, and
holds the usage. There is no `[DONE]`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from ..core.errors import ProxyError, UpstreamError
from ..core.models import Usage
from . import sse
from .response_handles import text_of
from .response_sealing import INVALID, MOST_CACHED, Sealer
from .response_usage import usage_of

MOST_EVENT_BYTES = 16 * 1024 * 1024
"""A longer event ends the stream with an error.

The last event repeats the whole response: a long text, or pictures in base64. It cannot be passed on in
pieces, because ids stand before and after the long values. A picture has up to about 5 MB.
"""

ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})

_WITHOUT_OUTPUT = (
    "response.created",
    "response.queued",
    "response.in_progress",
    "response.image_generation_call.",
    "error",
)
_REPEATED = (".added", ".done", ".in_progress", ".completed", ".searching", ".interpreting")
"""The ends of the types of events whose output came in deltas."""

_IN_DELTAS = frozenset({"message", "function_call", "custom_tool_call"})
"""The items whose output comes in deltas."""

_INVALID = "The model sent an invalid stream event, so the answer is incomplete. Ask again."
_TOO_LONG = "The model sent a stream event that is too long, so the answer is incomplete."

_CODES = {"insufficient_quota": "insufficient_quota", "rate_limit_error": "rate_limit_exceeded"}
"""By the type of an error: the codes for which Codex gives up, or waits for the time in the message."""

_DELTA = b".delta\ndata: "  # in a delta event of Azure's form
_NULL = msgspec.Raw(b"null")


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The members of a delta event. Only `item_id` is an id."""

    type: str
    item_id: str
    delta: msgspec.Raw
    sequence_number: int = 0
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    obfuscation: msgspec.Raw = _NULL
    logprobs: msgspec.Raw = _NULL


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    item: msgspec.Raw = _NULL
    delta: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Response(msgspec.Struct):
    """What an error event repeats of a response."""

    id: msgspec.Raw = msgspec.Raw(b'"resp_failed"')
    created_at: msgspec.Raw = msgspec.Raw(b"0")
    model: msgspec.Raw = msgspec.Raw(b'""')


class _Item(msgspec.Struct):
    type: str = ""


_decode_delta = msgspec.json.Decoder(_Delta).decode
_decode_deltas = msgspec.json.Decoder(list[_Delta]).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_encode = msgspec.json.Encoder().encode


class ResponsesStream:
    """One stream. Takes the upstream's bytes, and returns whole events for the client."""

    in_event = False
    """Only whole events are passed on."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._events = sse.EventSplitter(MOST_EVENT_BYTES)
        self._has_part = False
        """Whether a part of an event is kept back."""
        self._items: dict[str, tuple[bytes, bytes]] = {}
        """By the upstream's id of an item: the member `item_id` as it came, and with the sealed id."""
        self._last_number = -1
        self._response = _Response()
        self.usage: Usage | None = None
        self.output_bytes = 0
        """An upper bound of the visible output, in bytes of JSON. It is not below its tokens."""
        self.done = False
        """One of `ENDS` came. What follows it is ignored."""
        self.failed = False
        """The upstream sent an error event. A `response.failed` is none: it ends a stream properly."""

    @property
    def response_id(self) -> str:
        """The sealed id of the response; empty if the upstream gave it none."""
        return text_of(self._response.id) or ""

    def feed(self, data: bytes) -> bytes:
        """The whole events that `data` completes, with sealed ids.

        Raises:
            UpstreamError: an event is too long, or its ids cannot be found.
        """
        if self._has_part or data[-2:] != b"\n\n" or data.find(b"\r") >= 0:
            data = self._complete(data)
            if not data:
                return data
        at = data.find(b"data: ")
        if data.find(b"\n\n", at) == len(data) - 2:
            return self._read(data, at)
        end = data.find(_DELTA) + len(_DELTA)
        start = data.rfind(b"event: ", 0, end)
        begin = data[start:end]
        if begin.count(b"\n") != 1 or (start > 0 and not data.endswith(b"\n\n", 0, start)):
            return self._read_each(data)
        out = self._read_each(data[:start])
        return out if self.done else out + self._read_run(data[start:], begin)

    def end(self) -> bool:
        """Read what is left after the last byte, for its usage. Whether the client got the last event."""
        is_complete, last_number = self.done, self._last_number
        if not is_complete:
            with suppress(UpstreamError):
                self._read_any(self._events.take())
            self.done, self._last_number = False, last_number
        return is_complete

    def error_event(self, error: ProxyError) -> bytes:
        """Two events, as OpenAI sends them: `error`, then `response.failed`.

        The openai SDKs raise an error for the member `error` of the first, all versions of the Vercel AI SDK
        for its type. Codex reads only the second.
        """
        text, number = error.message, self._last_number + 1
        members = {"message": text, "type": error.type, "param": error.param, "code": error.code}
        code = _CODES.get(error.type, error.code)
        first = {"type": "error", "sequence_number": number, "error": members}
        first |= {"code": error.code, "message": text, "param": error.param}
        response: dict[str, Any] = {
            "id": self._response.id,
            "object": "response",
            "created_at": self._response.created_at,
            "status": "failed",
            "model": self._response.model,
            "error": {"code": code, "message": text},
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "temperature": None,
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "usage": None,
        }
        second = {"type": "response.failed", "sequence_number": number + 1, "response": response}
        return b"event: error\ndata: %b\n\nevent: response.failed\ndata: %b\n\n" % (
            _encode(first),
            _encode(second),
        )

    def _complete(self, data: bytes) -> bytes:
        """The whole events, with LF as line ends."""
        try:
            events = self._events.feed(data)
        except sse.EventTooLong as error:
            raise UpstreamError(_TOO_LONG) from error
        self._has_part = self._events.has_part
        return events.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in events else events

    def _read_run(self, events: bytes, begin: bytes) -> bytes:
        """Events of which the first are deltas with this `begin`. Those of one item are read in one step."""
        run, ids = events[len(begin) :].split(b"\n\n" + begin), set[str]()
        end = len(events) - len(run[-1]) + run[-1].find(b"\n\n") + 2
        with suppress(*INVALID):
            deltas = _decode_deltas(b"[%b]" % b",".join(run).removesuffix(events[end:]))
            ids = {delta.item_id for delta in deltas}
        if len(ids) == 1 and len(deltas) == len(run):
            member, sealed_member = self._item(ids.pop())
            parts = events[:end].split(member)
            if len(parts) == len(run) + 1:
                self._last_number = deltas[-1].sequence_number
                self.output_bytes += sum([len(delta.delta) for delta in deltas])
                return sealed_member.join(parts) + self._read_each(events[end:])
        return self._read_each(events)

    def _read_each(self, events: bytes) -> bytes:
        out = []
        for event in events.split(b"\n\n")[:-1]:
            out.append(self._read(event + b"\n\n", event.find(b"data: ")))
            if self.done:
                break
        return b"".join(out)

    def _read(self, event: bytes, at: int) -> bytes:
        """One event with its blank line. Most are deltas in Azure's form, with `data: ` at `at`."""
        if not event.startswith(b".delta\n", at - 7):
            return self._read_any(event)
        try:
            delta = _decode_delta(event[at + 6 :])
        except INVALID:
            return self._read_any(event)
        member, sealed_member = self._item(delta.item_id)
        begin = event.find(member, at)
        if begin < 0:
            return self._read_any(event)
        self._last_number = delta.sequence_number
        self.output_bytes += len(delta.delta)
        return event[:begin] + sealed_member + event[begin + len(member) :]

    def _item(self, upstream_id: str) -> tuple[bytes, bytes]:
        """See `_items`. Raises UpstreamError: the id cannot be sealed."""
        item = self._items.get(upstream_id)
        if item is not None:
            return item
        if len(self._items) >= MOST_CACHED:
            self._items.clear()
        try:
            sealed = self._sealer.seal(upstream_id, is_response=False)
        except ValueError as error:
            raise UpstreamError(_INVALID) from error
        item = b'"item_id":%b' % _encode(upstream_id), b'"item_id":%b' % _encode(sealed)
        self._items[upstream_id] = item
        return item

    def _read_any(self, event: bytes) -> bytes:
        """Read an event of any type and form. Raises UpstreamError."""
        names, data = _parts(event)
        if not data or data == b"[DONE]":
            return event
        try:
            decoded = _decode_event(data)
            sealed = self._sealer.event(data)
            self._note(decoded, data, sealed)
        except (ValueError, *INVALID) as error:
            raise UpstreamError(_INVALID) from error
        if sealed == data:
            return event
        return b"%bdata: %b\n\n" % (names, sealed.replace(b"\n", b" "))

    def _note(self, event: _Event, data: bytes, sealed: bytes) -> None:
        number = bytes(event.sequence_number)
        self._last_number = int(number) if number.isdigit() else self._last_number + 1
        if event.type in ENDS:
            self.usage = usage_of(event.response)
            self.done = True
        elif event.type == "error" or (not event.type and event.error != _NULL):
            self.failed = True
        elif event.type == "response.created":
            self._response = _decode_response(_decode_event(sealed).response)
        self.output_bytes += _output_bytes(event, len(data))


def _parts(event: bytes) -> tuple[bytes, bytes]:
    """The `event:` lines and the data of an event."""
    name, _, data = event.partition(b"\ndata: ")
    if name.startswith(b"event:") and name.find(b"\n") < 0 and data.find(b"\n") == len(data) - 2:
        return name + b"\n", data[:-2]
    names = [line + b"\n" for line in event.split(b"\n") if line.startswith(b"event:")]
    return b"".join(names), sse.data(event)


def _output_bytes(event: _Event, size: int) -> int:
    """The most bytes of output that are new in an event of `size` bytes. All, if its type is not known."""
    kind = event.type
    if kind in ENDS or kind.startswith(_WITHOUT_OUTPUT):
        return 0
    if kind.endswith(".delta") and event.delta != _NULL:
        return len(event.delta)
    if kind == "response.output_item.done" and _decode_item(event.item).type not in _IN_DELTAS:
        return len(event.item)
    return 0 if kind.endswith(_REPEATED) else size
