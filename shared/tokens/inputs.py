"""The tokens that the inputs of embeddings can cost: text, or numbers of tokens."""

from __future__ import annotations

import msgspec

from . import text, tokenizer
from .families import UNKNOWN, Family
from .prompt import Prompt

UNKNOWN_FRAMING_TOKENS = 3
"""For each input of an unknown model, which may mark its beginning and end. OpenAI's models do not."""


class _Body(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"null")


class _Texts(msgspec.Struct):
    input: list[str] | str


_decode = msgspec.json.Decoder(_Body).decode
_decode_texts = msgspec.json.Decoder(_Texts).decode


def _inputs(body: bytes) -> bytes:
    """The member `input` as it is written; the whole body if it cannot be read."""
    try:
        return bytes(_decode(body).input)
    except (msgspec.MsgspecError, RecursionError):
        return body


class InputsPrompt(Prompt):
    """The tokens of one request for embeddings. `body` must be a JSON object."""

    def __init__(self, body: bytes, family: Family) -> None:
        self._body, self._family, self._count, self._is_plain = body, family, None, True
        self._hidden = family.preamble_tokens
        inputs = _inputs(body)
        self._has_text = b'"' in inputs
        tokens = len(inputs) if self._has_text else inputs.count(b",") + 1
        self.bound = tokens + self._hidden
        """For lists of tokens, their exact number: there is a comma between each two."""

    async def is_too_long(self) -> bool:
        """The limit of a model is for each of the inputs, and is not known here."""
        return False

    def _counted(self) -> int:
        if not self._has_text or not tokenizer.is_available() or text.is_complex(self._body):
            return self.bound
        try:
            found = _decode_texts(self._body).input
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return self.bound
        inputs = [found] if isinstance(found, str) else found
        framing = UNKNOWN_FRAMING_TOKENS if self._family is UNKNOWN else 0
        tokens = self._hidden + framing * len(inputs)
        for one in inputs:
            tokens += tokenizer.count(one, self._family.encodings, self.bound)[1]
            if tokens >= self.bound:
                return self.bound
        return tokens
