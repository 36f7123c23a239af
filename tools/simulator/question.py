"""What a request asks, after the checks that Azure makes of its body.

Tokens here are words with the white space before them, so that everybody can count them: a prompt costs the
words of its messages, plus 4 for each message. An image costs 85.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from . import refusals
from .refusals import Refused

_T = TypeVar("_T")
TOKENS_PER_MESSAGE = 4
TOKENS_PER_IMAGE = 85
_TOKEN = re.compile(r"\s*\S+|\s+")
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Question:
    prompt: str  # the last thing that the user said
    prompt_tokens: int
    choices: int
    cap: int | None  # most completion tokens of one choice
    cap_param: str | None  # which parameter gave it
    stream: bool
    include_usage: bool
    has_stream_options: bool
    material: bytes  # what a repeatable id is made of: equal for equal messages


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def decode(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(refusals.invalid_request("We could not parse the JSON body of your request.")) from None
    if not isinstance(value, dict):
        raise Refused(
            refusals.invalid_request(f"Invalid body: expected an object, but got {_name(value)} instead.")
        )
    return value


def model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if model is None or model == "":
        raise Refused(refusals.invalid_request("you must provide a model parameter"))
    if not isinstance(model, str):
        raise _wrong_type("model", "a string", model)
    return model


def read(body: dict[str, Any]) -> Question:
    """Raises Refused, as Azure would."""
    messages = _messages(body)
    cap, cap_param = _cap(body)
    stream = _optional(body, "stream", bool) or False
    options = _optional(body, "stream_options", dict)
    if options is not None and not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(refusals.invalid_request(message, "stream_options"))
    return Question(
        prompt=_prompt(messages),
        prompt_tokens=sum(TOKENS_PER_MESSAGE + _cost(message) for message in messages),
        choices=_positive(body, "n") or 1,
        cap=cap,
        cap_param=cap_param,
        stream=stream,
        include_usage=_optional(options or {}, "include_usage", bool) or False,
        has_stream_options=options is not None,
        material=repr([_texts(message) for message in messages]).encode(),
    )


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(refusals.invalid_request(message, "messages", "missing_required_parameter"))
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1."
        raise Refused(refusals.invalid_request(message, "messages", "empty_array"))
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _wrong_type(f"messages[{index}]", "an object", message)
    return messages


def _cap(body: dict[str, Any]) -> tuple[int | None, str | None]:
    old, new = _positive(body, "max_tokens"), _positive(body, "max_completion_tokens")
    if old is not None and new is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise Refused(refusals.invalid_request(message, None, "invalid_parameter_combination"))
    if old is not None:
        return old, "max_tokens"
    return new, None if new is None else "max_completion_tokens"


def _positive(body: dict[str, Any], param: str) -> int | None:
    value = body.get(param)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(param, "an integer", value)
    if param == "n" and value > 128:
        message = (
            f"Invalid 'n': integer above maximum value. Expected a value <= 128, but got {value} instead."
        )
        raise Refused(refusals.invalid_request(message, param, "integer_above_max_value"))
    if value < 1:
        message = (
            f"Invalid '{param}': integer below minimum value. Expected a value >= 1, but got {value} instead."
        )
        raise Refused(refusals.invalid_request(message, param, "integer_below_min_value"))
    return value


def _optional(body: dict[str, Any], param: str, kind: type[_T]) -> _T | None:
    value = body.get(param)
    if value is not None and not isinstance(value, kind):
        raise _wrong_type(param, _NAMES[kind], value)
    return value


def _wrong_type(param: str, expected: str, value: Any) -> Refused:
    message = f"Invalid type for '{param}': expected {expected}, but got {_name(value)} instead."
    return Refused(refusals.invalid_request(message, param, "invalid_type"))


def _name(value: Any) -> str:
    return _NAMES.get(type(value), "a number")


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]


def _images(message: dict[str, Any]) -> int:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts)


def _cost(message: dict[str, Any]) -> int:
    return sum(len(tokens(text)) for text in _texts(message)) + TOKENS_PER_IMAGE * _images(message)


def _prompt(messages: list[dict[str, Any]]) -> str:
    said = [" ".join(_texts(message)) for message in messages if message.get("role") == "user"]
    return said[-1] if said else ""
