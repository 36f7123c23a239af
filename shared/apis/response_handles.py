"""Opens the sealed ids of one request, and finds the deployment that they need."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from ..core.errors import InvalidRequest, UnsupportedValue
from .response_ids import NO_TURN, Opened, OpenedContent, Owner
from .response_sealing import (
    ENCRYPTED_CONTENT,
    FREE_MEMBERS,
    ITEM_MEMBERS,
    MOST_DEPTH,
    RESPONSE_MEMBERS,
    may_have_ids,
)

MOST_PARTS = 100_000
"""Members and items of lists that are searched for ids. That takes up to a second."""

PREVIOUS = "previous_response_id"

_NOT_YOURS = (
    "This response id is not one of yours: it is unknown here, or it belongs to another event or user. "
    f"Send the whole conversation in 'input', without '{PREVIOUS}'."
)
_ITEM_NOT_YOURS = (
    "The input refers to an item that is not one of yours: it is unknown here, or it belongs to another "
    "event or user. Send the item's content in place of its id."
)
_FILE_NOT_YOURS = (
    "The proxy does not serve uploaded files, because all attendees would share them. Send the file in the "
    "request: 'file_data' for a document, a data URL in 'image_url' for a picture."
)
_CONTENT_NOT_YOURS = (
    "The input has encrypted content that is not one of yours. Send the conversation without this item."
)
_TWO_PLACES = (
    "The input refers to items that are stored in different places. Send the items' content in place of "
    f"their ids, without '{PREVIOUS}'."
)
_GONE = (
    "What you refer to is not available any more, or it comes from another model. "
    f"Send the whole conversation in 'input', without ids and '{PREVIOUS}'."
)
_TOO_MANY = f"'input' has more than {MOST_PARTS:,} parts. Send fewer items."

_FILE_MEMBERS = frozenset({"file_id", "file_ids", "vector_store_ids", "skill_id"})
_HANDLES = ITEM_MEMBERS | RESPONSE_MEMBERS | _FILE_MEMBERS | {ENCRYPTED_CONTENT}
"""The names of what only its owner may send."""

NULL = msgspec.Raw(b"null")
_EMPTY = (b"null", b'""', b"[]")

decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode


class Handles:
    """The ids of one request. What is needed must be at one place."""

    def __init__(self, owner: Owner, serving: Collection[bytes] | None) -> None:
        """`serving` are the places that can serve the request. None: all."""
        self._owner = owner
        self._serving = serving
        self._parts = 0
        self._tokens: dict[tuple[bytes, bytes | str], int] = {}
        """By place and turn, or id. The items of one turn share their tokens."""
        self.place: bytes | None = None
        """Where the request must be served. None: anywhere."""

    @property
    def tokens(self) -> int:
        """The most tokens that stored responses and items add to the prompt."""
        return sum(self._tokens.values())

    def serves(self, place: bytes) -> bool:
        return self._serving is None or place in self._serving

    def count(self, opened: Opened) -> None:
        """The upstream adds to the prompt what this id names."""
        key = opened.place, opened.upstream_id if opened.turn == NO_TURN else opened.turn
        self._tokens[key] = max(opened.tokens, self._tokens.get(key, 0))

    def item(self, value: msgspec.Raw) -> Opened | None:
        """The id of an item; None if it is not the attendee's own."""
        text = text_of(value)
        return self._owner.open_item(text) if text else None

    def content(self, value: msgspec.Raw) -> OpenedContent | None:
        """Encrypted content; None if it is not the attendee's own."""
        text = text_of(value)
        return self._owner.open_content(text) if text else None

    def need_response(self, sealed: str) -> msgspec.Raw:
        """The upstream's id of the previous response. Raises UnsupportedValue."""
        opened = self._owner.open(sealed)
        if opened is None:
            raise UnsupportedValue(_NOT_YOURS, PREVIOUS)
        self.count(opened)
        return self._need(opened, PREVIOUS)

    def need_item(self, opened: Opened | None) -> msgspec.Raw:
        """The upstream's id of an item that the request cannot do without. Raises UnsupportedValue."""
        if opened is None:
            raise UnsupportedValue(_ITEM_NOT_YOURS, "input")
        return self._need(opened, "input")

    def need_content(self, value: msgspec.Raw, param: str = "input") -> msgspec.Raw:
        """Encrypted content that the request cannot do without. Raises UnsupportedValue."""
        opened = self.content(value)
        if opened is None:
            raise UnsupportedValue(_CONTENT_NOT_YOURS, param)
        self._need_place(opened.place, param)
        return raw(opened.content)

    def open_within(self, data: bytes, param: str, depth: int = 1) -> bytes:
        """A value with every id below it opened. An `id` that is not the attendee's own is removed.

        Raises:
            UnsupportedValue: another id is not the attendee's own.
            InvalidRequest: the value is nested too deeply, or the request has too many parts.
        """
        if not data.startswith((b"{", b"[")) or not may_have_handles(data):
            return data
        if data.startswith(b"{"):
            return encode(self.open_members(decode_members(data), param, depth))
        values = decode_list(data)
        self._step(depth, len(values))
        return encode([msgspec.Raw(self.open_within(bytes(value), param, depth + 1)) for value in values])

    def open_members(
        self, members: dict[str, msgspec.Raw], param: str | None, depth: int = 1
    ) -> dict[str, msgspec.Raw]:
        """The same for the members of an object. Without a `param`, each is named by itself."""
        self._step(depth, len(members))
        out = {}
        for name, value in members.items():
            data = bytes(value)
            if name in FREE_MEMBERS:
                out[name] = value
            elif name.lower() not in _HANDLES or data in _EMPTY:
                out[name] = msgspec.Raw(self.open_within(data, param or name, depth + 1))
            elif (opened := self._handle(name.lower(), value, param or name)) is not None:
                out[name] = opened
        return out

    def _step(self, depth: int, parts: int) -> None:
        """Raises InvalidRequest: the request is nested too deeply, or has too many parts."""
        self._parts += parts
        if depth > MOST_DEPTH:
            raise InvalidRequest("'input' is nested too deeply. Send fewer levels.", param="input")
        if self._parts > MOST_PARTS:
            raise InvalidRequest(_TOO_MANY, param="input")

    def _handle(self, name: str, value: msgspec.Raw, param: str) -> msgspec.Raw | None:
        """The upstream's id; None if it is left out."""
        if name == ENCRYPTED_CONTENT:
            return self.need_content(value, param)
        text = text_of(value) or ""
        opened = (self._owner.open if name in RESPONSE_MEMBERS else self._owner.open_item)(text)
        if opened is not None:
            return self._need(opened, param)
        if name == "id":
            return None
        raise UnsupportedValue(_FILE_NOT_YOURS if name in _FILE_MEMBERS else _ITEM_NOT_YOURS, param)

    def _need(self, opened: Opened, param: str) -> msgspec.Raw:
        self._need_place(opened.place, param)
        return raw(opened.upstream_id)

    def _need_place(self, place: bytes, param: str) -> None:
        if self.place not in {None, place}:
            raise UnsupportedValue(_TWO_PLACES, param)
        if not self.serves(place):
            raise UnsupportedValue(_GONE, param)
        self.place = place


def may_have_handles(data: bytes) -> bool:
    """Whether a client's JSON may have members with ids, in any case: an upstream may not mind the case."""
    return may_have_ids(data.lower())


def items_of(given: msgspec.Raw) -> list[msgspec.Raw]:
    """The items of the input; none if it is text. Raises InvalidRequest: it has too many."""
    items = decode_list(given) if bytes(given).startswith(b"[") else []
    if len(items) > MOST_PARTS:
        raise InvalidRequest(_TOO_MANY, param="input")
    return items


def raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(encode(text))


def text_of(value: msgspec.Raw) -> str | None:
    """The text of a JSON string; None for anything else."""
    data = bytes(value)
    return _decode_text(data) if data.startswith(b'"') else None
