"""The checks of a JSON body that all APIs share, with OpenAI's messages. All raise Refused."""

import json
from typing import Any, TypeVar

from .azure import Refused, invalid_request

_T = TypeVar("_T")
_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}


def parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(invalid_request("We could not parse the JSON body of your request.")) from None
    if isinstance(value, dict):
        return value
    raise Refused(invalid_request(f"Invalid body: expected an object, but got {name_of(value)} instead."))


def model(body: dict[str, Any]) -> str:
    name = optional(body, "model", str)
    if not name:
        raise Refused(invalid_request("you must provide a model parameter"))
    return name


def missing(param: str) -> Refused:
    message = f"Missing required parameter: '{param}'."
    return Refused(invalid_request(message, param, "missing_required_parameter"))


def optional(body: dict[str, Any], param: str, kind: type[_T]) -> _T | None:
    value = body.get(param)
    return None if value is None else check_type(value, param, kind)


def check_type(value: Any, param: str, kind: type[_T]) -> _T:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    message = f"Invalid type for '{param}': expected {_NAMES[kind]}, but got {name_of(value)} instead."
    raise Refused(invalid_request(message, param, "invalid_type"))


def positive(body: dict[str, Any], param: str, most: int | None = None, least: int = 1) -> int | None:
    value = optional(body, param, int)
    if value is not None and most is not None and value > most:
        expected = f"integer above maximum value. Expected a value <= {most}"
        raise _out_of_range(param, value, expected, "integer_above_max_value")
    if value is not None and value < least:
        expected = f"integer below minimum value. Expected a value >= {least}"
        raise _out_of_range(param, value, expected, "integer_below_min_value")
    return value


def _out_of_range(param: str, value: int, expected: str, code: str) -> Refused:
    return Refused(invalid_request(f"Invalid '{param}': {expected}, but got {value} instead.", param, code))


def name_of(value: Any) -> str:
    return _NAMES.get(type(value), "null" if value is None else "a decimal")
