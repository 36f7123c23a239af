"""What a PDF costs: one token for each byte of its text, and a picture of each page.

Everything here takes time in proportion to the document, whatever it holds, and reads it in pieces: while an
expression runs, the event loop waits.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from itertools import chain

from .shifts import pause

MAX_INFLATED = 4 * 1024 * 1024
"""The most bytes of one document that are decompressed."""

MAX_STREAMS = 10_000
"""The most compressed streams of one document."""

PIECE = 65_536
"""The longest piece that is read at once. No list of pages or of contents is longer."""

_LONGEST_NAME = 64


def _name(*names: bytes) -> bytes:
    """An expression for these names in a PDF. Each of their characters may be written as a number."""
    spelled = [b"".join(b"(?:%c|#(?i:%02x))" % (one, one) for one in name) for name in names]
    return b"/(?:%b)" % b"|".join(spelled)


_page = re.compile(_name(b"Page")).findall
_kids = re.compile(_name(b"Kids") + rb"\s*+\[([^\]]*+)").findall
_contents = re.compile(_name(b"Contents") + rb"\s*+(\[[^\]]*+|\d{1,10}\s++\d{1,5}\s++R)").findall
_references = re.compile(rb"(?<!\d)(\d{1,10})\s++\d{1,5}\s++R").findall
_begins_list = re.compile(_name(b"Kids", b"Contents") + rb"\s*+\[").match
_stream = re.compile(rb"stream[\0\t\f ]*+(?:\r\n|\r|\n|)").finditer

_FILTERS = (b"LZW", b"ASCII85", b"A85", b"ASCIIHex", b"AHx", b"RunLength", b"Crypt")
_hides_text = re.compile(_name(b"Encrypt", *_FILTERS) + rb"|/RL[\s/\]]").search
"""What can keep text from `_inflated`."""


class _Unbounded(Exception):
    """The text of a document may be longer than what is found in it."""


def pdf_tokens(data: bytes, page_tokens: int) -> int | None:
    """The tokens, from above; None if the text may be longer than what is found in the document."""
    found, longest = _Found(len(data) + MAX_INFLATED), 0
    try:
        for part in chain([_pieces(data)], _inflated(data)):
            before = found.size
            found.read(part)
            longest = max(longest, found.size - before)
    except _Unbounded:
        return None
    # Several pages may show the same text, and the tree of pages may name one page several times.
    repeated = len(found.contents) - len(set(found.contents))
    return found.size + repeated * longest + max(1, found.pages, found.kids) * page_tokens


class _Found:
    """What is found in a document: first in itself, then in its streams."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.size = self.pages = self.kids = 0
        self.contents: list[bytes] = []
        """The numbers of the streams that pages show."""

    def read(self, part: Iterator[bytes]) -> None:
        """Raises _Unbounded."""
        rest = b""
        for piece in part:
            pause()
            self.size += len(piece)
            if self.size > self._most_bytes or len(rest) > PIECE:
                raise _Unbounded
            text = rest + piece
            end = _end(text)
            self._read(text[:end])
            rest = text[end:]
        self._read(rest)

    def _read(self, text: bytes) -> None:
        if _hides_text(text):
            raise _Unbounded
        self.pages += len(_page(text))
        self.kids += sum(named.count(b"R") for named in _kids(text))
        self.contents += [number for named in _contents(text) for number in _references(named)]


def _end(text: bytes) -> int:
    """Where to cut a text that goes on: before a name or a list that may not be complete."""
    opening = text.rfind(b"[")
    if opening > text.rfind(b"]"):
        begin = text.rfind(b"/", 0, opening)
        if begin >= 0 and _begins_list(text, begin):
            return begin
    name = text.rfind(b"/", max(0, len(text) - _LONGEST_NAME))
    return len(text) if name < 0 else name


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PIECE] for at in range(0, len(data), PIECE))


def _inflated(data: bytes) -> Iterator[Iterator[bytes]]:
    """The contents of each compressed stream. Raises _Unbounded."""
    streams, left = 0, len(data) + MAX_STREAMS
    for found in _stream(data):
        if not _is_zlib(data, found.end()):
            continue
        stream = _Stream(data, found.end())
        yield stream.pieces()
        streams, left = streams + 1, left - stream.read
        if streams > MAX_STREAMS or left < 0:  # streams that overlap
            raise _Unbounded


class _Stream:
    """A compressed stream of a document."""

    def __init__(self, data: bytes, begin: int) -> None:
        self._data = data
        self._at = begin
        self.read = 0
        """The bytes before its end."""

    def pieces(self) -> Iterator[bytes]:
        """Its content. Raises _Unbounded."""
        inflater, second = zlib.decompressobj(), _Second()
        try:
            while not inflater.eof and (compressed := inflater.unconsumed_tail or self._next()):
                if piece := inflater.decompress(compressed, PIECE):
                    second.check(piece)
                    yield piece
        except zlib.error:
            pass  # damaged from here on, or not compressed at all
        self.read -= len(inflater.unused_data)

    def _next(self) -> bytes:
        compressed = self._data[self._at : self._at + PIECE]
        self._at += len(compressed)
        self.read += len(compressed)
        return compressed


def _is_zlib(data: bytes, at: int) -> bool:
    """Whether the header of compressed data stands here (RFC 1950, 2.2)."""
    head = data[at : at + 2]
    return len(head) == 2 and head[0] & 15 == zlib.DEFLATED and int.from_bytes(head) % 31 == 0


class _Second:
    """Finds a filter that stands twice: the content of a stream is compressed again."""

    def __init__(self) -> None:
        self._inflater: zlib._Decompress | None = zlib.decompressobj()
        """None when it is known that it is not."""

    def check(self, piece: bytes) -> None:
        """The next piece of the content. Raises _Unbounded."""
        if self._inflater is None:
            return
        try:
            if self._inflater.decompress(piece, 256):
                raise _Unbounded
            is_known = self._inflater.eof  # it is empty
        except zlib.error:
            is_known = True
        if is_known:
            self._inflater = None
