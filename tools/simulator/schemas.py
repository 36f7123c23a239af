"""A value that fits a JSON schema, made from the words of a prompt."""

import re
from typing import Any

from .azure import Refused, invalid_request

_Json = dict[str, Any]
_DEEPEST = 12
_FORMATS = {"date": "2026-12-03", "date-time": "2026-12-03T18:00:00Z", "email": "attendee@example.org"}
_NAME = re.compile(r"(?<=\s)[A-Z][\w'-]*(?:\s[A-Z][\w'-]*)*")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_MOST_LETTERS = 60


def example(schema: Any, prompt: str) -> Any:
    """Objects get what is required. A text is the last name in the prompt, a number its first number.

    Raises Refused: the schema is invalid.
    """
    names, numbers = _NAME.findall(prompt), _NUMBER.findall(prompt)
    text = names[-1] if names else " ".join(prompt.split())[:_MOST_LETTERS] or "simulated"
    try:
        return _Writer(schema, text, float(numbers[0]) if numbers else 1.0).value(schema)
    except (AttributeError, TypeError, LookupError, ValueError, OverflowError):
        raise Refused(invalid_request("Invalid schema.", code="invalid_json_schema")) from None


class _Writer:
    def __init__(self, root: Any, text: str, number: float) -> None:
        self._root, self._text, self._number = root, text, number

    def value(self, schema: Any, depth: int = 0) -> Any:
        schema = self._resolved(schema)
        if "const" in schema or schema.get("enum"):
            return schema["const"] if "const" in schema else schema["enum"][0]
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        if kind in ("object", "array") and depth < _DEEPEST:
            return self._object(schema, depth + 1) if kind == "object" else self._array(schema, depth + 1)
        if kind in ("integer", "number"):
            number = min(
                max(self._number, schema.get("minimum", 0)), schema.get("maximum", self._number + 1e9)
            )
            return int(number) if kind == "integer" else number
        if kind == "string":
            text = _FORMATS.get(schema.get("format", ""), self._text)
            return text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
        return True if kind == "boolean" else None

    def _object(self, schema: _Json, depth: int) -> _Json:
        members = schema.get("properties") or {}
        return {name: self.value(members.get(name), depth) for name in schema.get("required") or ()}

    def _array(self, schema: _Json, depth: int) -> list[Any]:
        few = schema.get("minItems", int(depth < _DEEPEST // 2))
        return [self.value(schema.get("items"), depth) for _ in range(few)]

    def _resolved(self, schema: Any) -> Any:
        """Without references and choices; of a choice, the first that is not null."""
        for _ in range(_DEEPEST):
            schema = schema if isinstance(schema, dict) else {}
            if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
                schema = next((each for each in choices if each != {"type": "null"}), {})
            elif "$ref" in schema:
                *_, name = str(schema["$ref"]).split("/")
                definitions = self._root.get("$defs") or self._root.get("definitions") or {}
                schema = self._root if name == "#" else definitions.get(name)
            else:
                return schema
        return {}
