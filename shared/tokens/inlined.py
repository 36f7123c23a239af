"""Inlined data: base64 however it is written, and what sounds and documents in it cost."""

from __future__ import annotations

import binascii
import re
import struct

from .pdf import pdf_tokens

SHORT_HEAD, LONG_HEAD = 2048, 65_536
"""Characters of base64. Headers are read in the short head, or else in the long one."""

SOUND_TOKENS_PER_SECOND = 20
"""Twice what Azure bills for sound: one token for 100 ms."""

MP3_BYTES_PER_SECOND = 500
"""Half of the lowest bit rate of MP3."""

_STANDARD = bytes.maketrans(b"-_", b"+/")
_data_uri = re.compile(r"\s*+data:[^,]{0,500};\s*+base64\s*+,", re.IGNORECASE).match
_PDF = b"%PDF"
_COMPRESSED = (b"PK", b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"Rar!")


def payload(text: str) -> str | None:
    """The base64 of a data URI; None if `text` is none, such as a link."""
    found = _data_uri(text)
    return text[found.end() :] if found else None


def decoded(base64: str) -> bytes | None:
    """The bytes. Line breaks, the URL-safe alphabet and missing padding are fine; None if it is no base64."""
    try:
        text = base64.encode("ascii").translate(_STANDARD, b" \t\r\n\v\f").rstrip(b"=")
        text = text[: len(text) - (len(text) % 4 == 1)]
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None


def sound_tokens(base64: str) -> int:
    """The tokens of a sound: by its length if it is WAV or MP3, else one for each byte."""
    head = decoded(base64[:SHORT_HEAD])
    size = len(base64) * 3 // 4 + 1
    bytes_per_second = None if head is None else _wav_rate(head)
    if head is not None and (head.startswith(b"ID3") or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")):
        bytes_per_second = MP3_BYTES_PER_SECOND
    if bytes_per_second is None:
        return size
    return size * SOUND_TOKENS_PER_SECOND // bytes_per_second + 1


def _wav_rate(head: bytes) -> int | None:
    """The bytes of a second, from the header of an uncompressed WAV; None for anything else."""
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt ":
        return None
    try:
        header: tuple[int, ...] = struct.unpack_from("<HHIIHH", head, 20)
    except struct.error:
        return None
    kind, channels, rate, _, block, bits = header
    is_sane = kind in {1, 3} and 1 <= channels <= 8 and 8000 <= rate <= 192_000 and bits in {8, 16, 24, 32}
    if not is_sane or block != channels * bits // 8 or head.count(b"fmt ") > 1:
        return None
    return rate * block


def may_be_pdf(base64: str) -> bool:
    """By its first bytes. True for data that cannot be read."""
    head = decoded(base64[:SHORT_HEAD])
    return head is None or _PDF in head[:1024]


def document_tokens(base64: str, page_tokens: int, unknown: int) -> int:
    """The tokens of a document: one for each byte, and for a PDF also a picture of each page.

    `unknown` is the result for data that cannot be bounded. Decompresses and counts: not for the event loop.
    """
    data = decoded(base64)
    if data is None or data.startswith(_COMPRESSED):
        return unknown
    if _PDF not in data[:1024]:
        return len(data)
    tokens = pdf_tokens(data, page_tokens)
    return unknown if tokens is None else tokens


def document_limit(base64: str, unknown: int) -> int:
    """What `document_tokens` cannot exceed, from the first bytes alone."""
    head = decoded(base64[:SHORT_HEAD])
    if head is None or head.startswith(_COMPRESSED) or _PDF in head[:1024]:
        return unknown
    return len(base64) * 3 // 4 + 1
