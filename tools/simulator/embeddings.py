"""Embeddings: vectors of hashed words and parts of words, so that texts with the same words are near.

A text costs its tokens, an array of tokens its length. Arrays are near to other arrays only.
"""

import base64
import math
import re
import zlib
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

from . import azure, body, tokens
from .azure import Refused
from .behaviours import Answer, ApiRequest, Context
from .journal import Usage
from .wire import Response

_Json = dict[str, Any]
_Input = str | list[int]
_MOST_INPUTS, _MOST_TOKENS = 2048, 8192
_DIMENSIONS, _LARGE = 1536, 3072
_WORD = re.compile(r"\w+")
_SHORT = 3  # letters: such words say little, so they weigh little


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest(ApiRequest):
    context: Context
    inputs: list[_Input]
    prompt_tokens: int
    dimensions: int
    as_base64: bool
    prompt: str
    stream: bool = False

    def respond(self, answer: Answer) -> Response:
        billed = Usage(self.prompt_tokens, 0)
        reported = answer.reported(billed)
        data = [
            {"object": "embedding", "index": index, "embedding": self._embedding(each)}
            for index, each in enumerate(self.inputs)
        ]
        usage = reported and {"prompt_tokens": reported.prompt_tokens, "total_tokens": reported.prompt_tokens}
        whole = {"object": "list", "data": data, "model": self.context.deployment, "usage": usage}
        return self.whole(whole, billed, reported)

    def _embedding(self, given: _Input) -> str | list[float]:
        vector = _vector(given, self.dimensions)
        if self.as_base64:
            return base64.b64encode(array("f", vector).tobytes()).decode()
        return [round(value, 8) for value in vector]


def parse(fields: _Json, context: Context) -> EmbeddingsRequest:
    """Raises Refused."""
    inputs = _inputs(fields)
    counts = [_count(each, context.settings.billed_as is not None) for each in inputs]
    _check_size(counts)
    return EmbeddingsRequest(
        context=context,
        inputs=inputs,
        prompt_tokens=sum(counts),
        dimensions=_dimensions(fields, context.settings.billed_as or context.deployment),
        as_base64=body.optional(fields, "encoding_format", str) == "base64",
        prompt=next((each for each in inputs if isinstance(each, str)), ""),
    )


def _inputs(fields: _Json) -> list[_Input]:
    """A text, texts, an array of tokens or arrays of tokens."""
    given = fields.get("input")
    if given is None:
        raise body.missing("input")
    inputs = given if isinstance(given, list) and not _is_tokens(given) else [given]
    if not inputs or not all(each and (isinstance(each, str) or _is_tokens(each)) for each in inputs):
        message = "'$.input' is invalid. Please check the API reference: "
        raise Refused(azure.invalid_request(f"{message}https://platform.openai.com/docs/api-reference."))
    return inputs


def _is_tokens(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(type(each) is int for each in given)


def _count(given: _Input, real_tokens: bool) -> int:
    if isinstance(given, list):
        return len(given)
    return tokens.count(given) if real_tokens else len(tokens.words(given))


def _check_size(counts: list[int]) -> None:
    if len(counts) > _MOST_INPUTS:
        message = f"Invalid 'input': array too long. Expected an array with maximum length {_MOST_INPUTS}, "
        message += f"but got an array with length {len(counts)} instead."
        raise Refused(azure.invalid_request(message, "input", "array_above_max_length"))
    if max(counts) > _MOST_TOKENS:
        message = f"This model's maximum context length is {_MOST_TOKENS} tokens, however you requested "
        message += f"{max(counts)} tokens. Please reduce your prompt; or completion length."
        raise Refused(azure.invalid_request(message))


def _dimensions(fields: _Json, model: str) -> int:
    most = _LARGE if "large" in model else _DIMENSIONS
    wanted = body.positive(fields, "dimensions", most)
    if wanted and "ada" in model:
        raise Refused(azure.invalid_request("This model does not support specifying dimensions."))
    return wanted or most


def _vector(given: _Input, dimensions: int) -> list[float]:
    vector = [0.0] * dimensions
    for feature, weight in (_features(given) or Counter([repr(given)])).items():
        place = zlib.crc32(feature.encode("utf-8", "replace"))
        vector[(place >> 1) % dimensions] += weight if place & 1 else -weight
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def _features(given: _Input) -> Counter[str]:
    if isinstance(given, list):
        return Counter(map(str, given))
    weights: Counter[str] = Counter()
    for word in _WORD.findall(given.casefold()):
        few, framed = len(word) <= _SHORT, f"<{word}>"
        weights[word] += 1 if few else 4
        for start in range(len(framed) - 2):
            weights[framed[start : start + 3]] += 0 if few else 1
    return weights
