"""Decompresses a response. The proxy asks for `identity`, but a gateway in between may compress anyway."""

from __future__ import annotations

import zlib

PIECE_BYTES = 256 * 1024
"""The most that one call returns, so that a few bytes cannot fill the memory."""


class CannotDecode(Exception):
    """The body is not in the encoding that the response names."""


_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_BEGIN = b"\x1f"


class Decoder:
    """Decodes gzip or deflate, piece by piece. Deflate comes with or without the header of zlib."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._decoder: zlib._Decompress | None = None
        self._waiting = b""
        """What is not decoded yet."""
        self._is_full = False
        """Whether the last piece may have left output behind."""

    def feed(self, data: bytes) -> bytes:
        """The next piece of the decoded body. Empty: more data is needed. Else call it again, without data.

        Raises:
            CannotDecode: the data is invalid.
        """
        self._waiting += data
        while self._waiting or self._is_full:
            if self._decoder is None or self._decoder.eof:
                self._decoder = self._begin()
                continue
            try:
                piece = self._decoder.decompress(self._waiting, PIECE_BYTES)
            except zlib.error as error:
                raise CannotDecode from error
            self._is_full = len(piece) == PIECE_BYTES and not self._decoder.eof
            self._waiting = self._decoder.unconsumed_tail or self._decoder.unused_data
            if piece:
                return piece
        return b""

    def end(self) -> None:
        """Raises CannotDecode: the data ended too early."""
        if self._decoder is not None and not self._decoder.eof:
            raise CannotDecode

    def _begin(self) -> zlib._Decompress | None:
        """The decoder of a deflate body, or of the next member of a gzip body. The rest is ignored."""
        if self._decoder is not None and not (self._is_gzip and self._waiting.startswith(_GZIP_BEGIN)):
            self._waiting = b""
            return self._decoder
        if self._is_gzip:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        has_header = self._waiting[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def decoder(encoding: str) -> Decoder | None:
    """The decoder for the value of `content-encoding`; None if the body is not encoded.

    Raises:
        CannotDecode: the encoding is not known.
    """
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return None
    if name in _GZIP or name == "deflate":
        return Decoder(is_gzip=name in _GZIP)
    raise CannotDecode(name)
