"""The messages of a chat, in chat completions' form; responses.py brings its items into it."""

from typing import Any

_Json = dict[str, Any]


def parts(message: _Json) -> list[_Json]:
    content = message.get("content")
    every = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return [part for part in every if isinstance(part, dict)]


def texts(message: _Json) -> list[str]:
    """What is said, and the arguments of tool calls."""
    said = [part["text"] for part in parts(message) if isinstance(part.get("text"), str)]
    return said + [str(call.get("arguments")) for call in calls(message)]


def prompt(messages: list[_Json]) -> str:
    """The last message of the user."""
    said = [" ".join(texts(message)) for message in messages if message.get("role") == "user"]
    return said[-1] if said else ""


def result(messages: list[_Json]) -> str | None:
    """What a tool returned, if that is the last message."""
    last = messages[-1] if messages else {}
    return " ".join(texts(last)) if last.get("role") == "tool" else None


def called(messages: list[_Json]) -> frozenset[str]:
    """The names of the functions that the model called since the user spoke."""
    names: set[str] = set()
    for message in messages:
        if message.get("role") == "user":
            names.clear()
        names |= {str(call.get("name")) for call in calls(message)}
    return frozenset(names)


def calls(message: _Json) -> list[_Json]:
    """The functions that a message of the model calls."""
    every = message.get("tool_calls")
    called = (
        [call.get("function") for call in every if isinstance(call, dict)] if isinstance(every, list) else []
    )
    return [function for function in called if isinstance(function, dict)]
