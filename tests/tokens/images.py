"""The smallest beginnings of pictures that say a size."""

from __future__ import annotations

import struct

Size = tuple[int, int]


def png(size: Size) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size) + b"\x08\x06\0\0\0"


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(size: Size, marker: int = 0xC0) -> bytes:
    return segment(marker, b"\x08" + struct.pack(">HH", size[1], size[0]) + b"\x01\x01\x11\0")


SCAN = segment(0xDA, b"\x01\x01\0\0?\0")


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + SCAN + b"data\xff\xd9"


def gif(screen: Size, *frames: tuple[int, int, int, int], table: bool = False) -> bytes:
    colors = b"\0" * 6 if table else b""
    head = b"GIF89a" + struct.pack("<HH", *screen) + bytes([0x80 if table else 0, 0, 0]) + colors
    extension = b"\x21\xf9\x04\0\0\0\0\0"
    images = b"".join(
        extension + b"," + struct.pack("<HHHH", *box) + b"\0\x02\x02ab\x01c\0" for box in frames
    )
    return head + images + b";"


def webp_lossy(size: Size) -> bytes:
    return b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", *size)


def webp_lossless(size: Size) -> bytes:
    return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", (size[0] - 1) | (size[1] - 1) << 14)


def webp_extended(size: Size) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in size)
    return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sides


def bmp(size: Size) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, size[0], -size[1])


def old_bmp(size: Size) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<IHH", 12, *size)
