"""The values of a row as JSON, with their types.

A text, a truth value, an Int32 and a Double are themselves; the others are objects such as `{"Int64": 5}`.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from azure.data.tables import EdmType, EntityProperty

_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)


def to_json(value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """A value as azure-data-tables returns it, as JSON. A time keeps its microseconds."""
    match value:
        case bool() | str():
            return value
        case EntityProperty():
            return {"Int64": value.value}  # the only one that the library wraps
        case float() if not math.isfinite(value):
            return {"Double": str(value)}
        case int() | float():
            return value
        case datetime():
            plain = datetime.combine(value.date(), value.time(), value.tzinfo or UTC)
            return {"DateTime": plain.astimezone(UTC).isoformat()}
        case UUID():
            return {"Guid": str(value)}
        case bytes():
            return {"Binary": b64encode(value).decode()}
    raise TypeError(f"no table has a value of the type {type(value).__name__}")


def from_json(value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """The reverse of `to_json`. Raises ValueError or TypeError if it is not such a value."""
    match value:
        case bool() | str() | float():
            return value
        case int() if value in _INT32:
            return value
        case {"Int64": int(number), **rest} if not rest and number in _INT64:
            return EntityProperty(number, EdmType.INT64)
        case {"Double": str(text), **rest} if not rest:
            return float(text)
        case {"DateTime": str(text), **rest} if not rest:
            return datetime.fromisoformat(text)
        case {"Guid": str(text), **rest} if not rest:
            return UUID(text)
        case {"Binary": str(text), **rest} if not rest:
            return b64decode(text, validate=True)
    raise ValueError(f"{value!r} is not a value of a row")
