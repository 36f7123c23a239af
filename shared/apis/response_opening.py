"""Puts the upstream's ids into a request in the place of sealed ones.

No id reaches the upstream unless it was sealed for the attendee who sends it:

- A `previous_response_id`, an item reference, and every other id that stands for something stored (a file, a
  container, an approval) must be the attendee's own. Otherwise the request is refused.
- An item that carries its content needs no id. An id that is not the attendee's own, as after a change of
  account or of event, is removed.
- A reasoning item needs its id or its encrypted content. Without both it is dropped: the model then only
  lacks its earlier thoughts. Codex, the Agents SDK and the AI SDK send such items after a change of account.
- A compaction item holds the conversation, so the request is refused if it is not the attendee's own.

Stored responses and encrypted content work on one deployment only, their place. The place of a request is
that of its `previous_response_id`, and of all ids that it cannot do without; else that of the last reasoning
item. Ids that are optional and reasoning items are left out if they are of another place, so that a
conversation goes on when a deployment fails.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from ..core.errors import InvalidRequest, UnsupportedValue
from .response_handles import (
    NULL,
    PREVIOUS,
    Handles,
    decode_members,
    encode,
    items_of,
    may_have_handles,
    raw,
    text_of,
)
from .response_ids import Opened, OpenedContent, Owner
from .response_sealing import ENCRYPTED_CONTENT

_FALSE = msgspec.Raw(b"false")
_REFERENCE, _REASONING = "item_reference", "reasoning"
_ID_IS_OPTIONAL = frozenset(
    {"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
)
"""Items that are complete without an `id` (OpenAI's API reference, "Create a response")."""


class OpenedRequest(NamedTuple):
    """A request whose ids the upstream knows."""

    body: bytes
    place: bytes | None
    """The deployment that must serve it: see `response_ids.place_of`. None: any."""
    tokens: int
    """The most tokens that stored responses and items add to the prompt."""


def open_request(
    body: bytes,
    previous_response_id: str | None,
    owner: Owner,
    *,
    store: bool = True,
    serving: Collection[bytes] | None = None,
) -> OpenedRequest:
    """The body with the upstream's ids. All other values keep their bytes; space between them may go.

    `Responses.parse` must have accepted the body. `store` is whether the event allows stored responses. If
    not, the body says `"store": false`. `serving` are the places of the deployments that serve the model.
    None: all.

    Raises:
        UnsupportedValue: an id is not the attendee's own, or its place serves no more.
        InvalidRequest: the input is nested too deeply, or has too many parts.
    """
    if store and not may_have_handles(body):
        return OpenedRequest(body, None, 0)
    handles = Handles(owner, serving)
    try:
        members = _open_members(decode_members(body), previous_response_id, handles)
    except RecursionError as error:
        raise InvalidRequest("'input' is nested too deeply. Send fewer levels.", param="input") from error
    if not store:
        members["store"] = _FALSE
    return OpenedRequest(encode(members), handles.place, handles.tokens)


def _open_members(
    members: dict[str, msgspec.Raw], previous_response_id: str | None, handles: Handles
) -> dict[str, msgspec.Raw]:
    previous, given = members.pop(PREVIOUS, None), members.pop("input", None)
    for name, value in members.items():
        if name.lower().endswith(("_id", "_ids")) and value != NULL:
            why = "because all attendees share what it names"
            raise UnsupportedValue(f"The proxy does not serve '{name}', {why}. Leave it out.", name)
    if previous is not None:
        previous = handles.need_response(previous_response_id) if previous_response_id else NULL
    out = handles.open_members(members, None)
    if previous is not None:
        out[PREVIOUS] = previous
    if given is not None:
        out["input"] = _open_input(given, handles)
    return out


def _open_input(given: msgspec.Raw, handles: Handles) -> msgspec.Raw:
    if not bytes(given).startswith(b"[") or not may_have_handles(bytes(given)):
        return given
    items = [_open_item(value, handles) for value in items_of(given)]
    if handles.place is None:
        places = [item.place for item in items if isinstance(item, _Movable)]
        served = [place for place in places if place is not None and handles.serves(place)]
        handles.place = served[-1] if served else None
    placed = [item.at(handles) if isinstance(item, _Movable) else item for item in items]
    return msgspec.Raw(encode([item for item in placed if item is not None]))


def _open_item(value: msgspec.Raw, handles: Handles) -> msgspec.Raw | _Movable:
    """An item with its ids opened, or one that has to wait until the place of the request is known."""
    data = bytes(value)
    if not data.startswith(b"{") or not may_have_handles(data):
        return msgspec.Raw(handles.open_within(data, "input"))
    members = decode_members(data)
    identity, content = members.pop("id", NULL), members.pop(ENCRYPTED_CONTENT, NULL)
    kind = text_of(members.get("type", NULL)) or ("message" if "role" in members else _REFERENCE)
    members, own = handles.open_members(members, "input"), handles.item(identity)
    if kind == _REASONING:
        return _Movable(members, own, handles.content(content), needs_id=True)
    if content != NULL:
        members[ENCRYPTED_CONTENT] = handles.need_content(content)
    elif kind in _ID_IS_OPTIONAL:
        return _Movable(members, own, None, needs_id=False)
    if own is not None or kind == _REFERENCE:
        members["id"] = handles.need_item(own)
    if own is not None and kind == _REFERENCE:
        handles.count(own)
    return msgspec.Raw(encode(members))


class _Movable(msgspec.Struct, frozen=True):
    """An item that the request can do without, or that is complete without its id."""

    members: dict[str, msgspec.Raw]
    id: Opened | None
    content: OpenedContent | None
    needs_id: bool
    """Whether nothing is left of it without its id and its encrypted content."""

    @property
    def place(self) -> bytes | None:
        """Where it has to be sent; None if that does not matter."""
        found = self.content or self.id
        return found.place if self.needs_id and found is not None else None

    def at(self, handles: Handles) -> msgspec.Raw | None:
        """The item for the place of the request; None if it is dropped."""
        members = dict(self.members)
        if self.id is not None and self.id.place == handles.place:
            members["id"] = raw(self.id.upstream_id)
            if self.needs_id and self.content is None:
                handles.count(self.id)
        if self.content is not None and self.content.place == handles.place:
            members[ENCRYPTED_CONTENT] = raw(self.content.content)
        if self.needs_id and members.keys().isdisjoint({"id", ENCRYPTED_CONTENT, "content"}):
            return None
        return msgspec.Raw(encode(members))
