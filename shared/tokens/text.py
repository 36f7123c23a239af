"""The tokens of the text in a body, from above: everything that is not media. Not for the event loop."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from . import tokenizer

OBJECT_TOKENS, ITEM_TOKENS = 4, 3
"""The framing of an object, and of a list's item that is no object. OpenAI counts 3 for a message and 1 for
its name. It writes tools like TypeScript, with enumerations as `"a" | "b"`, and other schemas as JSON."""

MAX_OBJECTS = 100_000
MAX_VALUES = 300_000
"""A body that may have more objects, or more values, is not decoded: that would hold the interpreter's lock
for too long."""

_NO_PROMPT = frozenset(
    {
        *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_output_tokens"),
        *("max_tokens", "metadata", "model", "n", "presence_penalty", "prompt_cache_key", "seed", "stop"),
        *("safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature"),
        *("top_logprobs", "top_p", "user"),
    }
)
"""Members of a body that are no part of the prompt."""

_MESSAGES = ("messages", "input")
_FREE_NAMES = ("content", "role", "text", "type")
"""Names in messages that their framing replaces."""

_decode = msgspec.json.Decoder().decode


def is_complex(body: bytes) -> bool:
    """Whether decoding the body may take long. It has at most these objects and lists, and values."""
    if len(body) <= MAX_OBJECTS:
        return False
    if body.count(b"{") + body.count(b"[") > MAX_OBJECTS:
        return True
    return len(body) > MAX_VALUES and max(body.count(b","), body.count(b'"')) > MAX_VALUES


def text_tokens(body: bytes, encodings: tuple[str, ...], skipped: Counter[str], limit: int) -> int | None:
    """The tokens of every string and number, names included, and of the framing; stops beyond `limit`.

    The strings in `skipped` are not text: that many of each are left out. None if the body cannot be decoded.
    """
    try:
        tree = _decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict):
        return None
    messages = [tree.pop(name) for name in _MESSAGES if name in tree]
    others = {name: value for name, value in tree.items() if name not in _NO_PROMPT}
    counts = _Counts(encodings, skipped, limit)
    return counts.tokens(messages, 1, dict.fromkeys(_FREE_NAMES, 0)) + counts.tokens([others], 2, {})


class _Counts:
    """Counts of one body."""

    def __init__(self, encodings: tuple[str, ...], skipped: Counter[str], limit: int) -> None:
        self._encodings = encodings
        self._skipped = skipped
        self._limit = limit

    def tokens(self, left: list[Any], member_tokens: int, known: dict[str, int]) -> int:
        """The tokens of the values in `left`. `member_tokens` is the framing of an object's member."""
        tokens = 0
        while left and tokens <= self._limit:
            value = left.pop()
            if isinstance(value, dict):
                tokens += OBJECT_TOKENS + member_tokens * len(value)
                tokens += sum(self._of(name, known) for name in value)
                left.extend(value.values())
            elif isinstance(value, list):
                tokens += sum(ITEM_TOKENS for item in value if not isinstance(item, dict))
                left.extend(value)
            elif isinstance(value, str) and self._skipped.get(value):
                self._skipped[value] -= 1
            else:
                tokens += self._of(str(value), known)
        return tokens

    def _of(self, text: str, known: dict[str, int]) -> int:
        if text not in known:
            known[text] = tokenizer.count(text, self._encodings, self._limit)[1]
        return known[text]
