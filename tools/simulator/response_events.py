"""The stream of a response, in the order of Azure's events: opened, each item piece by piece, closed."""

from collections.abc import Iterator
from typing import Any

from . import azure
from .journal import Usage
from .model import Written
from .wire import Chunk

_Json = dict[str, Any]
_PADDED_TO = 16
_NOISE = "FLULWfR50RQt9xeA"


def stream(opening: _Json, response: _Json, written: Written, usage: Usage | None) -> Iterator[Chunk]:
    for number, (event, tokens) in enumerate(_events(opening, response, written)):
        data = azure.typed_event({**event, "sequence_number": number})
        yield Chunk(data, tokens, usage if event.get("response") is response else None)


def text_part(text: str) -> _Json:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _events(opening: _Json, response: _Json, written: Written) -> Iterator[tuple[_Json, int]]:
    """Events without their numbers, and the tokens in each."""
    for kind in ("created", "in_progress"):
        yield {"type": f"response.{kind}", "response": opening}, 0
    for index, item in enumerate(response["output"]):
        for event, tokens in _item_events(item, written):
            yield {**event, "output_index": index}, tokens
    yield {"type": f"response.{response['status']}", "response": response}, 0


def _item_events(item: _Json, written: Written) -> Iterator[tuple[_Json, int]]:
    empties: _Json = {"message": {"content": []}, "function_call": {"arguments": ""}}
    empty = empties.get(item["type"], {})
    status = {"status": "in_progress"} if "status" in item else {}
    yield {"type": "response.output_item.added", "item": {**item, **status, **empty}}, 0
    if item["type"] == "message":
        yield from _text_events(item, written)
    elif item["type"] == "function_call":
        where = {"item_id": item["id"]}
        yield from _deltas("response.function_call_arguments", where, written)
        yield {"type": "response.function_call_arguments.done", **where, "arguments": written.text}, 0
    elif item["type"].endswith("_call"):
        for step in ("in_progress", "completed"):
            yield {"type": f"response.{item['type']}.{step}", "item_id": item["id"]}, 0
    yield {"type": "response.output_item.done", "item": item}, 0


def _text_events(item: _Json, written: Written) -> Iterator[tuple[_Json, int]]:
    where = {"item_id": item["id"], "content_index": 0}
    logprobs: _Json = {"logprobs": []}
    yield {"type": "response.content_part.added", **where, "part": text_part("")}, 0
    yield from _deltas("response.output_text", {**where, **logprobs}, written)
    yield {"type": "response.output_text.done", **where, **logprobs, "text": written.text}, 0
    yield {"type": "response.content_part.done", **where, "part": text_part(written.text)}, 0


def _deltas(kind: str, where: _Json, written: Written) -> Iterator[tuple[_Json, int]]:
    for piece, tokens in written.shown():
        padding = _NOISE[len(piece) % _PADDED_TO :]
        yield {"type": f"{kind}.delta", **where, "delta": piece, "obfuscation": padding}, tokens
