"""Prompts with more tokens than their bytes suggest, and ordinary ones to compare."""

import base64
import random

from tools.simulator import Answer

from .flood import Attack, chat

_PROSE = "A glove box keeps what is inside apart from the air of the room around it. "
_ANSWER = Answer(_PROSE * 2)
_random = random.Random(1)  # noqa: S311 - repeatable prompts, no secrets
_DIGITS = " ".join(_random.choices("0123456789", k=10_000))
_BASE64 = base64.b64encode(_random.randbytes(20_000)).decode()
_TOOL = {"type": "function", "function": {"name": "f", "description": "1 0 0 1 " * 2500}}
_STREAM = chat(_PROSE * 18, max_tokens=50, stream=True)

ATTACKS = (
    Attack("ordinary text", chat(_PROSE * 18, max_tokens=50), 300_000, _ANSWER, at_least=0.97),
    Attack("ordinary streams", _STREAM, 150_000, _ANSWER, at_least=0.97),
    Attack("dense text: 1 0 0 1", chat("1 0 0 1 " * 2500, max_tokens=16), 650_000),
    Attack("dense text: random digits", chat(_DIGITS, max_tokens=16), 650_000),
    Attack("dense text: base64", chat(_BASE64, max_tokens=16), 850_000),
    Attack("dense text in a tool", chat("Hi", max_tokens=16, tools=[_TOOL]), 650_000),
)
