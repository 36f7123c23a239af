"""What a picture costs, and its size from its own header.

Source of the rules: OpenAI, "Images and vision", "Calculating costs".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator

import msgspec

Size = tuple[int, int]
"""Width and height in pixels."""

LARGEST_PATCHES = 100_000
"""The most patches of a picture whose size is unknown, for models without a limit: 102 megapixels. The
documents name no limit; in practice, pictures over about 60 megapixels are refused."""

MAX_SEGMENTS = 200
MAX_BLOCKS = 2000
"""The most parts of a JPEG and of a GIF that are read; a picture with more has an unknown size."""


class TileRule(msgspec.Struct, frozen=True):
    """Pictures are scaled into 2048 x 2048, then to a short side of 768, and cut into tiles of 512 x 512."""

    base: int
    tile: int

    def tokens(self, size: Size | None, detail: str) -> int:
        if detail == "low":
            return self.base
        short, long = sorted(size or (2048, 2048))
        short, long = _scaled(short, long, 2048 / long)
        short, long = _scaled(short, long, 768 / short)
        tiles = 8 if size is None else math.ceil(short / 512) * math.ceil(long / 512)
        return self.base + self.tile * tiles


class PatchRule(msgspec.Struct, frozen=True):
    """Pictures are covered by patches of 32 x 32, and scaled down to `patches` if they need more.

    The low detail has no effect on some of these models, so it is not used here.
    """

    multiplier: float
    patches: int
    original_patches: int | None = 0
    """The most patches for the details `auto` and `original`; None means no limit, 0 means `patches`."""

    def tokens(self, size: Size | None, detail: str) -> int:
        limit: int | None = self.patches
        if detail not in {"low", "high"} and self.original_patches != 0:
            limit = self.original_patches
        if size is None:
            patches = limit or LARGEST_PATCHES
        else:
            patches = math.ceil(size[0] / 32) * math.ceil(size[1] / 32)
            patches = patches if limit is None else min(patches, limit)
        return math.ceil(patches * self.multiplier)


PictureRule = TileRule | PatchRule

DEAREST: tuple[PictureRule, ...] = (
    TileRule(2833, 5667),
    PatchRule(2.46, 1536),
    PatchRule(1.2, 2500, original_patches=None),
)
"""No known model costs more than the dearest of these."""


def _scaled(short: int, long: int, factor: float) -> Size:
    """Both sides scaled down by `factor` and rounded up; a factor over 1 changes nothing."""
    if factor >= 1:
        return short, long
    return max(1, math.ceil(short * factor)), max(1, math.ceil(long * factor))


class Cut(Exception):
    """The given bytes end before the size."""


def size_of(data: bytes) -> Size | None:
    """The size in the header of a PNG, JPEG, GIF, WebP or BMP; None if it cannot be read.

    Raises:
        Cut: `data` may be the beginning of a picture, but ends before its size.
    """
    for magic, read in _READERS:
        if data.startswith(magic):
            try:
                size = read(data)
            except (IndexError, struct.error) as error:
                raise Cut from error
            return size if size is not None and min(size) > 0 else None
    return None


def _png(data: bytes) -> Size | None:
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if data[12:16] == b"IHDR" else None


def _jpeg(data: bytes) -> Size | None:
    """The largest frame: a decoder may use any of them."""
    largest: Size | None = None
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in {0xDA, 0xD9}:  # the picture's data, the end
            return largest
        if marker in {0xFF, 0x01, *range(0xD0, 0xD8)}:  # padding, or a marker without a length
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            if not width or not height:  # a line count that follows later
                return None
            largest = max(largest or (0, 0), (width, height), key=math.prod)
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _gif(data: bytes) -> Size | None:
    """The screen, or more if a frame lies outside of it."""
    width, height = struct.unpack_from("<HH", data, 6)
    at = 13 + _color_table(data[10])
    blocks = iter(range(MAX_BLOCKS))
    for _ in blocks:
        kind = data[at]
        if kind == 0x3B:  # the end
            return width, height
        if kind == 0x2C:
            left, top, w, h = struct.unpack_from("<HHHH", data, at + 1)
            width, height = max(width, left + w), max(height, top + h)
            at = _after_blocks(data, at + 11 + _color_table(data[at + 9]), blocks)
        elif kind == 0x21:
            at = _after_blocks(data, at + 2, blocks)
        else:
            return None
    return None


def _color_table(flags: int) -> int:
    """The length of a table of colors in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int, blocks: Iterator[int]) -> int:
    """Where the data that begins at `at` ends; it takes one of `blocks` for each block."""
    for _ in blocks:
        length = data[at]
        at += 1 + length
        if length == 0:
            break
    return at


def _webp(data: bytes) -> Size | None:
    if data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8X":
        wide, high = data[24:27], data[27:30]
        if len(high) < 3:
            raise Cut
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if data[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _bmp(data: bytes) -> Size | None:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return abs(width), abs(height)


_READERS: tuple[tuple[bytes, Callable[[bytes], Size | None]], ...] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8", _jpeg),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"RIFF", _webp),
    (b"BM", _bmp),
)
