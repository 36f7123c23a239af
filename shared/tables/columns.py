"""Reads single columns of a row. The row may have been edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from azure.data.tables import EdmType, EntityProperty

Row = Mapping[str, Any]

UNREADABLE = (KeyError, ValueError, TypeError, ArithmeticError, OSError)
"""The errors of a row that cannot be read. `ZoneInfo` raises OSError for a name such as "Europe"."""


def int64(value: int) -> EntityProperty:
    """A number as it is stored. Without this, numbers from 2^31 cannot be written."""
    return EntityProperty(value, EdmType.INT64)


def text(row: Row, name: str) -> str:
    """The text in the column; empty if there is none."""
    value = row.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a text")
    return value


def required_text(row: Row, name: str) -> str:
    if not (value := text(row, name)):
        raise ValueError(f"{name} is empty")
    return value


def names(row: Row, name: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(one.strip() for one in text(row, name).split(",") if one.strip())


def time(row: Row, name: str) -> datetime:
    """A time in UTC. A text without an offset counts as UTC."""
    value = row[name]
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is not a time")
    # A plain datetime, not the library's own subclass.
    return datetime.combine(value.date(), value.time(), value.tzinfo or UTC).astimezone(UTC)


def flag(row: Row, name: str) -> bool:
    """True if the column is missing."""
    value = row.get(name, True)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is not true or false")
    return value


def number(row: Row, name: str) -> int:
    """A whole number. 1 if the column is missing."""
    return int(_plain(row.get(name, 1)))


def limit(row: Row, name: str) -> int | None:
    """A whole number from 0, or None if the column is missing or empty."""
    value = _plain(row.get(name))
    if value is None or value == "":
        return None
    if isinstance(value, bool) or int(value) < 0:
        raise ValueError(f"{name} is not a number from 0 up")
    return int(value)


def count(row: Row, name: str) -> int:
    """A whole number from 0. A missing column is an error: read as 0, it would grant a quota twice."""
    value = _plain(row[name])
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is not a whole number from 0 up")
    return value


def price(row: Row, name: str) -> float | None:
    """None if the column is missing or empty."""
    value = _plain(row.get(name))
    return None if value is None or value == "" else float(value)


def _plain(value: Any) -> Any:
    """The library wraps numbers that are stored as Int64."""
    return value.value if isinstance(value, EntityProperty) else value
