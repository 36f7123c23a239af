"""Responses whose usage is missing or wrong."""

from dataclasses import replace

from tools.simulator import Answer

from .flood import Attack, chat

_ANSWER = Answer("A glove box keeps what is inside apart from the air of the room around it. " * 30)
_PLAIN, _STREAM = chat("Hi", max_tokens=600), chat("Hi", max_tokens=600, stream=True)
_LIMIT = 50_000

ATTACKS = (
    Attack("no usage", _PLAIN, _LIMIT, replace(_ANSWER, report_usage=False)),
    Attack("no usage in a stream", _STREAM, _LIMIT, replace(_ANSWER, report_usage=False)),
    Attack("usage of zero", _PLAIN, _LIMIT, replace(_ANSWER, prompt_tokens=0, completion_tokens=0)),
    Attack("negative usage", _STREAM, _LIMIT, replace(_ANSWER, prompt_tokens=-500, completion_tokens=-500)),
)
