"""What is wrong with a body that is not JSON in UTF-8, in a few words, and never in those of the body."""

from __future__ import annotations

import codecs
import re

_UTF_16 = "it is UTF-16; save it as UTF-8"
_MARKS = {
    codecs.BOM_UTF8: "it begins with a byte order mark; save it without one",
    codecs.BOM_UTF16_LE: _UTF_16,
    codecs.BOM_UTF16_BE: _UTF_16,
}
_HALF = "half of a surrogate pair stands alone in it, as when an emoji is cut in two"
_OF_A_PAIR = {
    "invalid utf-16 surrogate pair",
    "unexpected end of hex escape",
    "unexpected end of escaped utf-16 surrogate pair",
}
_malformed = re.compile(r"JSON is malformed: (.+) \(byte (\d+)\)").fullmatch
_half = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])").search


def fault(body: bytes, error: Exception) -> str:
    """Why `body` was not read, of which msgspec or the UTF-8 decoder said `error`."""
    for mark, told in _MARKS.items():
        if body.startswith(mark):
            return told
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if malformed := _malformed(str(error)):
        what, byte = malformed.groups()  # msgspec's own words: a closed list, with nothing of the body
        return _HALF if what in _OF_A_PAIR else f"{what}, at byte {byte}"
    return _missing(body) if str(error) == "Input data was truncated" else "it cannot be read"


def _missing(body: bytes) -> str:
    """Why the body ends too early for msgspec, which looks there for the other half of a pair as well."""
    if not body or body.isspace():
        return "it is empty"
    end = body[-64:]
    if _half(end):
        return _HALF
    return "it ends too early, or a \\u escape in it does" if b"\\u" in end else "it ends too early"
