"""Reads the usage that an upstream reports. Usage that is not plausible counts as not reported."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from ..core.models import Usage

MOST_TOKENS = 100_000_000
"""A larger count is an error of the upstream. Smaller ones can be added up without an overflow."""

MAX_USAGE_BYTES = 64 * 1024
"""A longer member `usage` of a long response is not read."""

_OPENING = b"{["
_MOST_BEFORE = 64
"""Bytes before a value in which its name is searched."""

_usage_name = re.compile(rb'(?<!\\)"usage"\s*:\s*\Z')
_to_bracket = re.compile(rb'(?:[^"{}\[\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
_to_quote = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


PromptTokens = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
OutputTokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _WireUsage(msgspec.Struct):
    """The member `usage` of a chat completion. Both counts must be there, as integers."""

    prompt_tokens: PromptTokens
    completion_tokens: OutputTokens
    prompt_tokens_details: Any = None


class _Response(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")


ReadUsage = Callable[[bytes | msgspec.Raw], Usage | None]
"""Reads the member `usage` of one API. None if it reports none, or nothing plausible."""

_decode_response = msgspec.json.Decoder(_Response).decode
T = TypeVar("T")


def usage_reader(form: type[T], usage: Callable[[T], Usage]) -> ReadUsage:
    """Reads a member `usage` of this form. `usage` takes the counts from it."""
    decode = msgspec.json.Decoder(form).decode

    def read(member: bytes | msgspec.Raw) -> Usage | None:
        try:
            wire = decode(member)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return usage(wire)

    return read


def cached_tokens(details: Any, prompt_tokens: int) -> int:
    """The prompt tokens of the upstream's cache, as its details say. 0 if they say nothing plausible."""
    found = details.get("cached_tokens") if isinstance(details, dict) else None
    return max(0, min(found, prompt_tokens)) if type(found) is int else 0


def _usage(wire: _WireUsage) -> Usage:
    prompt_tokens = wire.prompt_tokens
    return Usage(
        prompt_tokens, wire.completion_tokens, cached_tokens(wire.prompt_tokens_details, prompt_tokens)
    )


read_usage = usage_reader(_WireUsage, _usage)
"""For chat completions."""


def usage_of(body: bytes, read: ReadUsage = read_usage) -> Usage | None:
    """The usage in a whole response; None if it reports none, or nothing plausible.

    Raises:
        ValueError: the body is not a JSON object.
    """
    try:
        response = _decode_response(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not a JSON object") from error
    return read(response.usage)


class UsageFinder:
    """Finds the member `usage` of a JSON object that arrives in pieces, without keeping the object.

    Only a member of the object itself counts, not text or a nested object. The last one counts.
    """

    def __init__(self, read: ReadUsage = read_usage) -> None:
        self.usage: Usage | None = None
        self._read = read
        self._depth = 0
        self._in_string = False
        self._escape = b""
        """A backslash at the end of the last piece, whose character is still to come."""
        self._before = b""
        """The end of the last piece."""
        self._value: bytearray | None = None
        """The value of `usage`, as far as it has come."""

    def feed(self, data: bytes) -> None:
        data, self._escape = self._escape + data, b""
        at = self._end_of_string(data, 0) if self._in_string else 0
        begin = 0
        while (at := self._bracket(data, at)) < len(data):
            if data[at] in _OPENING:
                if self._depth == 1 and self._is_usage(data, at):
                    self._value, begin = bytearray(), at
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 1 and self._value is not None:
                    self.usage, self._value = self._read(bytes(self._value + data[begin : at + 1])), None
            at += 1
        self._keep(data, begin)

    def _keep(self, data: bytes, begin: int) -> None:
        if self._value is not None:
            self._value += data[begin:]
            if len(self._value) > MAX_USAGE_BYTES:
                self._value = None
        self._before = (self._before + data)[-_MOST_BEFORE:]

    def _end_of_string(self, data: bytes, at: int) -> int:
        """Where the string ends that goes on at `at`."""
        end = _to_quote.match(data, at).end()  # type: ignore[union-attr] # it matches anything
        self._in_string = data[end : end + 1] != b'"'
        if not self._in_string:
            return end + 1
        self._escape = data[end:]
        return len(data)

    def _bracket(self, data: bytes, at: int) -> int:
        """The place of the next bracket outside of strings; the end if there is none."""
        at = _to_bracket.match(data, at).end()  # type: ignore[union-attr] # it matches anything
        return self._end_of_string(data, at + 1) if data[at : at + 1] == b'"' else at

    def _is_usage(self, data: bytes, at: int) -> bool:
        before = data[max(0, at - _MOST_BEFORE) : at]
        if at < _MOST_BEFORE:
            before = self._before + before
        return _usage_name.search(before) is not None
