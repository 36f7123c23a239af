"""What the simulated model writes: text, JSON that fits a schema, or the arguments of a function.

It calls a function if `tool_choice` demands it, or if the user spoke last and said a word of its name of four
letters or more: "weather" for `get_weather`.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from . import body, messages, prose, schemas, tokens
from .behaviours import Answer

_Json = dict[str, Any]
_LONG_WORD = re.compile(r"[A-Za-z][a-z]{3,}")


class Task(NamedTuple):
    """What a request asks of the model."""

    fields: _Json  # with `tools` and `tool_choice`
    said: list[_Json]  # the messages
    format: _Json  # `type` json_schema with `schema`, or json_object; else text
    real_tokens: bool


@dataclass(frozen=True, slots=True)
class Written:
    pieces: list[str]  # the text of each token
    end: Literal["stop", "length", "content_filter"]
    function: str | None = None  # the one that it calls

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def shown(self) -> Iterator[tuple[str, int]]:
        """Each piece that has text, with the tokens that it took. The last may have none."""
        waiting = 0  # tokens before the one that completes their character
        for piece in self.pieces:
            waiting += 1
            if piece:
                yield piece, waiting
                waiting = 0
        if waiting:
            yield "", waiting


def write(task: Task, answer: Answer, room: int | None) -> Written:
    """At most `room` tokens. A text that the answer gives comes before all that the task asks."""
    function = _function(task) if answer.text is None else None
    text = _text(task, function) if answer.text is None else answer.text
    pieces = tokens.split(text) if task.real_tokens else tokens.words(text)
    name = None if function is None else function["name"]
    if answer.filtered_after is not None:
        return Written(pieces[: answer.filtered_after], "content_filter", name)
    if room is not None and len(pieces) > room:
        return Written(pieces[:room], "length", name)
    return Written(pieces, "stop", name)


def _text(task: Task, function: _Json | None) -> str:
    prompt, result = messages.prompt(task.said), messages.result(task.said)
    kind = task.format.get("type")
    if function is not None:
        return _json(schemas.example(function["parameters"], prompt))
    if kind == "json_schema":
        return _json(schemas.example(task.format.get("schema"), prompt))
    said = prose.answer(prompt) if result is None else prose.after_tool(result)
    return _json({"answer": said}) if kind == "json_object" else said


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _function(task: Task) -> _Json | None:
    functions, choice = list(_functions(task.fields)), _choice(task.fields.get("tool_choice"))
    for function in functions:
        if function["name"] == choice:
            return function
    prompt, called = messages.prompt(task.said), messages.called(task.said)
    left = [function for function in functions if function["name"] not in called]
    meant = next((function for function in left if _is_meant(function["name"], prompt)), None)
    if choice == "required" and functions:
        return meant or (left or functions)[0]
    return meant if choice == "auto" and messages.result(task.said) is None else None


def _is_meant(name: str, prompt: str) -> bool:
    words = _LONG_WORD.findall(name) or [name]
    return any(word.lower() in prompt.lower() for word in words)


def _functions(fields: _Json) -> Iterator[_Json]:
    """Chat has the members of a function in `function`, Responses beside `type`."""
    for number, given in enumerate(body.optional(fields, "tools", list) or ()):
        tool = body.check_type(given, f"tools[{number}]", dict)
        inner = tool.get("function", tool)
        if isinstance(inner, dict) and tool.get("type") == "function":
            yield {
                "name": str(inner.get("name")),
                "parameters": inner.get("parameters") or {"type": "object"},
            }


def _choice(given: Any) -> str:
    if not isinstance(given, dict):
        return str(given or "auto")
    inner = given.get("function")
    members = inner if isinstance(inner, dict) else given
    return str(members.get("name") or members.get("mode") or "auto")
