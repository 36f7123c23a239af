"""Calls whose client leaves while the model works."""

from tools.simulator import Answer

from .flood import Attack, chat
from .stage import REASONING

_LONG = Answer("A glove box keeps what is inside apart from the air of the room around it. " * 120)
_THINKS = Answer("Yes.", reasoning_tokens=3000)
_RARE = Answer("\U00012000" * 150)  # a chunk has one character, of several tokens
_THINKING = chat("Hi", REASONING, max_completion_tokens=4000, stream=True)
_THINKING_4 = chat("Hi", REASONING, max_completion_tokens=1000, stream=True, n=4)
_STREAM = chat("Hi", max_tokens=800, stream=True)

ATTACKS = (
    Attack("streams left before the first byte", _THINKING, 100_000, _THINKS, 6000, leave_after=0.5),
    Attack("streams left, four choices", _THINKING_4, 100_000, _THINKS, 6000, leave_after=0.5),
    Attack("streams left in rare characters", _STREAM, 10_000, _RARE, 120, leave_after=1.0),
    Attack("plain calls left after 0.2 s", chat("Hi", max_tokens=2500), 150_000, _LONG, leave_after=0.2),
)
