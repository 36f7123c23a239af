"""Hosted tools: each that a request names runs once and leaves its item in the output."""

from collections.abc import Callable
from typing import Any

from . import png

_Json = dict[str, Any]
_NOT_HOSTED = ("function", "custom", "namespace")
INPUT_TOKENS, OUTPUT_TOKENS = 500, 20
"""What one run costs."""


def items(fields: _Json, prompt: str, new_id: Callable[[str], str]) -> list[_Json]:
    if fields.get("tool_choice") == "none":
        return []
    kinds = dict.fromkeys(
        str(tool.get("type")) for tool in fields.get("tools") or () if isinstance(tool, dict)
    )
    return [_item(kind, prompt, new_id) for kind in kinds if kind not in _NOT_HOSTED]


def _item(tool: str, prompt: str, new_id: Callable[[str], str]) -> _Json:
    kind, prefix, results = _result(tool, prompt)
    return {"id": new_id(prefix), "type": f"{kind}_call", "status": "completed", **results}


def _result(tool: str, prompt: str) -> tuple[str, str, _Json]:
    """The kind of the item, the beginning of its id, and its members."""
    if tool.startswith("web_search"):
        return "web_search", "ws", {"action": {"type": "search", "query": prompt}}
    if tool == "code_interpreter":
        return tool, "ci", {"code": "print('simulated')", "container_id": "cntr_simulated", "outputs": []}
    if tool == "image_generation":
        return tool, "ig", {"result": png.base64_picture(prompt, 64, 64)}
    if tool == "file_search":
        return tool, "fs", {"queries": [prompt], "results": None}
    return tool, tool.split("_", maxsplit=1)[0], {}
