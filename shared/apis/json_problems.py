"""Explains why a body is not JSON in UTF-8. The explanation repeats nothing of the body."""

from __future__ import annotations

import codecs
import re

from ..core.errors import UnsupportedEncoding

_UTF_16 = ": it is UTF-16. Save it as UTF-8"
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: ": it begins with a byte order mark. Save it as UTF-8 without one",
    codecs.BOM_UTF16_LE: _UTF_16,
    codecs.BOM_UTF16_BE: _UTF_16,
}
_HALF_PAIR = ": it contains half of a surrogate pair, as when an emoji is cut in two"
_PAIR_ERRORS = {
    "invalid utf-16 surrogate pair",
    "unexpected end of hex escape",
    "unexpected end of escaped utf-16 surrogate pair",
}
_ADVICE = {
    "object keys must be strings": "use double quotes around names",
    "trailing comma in object": "remove the comma before }",
    "trailing comma in array": "remove the comma before ]",
    "trailing characters": "remove everything after the last }",
}
_is_compression = re.compile(rb"\s*(?:x-)?(?:gzip|deflate|br|zstd|compress)\b", re.IGNORECASE).match
_COMPRESSED = "The body is compressed. Send it uncompressed, without the header 'content-encoding'."
_GZIP = b"\x1f\x8b"
_malformed = re.compile(r"JSON is malformed: (.+) \(byte (\d+)\)").fullmatch
_half_pair = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])").search


def problem(body: bytes, error: Exception, encoding: bytes = b"", member: str = "messages") -> str:
    """The end of the sentence "The body is not valid JSON", from what msgspec or the UTF-8 decoder raised.

    `encoding` is the request's header `content-encoding`. Some clients send it with a plain body. `member` is
    the one that the API needs.

    Raises:
        UnsupportedEncoding: the body is compressed.
    """
    if body.startswith(_GZIP) or (_is_compression(encoding) and not body[:64].lstrip().startswith(b"{")):
        raise UnsupportedEncoding(_COMPRESSED) from error
    if 0 in body[:2]:  # JSON begins with ASCII, so a NUL is half of a character
        return _UTF_16
    for mark, text in _BYTE_ORDER_MARKS.items():
        if body.startswith(mark):
            return text
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f": byte {error.start} is not UTF-8"
    if malformed := _malformed(str(error)):
        reason, byte = malformed.groups()  # the reason is one of msgspec's own texts
        return _HALF_PAIR if reason in _PAIR_ERRORS else f" at byte {byte}: {_ADVICE.get(reason, reason)}"
    return _cut_off(body, member) if str(error) == "Input data was truncated" else _send(member)


def _send(member: str) -> str:
    return f". Send an object with '{member}'"


def _cut_off(body: bytes, member: str) -> str:
    """For a body that ends too early. msgspec also reports half of a surrogate pair at its end like this."""
    if not body or body.isspace():
        return f": it is empty{_send(member)}"
    end = body[-64:]
    if _half_pair(end):
        return _HALF_PAIR
    return ": it ends too early, or a \\u escape in it does" if b"\\u" in end else ": it ends too early"
