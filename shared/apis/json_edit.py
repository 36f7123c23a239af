"""Changes single members of a JSON object in place, so that the rest goes on as its writer wrote it.

Numbers, spaces, escapes and unknown fields keep their bytes: what is not decoded cannot be spoilt,
and neither depth nor length of what is stepped over can fail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_space = re.compile(rb"[ \t\r\n]*+").match
_scalar = re.compile(_STRING + rb"|[^\[\]{},\s]++").match
_tokens = re.compile(_STRING + rb"|[\[\]{}]").finditer


class Member(NamedTuple):
    """Where a member's value stands in the body."""

    start: int
    end: int


class DuplicateMember(ValueError):
    """A name stands twice in one object: readers differ in which of the two they take."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def members(body: bytes, names: Collection[str]) -> dict[str, Member]:
    """Those of `names` that the top-level object has; `body` must be a valid JSON object in UTF-8.

    Raises:
        DuplicateMember: when it has one of them twice.
    """
    found: dict[str, Member] = {}
    at = _skip(body, body.index(b"{") + 1)
    while not body.startswith(b"}", at):
        colon = _end(body, at)
        name = _name(body[at:colon])
        start = _skip(body, _skip(body, colon) + 1)
        end = _end(body, start)
        if name in found:
            raise DuplicateMember(name)
        if name in names:
            found[name] = Member(start, end)
        at = _skip(body, end)
        if body.startswith(b",", at):
            at = _skip(body, at + 1)
    return found


def edit(body: bytes, changes: Mapping[str, bytes], known: Collection[str] = ()) -> bytes:
    """`body`, a valid JSON object in UTF-8, with each named member set to the given JSON value.

    A member that is there keeps its place; one that is not is put first. `known` are those that the
    top-level object is known to have: it saves the search for one whose name stands nowhere else.

    Raises:
        DuplicateMember: when the object has a member to change twice.
    """
    for name in known:
        if name in changes and (member := _only(body, name)):
            body = body[: member.start] + changes[name] + body[member.end :]
            changes = {other: value for other, value in changes.items() if other != name}
    for name in changes:
        if _may_have(body, name):
            body, changes = _replace(body, changes)
            break
    return _insert(body, changes) if changes else body


def without(body: bytes, name: str) -> bytes:
    """`body`, a valid JSON object in UTF-8, without its first member of that name, if it has one."""
    at = _skip(body, body.index(b"{") + 1)
    before = None
    while not body.startswith(b"}", at):
        colon = _end(body, at)
        end = _end(body, _skip(body, _skip(body, colon) + 1))
        comma = _skip(body, end)
        is_last = not body.startswith(b",", comma)
        if _name(body[at:colon]) == name:
            if not is_last:
                return body[:at] + body[_skip(body, comma + 1) :]
            return body[: at if before is None else before] + body[end:]
        before, at = end, comma if is_last else _skip(body, comma + 1)
    return body


def _skip(body: bytes, at: int) -> int:
    space = _space(body, at)
    return space.end() if space else at


def _end(body: bytes, at: int) -> int:
    """Where the value that begins at `at` ends."""
    if scalar := _scalar(body, at):
        return scalar.end()
    depth = 0
    for token in _tokens(body, at):
        if token[0] in b"{[":
            depth += 1
        elif token[0] in b"]}":
            depth -= 1
        if not depth:
            return token.end()
    raise ValueError("not JSON")


@lru_cache
def _quoted(name: str) -> bytes:
    return b'"%b"' % name.encode()


def _name(quoted: bytes) -> str:
    return str(json.loads(quoted)) if b"\\" in quoted else quoted[1:-1].decode()


def _only(body: bytes, name: str) -> Member | None:
    """The member of that name where nothing else in the body could be it; None where that is not certain."""
    quoted = _quoted(name)
    if b"\\u" in body or body.count(quoted) != 1:
        return None
    start = _skip(body, _skip(body, body.index(quoted) + len(quoted)) + 1)
    return Member(start, _end(body, start))


def _may_have(body: bytes, name: str) -> bool:
    return _quoted(name) in body or (b"\\" in body and b"\\u" in body)


def _replace(body: bytes, changes: Mapping[str, bytes]) -> tuple[bytes, dict[str, bytes]]:
    missing = dict(changes)
    found = members(body, changes)
    for name in sorted(found, key=lambda name: found[name].start, reverse=True):
        member = found[name]
        body = body[: member.start] + missing.pop(name) + body[member.end :]
    return body, missing


def _insert(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    after = body.index(b"{") + 1
    added = b""
    for name, value in changes.items():
        added += _quoted(name) + b":" + value + b","
    if body.startswith(b"}", _skip(body, after)):
        added = added[:-1]
    return body[:after] + added + body[after:]
