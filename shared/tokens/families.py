"""What is publicly known about the families of models, found by a model's name.

Sources: OpenAI, "Images and vision" (calculating costs) and the pages of the models. Where the documents and
measured bills differ, the dearer figure stands here.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from .pictures import DEAREST, PatchRule, PictureRule, TileRule

LARGEST_CONTEXT = 1_050_000
"""The largest context window of any known model, in tokens."""


class Family(msgspec.Struct, frozen=True):
    """Models that share a tokenizer, a context window and a rule for pictures."""

    encodings: tuple[str, ...]
    """The tokenizers. If there are several, the larger count is valid."""
    context_tokens: int | None
    """The largest prompt that the model accepts; None if unknown."""
    may_reason: bool
    """Whether it may produce reasoning tokens that a client does not see."""
    pictures: tuple[PictureRule, ...]
    """The rules for pictures. If there are several, the dearest is valid."""
    preamble_tokens: int = 0
    """Text that the model's own template adds to every prompt, beyond the framing of messages."""
    picture_factor: int = 1
    """How many times the tokens that a picture takes of the context window it costs, at most."""

    @property
    def document_tokens(self) -> int:
        """The tokens of a document whose length is unknown."""
        return self.context_tokens or LARGEST_CONTEXT

    @property
    def file_tokens(self) -> int:
        """The same for a file, whose pages count as pictures as well."""
        return self.document_tokens * self.picture_factor

    def picture_tokens(self, size: tuple[int, int] | None, detail: str) -> int:
        """The tokens of a picture of `size` (width, height); None means any size."""
        return max(rule.tokens(size, detail) for rule in self.pictures)


_O200K, _CL100K = ("o200k_base",), ("cl100k_base",)
_FOUR = TileRule(85, 170)
_FOUR_MINI = TileRule(2833, 5667)
_O_SERIES = TileRule(75, 150)
_FIVE = TileRule(70, 140)
_MINI = PatchRule(1.62, 1536)
_NANO = PatchRule(2.46, 1536)
_O4_MINI = PatchRule(1.72, 1536)
_FIVE_TWO = PatchRule(1.2, 1536)
_FIVE_FOUR = PatchRule(1.2, 2500, original_patches=10_000)
_NEWEST = PatchRule(1.2, 2500, original_patches=None)


def _family(context: int | None, *rules: PictureRule, reasons: bool = True, old: bool = False) -> Family:
    return Family(_CL100K if old else _O200K, context, reasons, rules)


UNKNOWN = Family(_O200K + _CL100K, None, True, DEAREST, preamble_tokens=128)

# "gpt-4" is also the name of the turbo versions on Azure, so it has their window.
_FAMILIES = {
    "gpt-3.5-turbo": _family(16_385, _FOUR, reasons=False, old=True),
    "gpt-35-turbo": _family(16_385, _FOUR, reasons=False, old=True),
    "gpt-4": _family(128_000, _FOUR, reasons=False, old=True),
    "text-embedding": _family(None, _FOUR, reasons=False, old=True),
    "gpt-4o": _family(128_000, _FOUR, reasons=False),
    "chatgpt-4o": _family(128_000, _FOUR, reasons=False),
    "gpt-4o-mini": Family(_O200K, 128_000, False, (_FOUR_MINI,), picture_factor=34),
    "gpt-audio": _family(128_000, _FOUR, _FOUR_MINI, reasons=False),
    "gpt-4.1": _family(1_047_576, _FOUR, reasons=False),
    "gpt-4.1-mini": _family(1_047_576, _MINI, reasons=False),
    "gpt-4.1-nano": _family(1_047_576, _NANO, reasons=False),
    "gpt-4.5": _family(128_000, _FOUR, reasons=False),
    "computer-use-preview": _family(128_000, TileRule(65, 129)),
    "o1": _family(200_000, _O_SERIES),
    "o3": _family(200_000, _O_SERIES),
    "o4-mini": _family(200_000, _O4_MINI),
    "codex-mini": _family(200_000, _O4_MINI),
    "gpt-5": _family(400_000, _FIVE),
    "gpt-5-chat": _family(400_000, _FIVE, reasons=False),
    "gpt-5-codex": _family(400_000, _FIVE, _MINI),
    "gpt-5-mini": _family(400_000, _MINI),
    "gpt-5-nano": _family(400_000, _NANO),
    "gpt-5.1": _family(400_000, _FIVE, _FIVE_TWO),
    "gpt-5.1-codex": _family(400_000, _FIVE, _MINI),
    "gpt-5.2": _family(400_000, _FIVE, _FIVE_TWO),
    "gpt-5.2-codex": _family(400_000, _FIVE, _MINI),
    "gpt-5.3": _family(400_000, _FIVE, _FIVE_TWO),
    "gpt-5.3-codex": _family(400_000, _FIVE, _MINI),
    "gpt-5.4": _family(1_050_000, _FIVE_FOUR),
    "gpt-5.4-mini": _family(400_000, _MINI),
    "gpt-5.4-nano": _family(400_000, _NANO),
    "gpt-5.5": _family(1_050_000, _FIVE_FOUR),
    "gpt-5.6": _family(1_050_000, _NEWEST),
    "gpt-6": _family(1_050_000, _NEWEST),
    "gpt-6.1": _family(1_050_000, _NEWEST),
    "gpt-oss": Family(_O200K, 131_072, True, (_FOUR,), preamble_tokens=128),
}


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """The family of a model: the longest known name that `model` begins with, up to a hyphen or the end.

    So `gpt-4o-2024-11-20` belongs to `gpt-4o`, but `gpt-5.9` is unknown. An unknown model gets the dearest
    rules and no context window.
    """
    name = model.lower()
    while name:
        if name in _FAMILIES:
            return _FAMILIES[name]
        name = name.rpartition("-")[0]
    return UNKNOWN
