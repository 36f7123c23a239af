"""What one generated picture can cost in tokens, from above.

Sources: OpenAI, "Image generation" (cost and latency): the table of the first models, the calculator of the
newer ones and the 100 tokens of a partial image; "Pricing" for DALL-E, which reports no tokens: its price at
40 dollars for 1,000,000 tokens, that of the first models.
"""

from __future__ import annotations

import math
import re

import msgspec

PARTIAL_TOKENS = 100
"""For each partial image of a stream."""

MOST_PIXELS = 8_294_400
"""Of the newest models. They choose the size themselves if a request names none."""

_size = re.compile(r"([1-9]\d{1,3})x([1-9]\d{1,3})").fullmatch


class _Table(msgspec.Struct, frozen=True):
    """Tokens by quality: of a square picture, and of another one."""

    tokens: dict[str, tuple[int, int]]

    def most(self, quality: str, size: tuple[int, int] | None) -> int:
        square, other = self.tokens.get(quality, max(self.tokens.values()))
        return square if size == (1024, 1024) else other


class _Grid(msgspec.Struct, frozen=True):
    """The longer side of the grid of patches, by quality. Where models differ, the dearer one stands."""

    sides: dict[str, int]

    def most(self, quality: str, size: tuple[int, int] | None) -> int:
        long = self.sides.get(quality, max(self.sides.values()))
        short, pixels = long, MOST_PIXELS
        if size is not None:
            short = math.ceil(long * min(size) / max(size))
            pixels = size[0] * size[1]
        return math.ceil(long * short * (2_000_000 + pixels) / 4_000_000)


_FIRST = _Table({"low": (272, 408), "medium": (1056, 1584), "high": (4160, 6240)})
_NEWEST = _Grid({"low": 16, "medium": 48, "high": 96, "xhigh": 96, "max": 96})
_DALL_E = _Table({"standard": (1000, 2000), "hd": (2000, 3000)})
_RULES: dict[str, _Table | _Grid] = {
    "gpt-image-1": _FIRST,
    "gpt-image-2": _NEWEST,
    "dall-e": _DALL_E,
}
"""By the beginning of a model's name."""


def most_tokens(model: str | None, quality: str | None, size: str | None) -> int:
    """The most tokens of one picture. Without a known model, of any model.

    A quality or a size that is missing or unknown counts as the dearest: the model may choose it.
    """
    name = (model or "").lower()
    rules = [rule for begin, rule in _RULES.items() if name.startswith(begin)] or [_FIRST, _NEWEST]
    return max(rule.most(quality or "auto", _sides(size)) for rule in rules)


def _sides(size: str | None) -> tuple[int, int] | None:
    """Width and height; None if the model chooses them."""
    found = _size(size or "")
    return (int(found[1]), int(found[2])) if found else None
