"""What a prompt costs: words by simple rules, or real tokens by OpenAI's public ones.

Those are "How to count tokens with tiktoken" and "Calculating costs".
All is counted after the JSON is decoded, so that it does not matter how a client writes its characters.
"""

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from math import ceil
from typing import Any, NamedTuple

from . import messages, tokens

_PER_MESSAGE, _PER_PROMPT = 3, 3
_WORDS_PER_MESSAGE, _WORDS_PER_IMAGE = 4, 85
_PICTURES = {"gpt-4o": (85, 170), "gpt-4o-mini": (2833, 5667)}
"""Of a model: the tokens of a picture, and those of each tile of it. Other models cost as gpt-4o does."""
_LARGE = (2048, 768)
_PNG = b"\x89PNG\r\n\x1a\n"
_BYTES_PER_SOUND_TOKEN = 100  # 10 tokens a second, in an MP3 of 8 kbit/s
_BYTES_PER_FILE_TOKEN = 4
_LINKED_FILE = 5_000


class Cost(NamedTuple):
    """The tokens of a prompt: what is billed, and what it takes of the model's context.

    They differ for pictures on gpt-4o-mini, which bills them as many more tokens than it reads.
    """

    billed: int
    context: int


def prompt(said: list[dict[str, Any]], rendered: list[Any], model: str | None) -> Cost:
    """The cost of messages and of what else the model reads, such as tools. `model` None: in words."""
    if model is None:
        return _same(sum(map(_words_of, said)))
    text = _PER_PROMPT + _PER_MESSAGE * len(said)
    text += sum(tokens.count(_json(each)) for each in rendered if each)
    billed = context = text
    for part in _leaves(said):
        cost = _same(tokens.count(part)) if isinstance(part, str) else _inlined(part, model)
        billed, context = billed + cost.billed, context + cost.context
    return Cost(billed, context)


def _words_of(message: dict[str, Any]) -> int:
    images = [part for part in messages.parts(message) if part.get("type") == "image_url"]
    words = sum(len(tokens.words(text)) for text in messages.texts(message))
    return _WORDS_PER_MESSAGE + words + _WORDS_PER_IMAGE * len(images)


def _leaves(value: Any) -> Iterator[str | dict[str, Any]]:
    """Every text, and every picture, sound and file."""
    left = [value]
    while left:
        match left.pop():
            case str() as text:
                yield text
            case list() as items:
                left += items
            case {"type": "image_url" | "input_audio" | "file"} as part:
                yield part
            case dict() as members:
                left += [member for name, member in members.items() if name != "type"]


def _inlined(part: dict[str, Any], model: str) -> Cost:
    content = part.get(part["type"])
    members = content if isinstance(content, dict) else {"url": content}
    if part["type"] == "image_url":
        tiles = _tiles(str(members.get("url")), members.get("detail"))
        billed, context = (base + tile * tiles for base, tile in (_rule(model), _rule("gpt-4o")))
        return Cost(billed, context)
    data = str(members.get("data") or members.get("file_data") or "")
    size = len(data.partition(";base64,")[2] or data) * 3 // 4
    if part["type"] == "input_audio":
        return _same(ceil(size / _BYTES_PER_SOUND_TOKEN))
    return _same(ceil(size / _BYTES_PER_FILE_TOKEN) or _LINKED_FILE)


def _same(count: int) -> Cost:
    return Cost(count, count)


def _rule(model: str) -> tuple[int, int]:
    return _PICTURES.get(model, _PICTURES["gpt-4o"])


def _tiles(url: str, detail: Any) -> int:
    """The squares of 512 pixels in a picture that fits 2048 x 2048 and whose shorter side is at most 768."""
    if detail == "low":
        return 0
    longer, shorter = sorted(_size(url) or _LARGE, reverse=True)
    shrink = min(1.0, 2048 / longer)
    shrink *= min(1.0, 768 / (shorter * shrink))
    return ceil(round(longer * shrink / 512, 6)) * ceil(round(shorter * shrink / 512, 6))


def _size(url: str) -> tuple[int, int] | None:
    """Of an inlined PNG, by its header. None for all others."""
    try:
        data = base64.b64decode(url.partition(";base64,")[2][:32])
    except binascii.Error:
        return None
    if not data.startswith(_PNG) or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return (width, height) if width and height else None


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
