"""Decides which tools a request of the Responses API may name.

A `function` and a `custom` tool run in the attendee's own program. All others run at the upstream: they spend
money outside of the prompt and the output limit, and some keep files that all attendees would share. So they
need the event's permission. What could name a tool, and is checked:

- `tools`, and the tools in a `namespace` (Codex sends these), which must all be the attendee's own.
- `tools` of an item of the input (`additional_tools`, `tool_search_output`), in the same way.
- `tool_choice`: a type, and the tools of `allowed_tools`.

`include` only adds to the output of tools that are allowed, and `max_tool_calls` only limits it, so both
pass. A tool of an unknown type counts as one that is not allowed. An allowed tool may not name files, vector
stores, containers or tunnels: other attendees could name them as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..core.errors import InvalidRequest, ToolNotAllowed, UnsupportedValue
from .response_handles import NULL, decode_list, decode_members, text_of
from .response_sealing import FREE_MEMBERS, INVALID, MOST_DEPTH

OWN_TOOLS = frozenset({"function", "custom"})
"""They run in the attendee's own program, so every event allows them."""
_NAMESPACE = "namespace"
_ALLOWED_TOOLS = "allowed_tools"
_CHOICES = frozenset({"auto", "none", "required"})
_HARMLESS_IDS = frozenset({"connector_id"})
"""A connector works only with the attendee's own authorization."""
MOST_TOOLS = 10_000
"""Of one request, with the parts of those that the event allows. Checking more would stop the event loop."""

_WITHOUT_TOOLS = "mcp_list_tools"
"""An item of an earlier turn: the names of the tools of an MCP server."""

_EMPTY = (b"null", b"[]", b'""')


class _Count:
    """The tools of one request that are checked already."""

    def __init__(self) -> None:
        self._checked = 0

    def add(self, tools: int, param: str) -> None:
        """Raises InvalidRequest: there are too many."""
        self._checked += tools
        if self._checked > MOST_TOOLS:
            text = f"'{param}' has more than {MOST_TOOLS:,} tools, or parts of tools. Send fewer."
            raise InvalidRequest(text, param=param)


class _Item(msgspec.Struct, gc=False):
    type: msgspec.Raw = NULL
    tools: msgspec.Raw = NULL


_decode_items = msgspec.json.Decoder(list[_Item]).decode


def check_tools(
    tools: msgspec.Raw, tool_choice: msgspec.Raw, given: msgspec.Raw, allowed: tuple[str, ...]
) -> None:
    """Check the members `tools`, `tool_choice` and `input` of a request.

    `allowed` are the hosted tools of the event. Each also allows the names that go on after a `_`, such as
    `web_search_preview` and `web_search_2025_08_26` for `web_search`.

    Raises:
        ToolNotAllowed: the event does not allow a tool.
        InvalidRequest: a tool has the wrong form, or there are too many tools or items.
        UnsupportedValue: an allowed tool names something that all attendees share.
    """
    count = _Count()
    for found, param in _all_tools(tools, given):
        count.add(1, param)
        _check_list(found, param, allowed, count)
    _check_choice(tool_choice, allowed, count)


def _all_tools(tools: msgspec.Raw, given: msgspec.Raw) -> Iterator[tuple[msgspec.Raw, str]]:
    if tools != NULL:
        yield tools, "tools"
    if not _may_have_tools(bytes(given)):
        return
    for item in _items(given):
        if item.tools != NULL and text_of(item.type) != _WITHOUT_TOOLS:
            yield item.tools, "input"


def _items(given: msgspec.Raw) -> list[_Item]:
    """Raises InvalidRequest: the input is no list of objects."""
    if not bytes(given).startswith(b"["):
        return []
    try:
        return _decode_items(given)
    except INVALID as error:
        raise InvalidRequest("'input' must be a string or a list of objects.", param="input") from error


def _may_have_tools(data: bytes) -> bool:
    r"""`\u00` begins the escape of a letter in a name."""
    return data.find(b'tools"') >= 0 or data.find(b"\\u00") >= 0


def _check_list(
    tools: msgspec.Raw, param: str, allowed: tuple[str, ...], count: _Count, *, is_inner: bool = False
) -> None:
    """Raises ToolNotAllowed, UnsupportedValue or InvalidRequest. Within a namespace, `is_inner` is true."""
    try:
        listed = decode_list(tools)
        count.add(len(listed), param)
        for tool in listed:
            _check_tool(decode_members(tool), param, allowed, count, is_inner=is_inner)
    except INVALID as error:
        text = f"'{param}' must have tools in a list, each an object with a 'type'."
        raise InvalidRequest(text, param=param) from error


def _check_tool(
    tool: dict[str, msgspec.Raw], param: str, allowed: tuple[str, ...], count: _Count, *, is_inner: bool
) -> None:
    kind = text_of(tool.get("type", NULL)) or ""
    if kind in OWN_TOOLS:
        return
    if kind == _NAMESPACE and not is_inner:
        _check_list(tool.get("tools", NULL), param, (), count, is_inner=True)
        return
    if not _is_allowed(kind, allowed):
        raise _not_allowed(repr(kind) if kind else "without a type", param, allowed)
    if text_of(tool.get("container", NULL)):
        raise _names_shared("container", param)
    for name, value in tool.items():
        _check_shared(name, value, param, count, 1)


def _check_shared(name: str, value: msgspec.Raw, param: str, count: _Count, depth: int) -> None:
    """Raises UnsupportedValue: a member of an allowed tool is an id."""
    data = bytes(value)
    if name in FREE_MEMBERS or name in _HARMLESS_IDS or data in _EMPTY:
        return
    if name.endswith(("_id", "_ids")) or depth > MOST_DEPTH:
        raise _names_shared(name, param)
    if data.startswith(b"{"):
        members = decode_members(data)
        count.add(len(members), param)
        for inner, member in members.items():
            _check_shared(inner, member, param, count, depth + 1)
    elif data.startswith(b"["):
        values = decode_list(data)
        count.add(len(values), param)
        for member in values:
            _check_shared("", member, param, count, depth + 1)


def _check_choice(choice: msgspec.Raw, allowed: tuple[str, ...], count: _Count) -> None:
    """Raises ToolNotAllowed or InvalidRequest."""
    if choice == NULL:
        return
    try:
        kind = text_of(choice)
        members = decode_members(choice) if kind is None else {}
        kind = kind or text_of(members.get("type", NULL)) or ""
    except INVALID as error:
        text = "'tool_choice' must be a string, or an object with a 'type'."
        raise InvalidRequest(text, param="tool_choice") from error
    if kind == _ALLOWED_TOOLS:
        _check_list(members.get("tools", NULL), "tool_choice", allowed, count)
    elif kind not in _CHOICES | OWN_TOOLS and not _is_allowed(kind, allowed):
        raise _not_allowed(repr(kind), "tool_choice", allowed)


def _is_allowed(kind: str, allowed: tuple[str, ...]) -> bool:
    return any(kind == name or kind.startswith(f"{name}_") for name in allowed)


def _not_allowed(tool: str, param: str, allowed: tuple[str, ...]) -> ToolNotAllowed:
    names = ", ".join(("your own functions", *allowed))
    advice = "Leave the tool out, or ask your organiser to allow it."
    if tool.startswith("'web_search"):
        advice += ' In Codex, set web_search = "disabled" in config.toml.'
    return ToolNotAllowed(
        f"This event does not allow a tool {tool}. It allows: {names}. {advice}", param=param
    )


def _names_shared(name: str, param: str) -> UnsupportedValue:
    return UnsupportedValue(
        f"A tool has '{name}', which the proxy does not serve: all attendees would share what it names. "
        "Leave it out.",
        param,
    )
