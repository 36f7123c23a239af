"""A real PNG: stripes in colours that depend on a text."""

import base64
import hashlib
import struct
import zlib


def base64_picture(text: str, width: int, height: int) -> str:
    salts = [f"{text} {n}".encode("utf-8", "replace") for n in range(2)]
    palette = b"".join(hashlib.sha256(salt).digest()[:24] for salt in salts)
    row = b"\0" + bytes(x * 16 // width for x in range(width))  # filter type 0, then a colour for each pixel
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits of a palette
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_part(name, content) for name, content in parts)
    return base64.b64encode(data).decode()


def _part(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
