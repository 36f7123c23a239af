"""Pictures, sound and files. On gpt-4o-mini, a picture is billed as up to 48,169 tokens."""

import base64
import struct
from dataclasses import replace
from typing import Any

from tools.simulator import Answer

from .flood import Attack, chat
from .stage import PICTURES

_HEADER = b"\x89PNG\r\n\x1a\n" + struct.pack(
    ">I4sIIB", 13, b"IHDR", 2048, 768, 1
)  # of a PNG: all that is read
_DATA = base64.b64encode(bytes(200_000)).decode()
_LIMIT = 500_000


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _with(*parts: Any, **more: object) -> str:
    return chat([{"type": next(iter(part)), **part} for part in parts], PICTURES, max_tokens=100, **more)


def _escaped(body: str) -> str:
    return body.replace('"image_url"', r'"image\u005furl"')


_PICTURE = {"image_url": {"url": _url("image/png", _HEADER + bytes(1000))}}
_TEN, _STREAM = _with(*[_PICTURE] * 10), _with(*[_PICTURE] * 10, stream=True)
_LEFT = Attack("", _STREAM, _LIMIT, Answer("Black. " * 90), tokens_per_second=50, leave_after=0.4)

ATTACKS = (
    Attack("ten pictures", _TEN, _LIMIT),
    Attack(
        "ten pictures, linked", _with(*[{"image_url": {"url": "https://example.org/black.png"}}] * 10), _LIMIT
    ),
    Attack("ten pictures, escaped", _escaped(_TEN), _LIMIT),
    replace(_LEFT, name="ten pictures, left"),
    replace(_LEFT, name="ten pictures, escaped and left", body=_escaped(_STREAM)),
    Attack("sound", _with({"input_audio": {"data": _DATA, "format": "mp3"}}), 50_000),
    Attack("a file", _with({"file": {"file_data": f"data:application/pdf;base64,{_DATA}"}}), _LIMIT),
)
