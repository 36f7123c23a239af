"""Changes single members of a JSON object in place, so that the rest goes on as its writer wrote it.

Numbers, spaces, escapes and unknown fields keep their bytes: what is not decoded cannot be spoilt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

_scan = json.JSONDecoder(strict=False).raw_decode
_space = re.compile(r"[ \t\r\n]*").match


class Member(NamedTuple):
    """Where a member stands in the text: from its name's quote to its value's end."""

    start: int
    value_start: int
    end: int


class DuplicateMember(ValueError):
    """A name stands twice in one object: readers differ in which of the two they take."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def members(text: str) -> dict[str, Member]:
    """The members of the top-level object in `text`, which must be valid JSON.

    Raises:
        DuplicateMember: when a name occurs twice.
    """
    found: dict[str, Member] = {}
    at = _skip(text, text.index("{") + 1)
    while text[at] != "}":
        name, colon = _scan(text, at)
        value_start = _skip(text, _skip(text, colon) + 1)
        _, end = _scan(text, value_start)
        if name in found:
            raise DuplicateMember(name)
        found[name] = Member(at, value_start, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def edit(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    """`body`, a valid JSON object in UTF-8, with each named member set to the given JSON value.

    A member that is there keeps its place; one that is not is put first.

    Raises:
        DuplicateMember: when the object has a name twice (found only where a value must be replaced).
    """
    if not changes:
        return body
    if any(_may_have(body, name) for name in changes):
        body, changes = _replace(body, changes)
    return _insert(body, changes) if changes else body


def _skip(text: str, at: int) -> int:
    space = _space(text, at)
    return space.end() if space else at


def _may_have(body: bytes, name: str) -> bool:
    return b'"%s"' % name.encode() in body or b"\\u" in body


def _replace(body: bytes, changes: Mapping[str, bytes]) -> tuple[bytes, dict[str, bytes]]:
    text, missing = body.decode(), dict(changes)
    found = members(text)
    for name in sorted(changes.keys() & found.keys(), key=lambda name: found[name].start, reverse=True):
        member = found[name]
        text = text[: member.value_start] + missing.pop(name).decode() + text[member.end :]
    return text.encode(), missing


def _insert(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    after = body.index(b"{") + 1
    added = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in changes.items())
    comma = b"" if body[after:].lstrip().startswith(b"}") else b","
    return body[:after] + added + comma + body[after:]
