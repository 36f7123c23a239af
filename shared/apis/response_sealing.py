"""Seals the ids in what the upstream returns: whole responses, lists of items and stream events.

An id is a member with one of the names below, wherever it stands. Free-form members of the client's own, such
as `metadata` and the schemas of tools, are not searched. All other values keep their bytes.
"""

from __future__ import annotations

import re

import msgspec

from .response_ids import NO_TURN, Owner, turn_of

RESPONSE_MEMBERS = frozenset({"previous_response_id", "response_id", "comparison_response_id"})
ITEM_MEMBERS = frozenset(
    {"id", "item_id", "first_id", "last_id", "approval_request_id", "container_id", "file_id"}
)
"""The names of ids. `id` is a response's in a response itself, else an item's."""

ENCRYPTED_CONTENT = "encrypted_content"

_CHANGED_TEXTS = RESPONSE_MEMBERS | ITEM_MEMBERS | {ENCRYPTED_CONTENT, "error", "message"}

FREE_MEMBERS = frozenset(
    {
        "arguments",
        "attributes",
        "client_metadata",
        "env",
        "headers",
        "input_schema",
        "logprobs",
        "metadata",
        "output_schema",
        "parameters",
        "schema",
        "text",
        "tool_choice",
        "tools",
        "usage",
        "variables",
    }
)
"""They hold no ids of the upstream, but may hold any names."""

MOST_DEPTH = 16
"""Ids stand at most about six levels deep."""

MOST_CACHED = 256
"""Sealed ids that are kept. A response has a few; some upstreams give an item another id in each event."""

_KNOWN_IDS = rb"(?:resp|msg|rs|fco?|ctc|ws|ci|fs|ig|cu|mcp[rla]?|cmp|l?sh|cntr|file|vs|conv|item|id)"
_upstream_id = re.compile(
    rb"(?<![A-Za-z0-9])(?!call_)(%b_(?=[A-Za-z]*[0-9])[A-Za-z0-9]{8,}|[a-z]{2,12}_[0-9a-f]{24,})" % _KNOWN_IDS
)

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode

INVALID = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are not JSON, or not of the expected type."""


def may_have_ids(data: bytes) -> bool:
    """Whether JSON text may have members with ids. `\\u00` begins the escape of a letter in a name."""
    return (
        data.find(b'id"') >= 0
        or data.find(b'ids"') >= 0
        or data.find(b"encrypted_content") >= 0
        or data.find(b"\\u00") >= 0
    )


def hide_ids(data: bytes) -> bytes:
    """Cut the upstream's ids in the text of an error. They are not sealed: it may name another attendee's."""
    return _upstream_id.sub(lambda match: match[0].partition(b"_")[0] + b"_...", data)


class Sealer:
    """Seals what belongs to one response."""

    def __init__(self, owner: Owner, place: bytes, tokens: int, item_tokens: int | None = None) -> None:
        """`place` is the deployment's. `tokens` is the most that the response adds to the prompt of the next
        turn, and `item_tokens` the most that its items add: its output. None: all its tokens."""
        self._owner = owner
        self._place = place
        self._tokens = tokens
        self._item_tokens = tokens if item_tokens is None else item_tokens
        self._turn = NO_TURN
        self._sealed: dict[tuple[bool, str], str] = {}

    def know(self, upstream_id: str, sealed: str) -> None:
        """A response that the client has named by `sealed`: it keeps this id."""
        self._sealed[True, upstream_id] = sealed

    def body(self, body: bytes) -> bytes:
        """A whole body of the upstream with a good status, or the data of a stream event.

        Raises:
            ValueError: it is not a JSON object, is nested too deeply, or has an id that cannot be sealed.
        """
        try:
            return self._object(body, 0, is_response=True)
        except INVALID as error:
            raise ValueError("not a JSON object") from error

    def event(self, data: bytes) -> bytes:
        """The same for the data of a stream event. Its own `id` would be an item's."""
        try:
            return self._object(data, 0, is_response=False)
        except INVALID as error:
            raise ValueError("not a JSON object") from error

    def seal(self, upstream_id: str, *, is_response: bool) -> str:
        """Raises ValueError: see `Owner.seal`."""
        key = (is_response, upstream_id)
        sealed = self._sealed.get(key)
        if sealed is None:
            if len(self._sealed) >= MOST_CACHED:
                self._sealed.clear()
            if is_response:
                sealed = self._owner.seal(upstream_id, self._place, self._tokens)
            else:
                sealed = self._owner.seal_item(upstream_id, self._place, self._turn, self._item_tokens)
            self._sealed[key] = sealed
        return sealed

    def _object(self, data: bytes, depth: int, *, is_response: bool) -> bytes:
        members = _decode_members(data)
        if is_response:
            self._begin(members)
        is_changed = False
        for name, value in members.items():
            old = bytes(value)
            if name not in _CHANGED_TEXTS and not old.startswith((b"{", b"[")):
                continue
            new = self._member(name, old, depth, is_response=is_response)
            if new != old:
                members[name], is_changed = msgspec.Raw(new), True
        return _encode(members) if is_changed else data

    def _begin(self, members: dict[str, msgspec.Raw]) -> None:
        """Items carry the mark of their response, so it must be known before they are sealed."""
        if self._turn == NO_TURN and (value := bytes(members.get("id", b""))).startswith(b'"'):
            self._turn = turn_of(_decode_text(value))

    def _member(self, name: str, value: bytes, depth: int, *, is_response: bool) -> bytes:
        if name in {"error", "message"}:
            return hide_ids(value)
        if value.startswith(b'"'):
            return self._text(name, value, is_response=is_response)
        if value.startswith((b"{", b"[")) and name not in FREE_MEMBERS and may_have_ids(value):
            return self._nested(value, depth + 1, is_response=name == "response")
        return value

    def _text(self, name: str, value: bytes, *, is_response: bool) -> bytes:
        if value == b'""':
            return value
        if name == ENCRYPTED_CONTENT:
            return _encode(self._owner.seal_content(_decode_text(value), self._place))
        if name in RESPONSE_MEMBERS or (is_response and name == "id"):
            return _encode(self.seal(_decode_text(value), is_response=True))
        if name in ITEM_MEMBERS:
            return _encode(self.seal(_decode_text(value), is_response=False))
        return value

    def _nested(self, data: bytes, depth: int, *, is_response: bool) -> bytes:
        if depth > MOST_DEPTH:
            raise ValueError("nested too deeply")
        if data.startswith(b"{"):
            return self._object(data, depth, is_response=is_response)
        values = [bytes(value) for value in _decode_list(data)]
        sealed = [
            self._nested(value, depth + 1, is_response=False)
            if value.startswith((b"{", b"[")) and may_have_ids(value)
            else value
            for value in values
        ]
        if all(new == old for new, old in zip(sealed, values, strict=True)):
            return data
        return b"[" + b",".join(sealed) + b"]"
