"""Decodes a body, and translates the decoder's errors."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from ..core.errors import InvalidJson, InvalidRequest
from .json_problems import problem

_wrong_type = re.compile(r"Expected `([\w |]+?)(?: \| null)?`, got `(\w+)`").match
_out_of_range = re.compile(r"Expected `int` ([<>]=) (\d+)").match
_TYPES = {
    "object": "an object",
    "array": "a list",
    "str": "a string",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
}

T = TypeVar("T")


def decode(
    decoder: msgspec.json.Decoder[T],
    body: bytes,
    encoding: bytes,
    ranges: dict[str, tuple[int, int]],
    member: str = "messages",
) -> T:
    """Decode a body. `encoding` is the request's header `content-encoding`.

    `member` is one that every body needs, for the message about a body that is no object. `ranges` holds the
    lowest and the highest value of members that have both; others are at least 1.

    Raises:
        InvalidJson: the body is not JSON in UTF-8, or is nested too deeply.
        InvalidRequest: it is not an object, or a member has the wrong type or is out of range.
    """
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), ranges) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidJson(f"The body is not valid JSON{problem(body, error, encoding, member)}.") from error


def _invalid(reason: str, ranges: dict[str, tuple[int, int]]) -> InvalidRequest:
    """Translate msgspec's "Expected `int | null`, got `str` - at `$.max_tokens`"."""
    param = reason.partition(" - at `$.")[2].strip("`") or None
    subject = f"'{param}'" if param else "The body"
    if _out_of_range(reason):
        lowest, highest = ranges.get(param or "", (1, 0))
        allowed = f"from {lowest} to {highest}" if highest else "at least 1"
        return InvalidRequest(f"{subject} must be {allowed}.", param=param)
    types = _wrong_type(reason)
    if types is None:
        return InvalidRequest(f"{subject} is out of range.", param=param)
    expected, got = types.groups()
    wanted = " or ".join(_TYPES.get(name, name) for name in expected.split(" | "))
    return InvalidRequest(f"{subject} must be {wanted}, not {_TYPES.get(got, got)}.", param=param)
