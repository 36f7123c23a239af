"""The input items of Responses: as they are stored, and as the messages that the model reads."""

from collections.abc import Iterable, Iterator
from typing import Any

from . import body
from .azure import Refused, invalid_request
from .behaviours import Context

_Json = dict[str, Any]


def parse(given: Any, context: Context) -> list[_Json]:
    """What is given by its id is looked up. Raises Refused."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        expected = "expected one of a string or array of input items"
        message = f"Invalid type for 'input': {expected}, but got {body.name_of(given)} instead."
        raise Refused(invalid_request(message, "input", "invalid_type"))
    return [_item(body.check_type(each, f"input[{n}]", dict), context) for n, each in enumerate(given)]


def check_outputs(items: Iterable[_Json]) -> None:
    """Each function call has its output, and each output its call. Raises Refused."""
    calls, outputs = (
        {str(item.get("call_id")) for item in items if item["type"] == kind}
        for kind in ("function_call", "function_call_output")
    )
    for call in outputs - calls:
        message = f"No tool call found for function call output with call_id {call}."
        raise Refused(invalid_request(message, "input"))
    for call in calls - outputs:
        raise Refused(invalid_request(f"No tool output found for function call {call}.", "input"))


def messages(items: Iterable[_Json]) -> Iterator[_Json]:
    """In the form of chat completions. Reasoning and the items of hosted tools have none."""
    for item in items:
        kind = str(item["type"])
        if kind == "message":
            yield {"role": item.get("role"), "content": _parts(item.get("content"))}
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            yield {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
        elif kind.endswith("_output"):
            yield {"role": "tool", "content": _parts(item.get("output"))}


def _item(item: _Json, context: Context) -> _Json:
    kind = str(item.get("type") or ("message" if "role" in item else "item_reference"))
    sealed, content = item.get("encrypted_content"), item.get("content")
    if kind == "item_reference" or (kind == "reasoning" and not sealed):
        return context.turns.item(str(item.get("id")))
    if sealed:
        context.turns.check_sealed(str(sealed), context.deployment)
    if kind != "message":
        return {**item, "type": kind}
    if isinstance(content, str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        content = [{"type": part, "text": content}]
    return {**item, "type": kind, "status": "completed", "content": content}


def _parts(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part) for part in content if isinstance(part, dict)]


def _part(part: _Json) -> _Json:
    match part.get("type"):
        case "input_image":
            picture = {"url": part.get("image_url"), "detail": part.get("detail")}
            return {"type": "image_url", "image_url": picture}
        case "input_file":
            return {"type": "file", "file": part}
        case _:
            return {"type": "text", "text": part.get("text")}
