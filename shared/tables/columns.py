"""Reads single columns of a row. The row may have been edited by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from azure.data.tables import EdmType, EntityProperty

from ..core.models import DEFAULT_CURRENCY, LongPrices
from ..core.money import HIGHEST_PRICE, STEP, is_currency

_log = logging.getLogger(__name__)

LARGEST = 2**62
"""The largest number in a row. The sum of two still fits into 64 bits."""

Row = Mapping[str, Any]
Reader = Callable[[Row, str], Any]
"""Reads a column. Raises one of `UNREADABLE` if it cannot."""

HIGHEST_NUMBER = 2**31 - 1

UNREADABLE = (KeyError, ValueError, TypeError, ArithmeticError, RecursionError)
"""The errors of a row that cannot be read."""


def int64(value: int) -> EntityProperty:
    """A number as it is stored. Without this, numbers from 2^31 cannot be written.

    A number beyond `LARGEST` becomes `LARGEST`, which is logged. Otherwise the row could never be written.
    """
    bounded = max(-LARGEST, min(value, LARGEST))
    if bounded != value:
        _log.error(
            "a number of %d bits does not fit into a table: 2^62 is written instead", value.bit_length()
        )
    return EntityProperty(bounded, EdmType.INT64)


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
    """A time in UTC. A text without an offset counts as UTC. It must be a time in every zone."""
    value = row[name]
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is not a time")
    # A plain datetime, not the library's own subclass.
    value = datetime.combine(value.date(), value.time(), value.tzinfo or UTC).astimezone(UTC)
    if not MINYEAR < value.year < MAXYEAR:
        raise ValueError(f"{name} is in the year {value.year}")
    return value


def flag(row: Row, name: str) -> bool:
    """True if the column is missing."""
    value = row.get(name, True)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is not true or false")
    return value


def number(row: Row, name: str) -> int:
    """A whole number. 1 if the column is missing. A huge one would fail when it becomes a float."""
    return _whole(plain(row.get(name, 1)), name, HIGHEST_NUMBER)


def limit(row: Row, name: str) -> int | None:
    """A whole number from 0, or None if the column is missing or empty."""
    value = plain(row.get(name))
    if value is None or value == "":
        return None
    if (found := _whole(value, name, LARGEST)) < 0:
        raise ValueError(f"{name} is not a number from 0 up")
    return found


def _whole(value: Any, name: str, largest: int) -> int:
    """Raises an error for a fraction: a limit of 0.5 must not become 0."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise TypeError(f"{name} is not a number")
    whole = int(value)
    if (isinstance(value, float) and whole != value) or abs(whole) > largest:
        raise ValueError(f"{name} is not a whole number, or too large")
    return whole


def count(row: Row, name: str) -> int:
    """A whole number from 0. A missing column is an error: read as 0, it would grant a quota twice."""
    value = plain(row[name])
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is not a whole number from 0 up")
    return value


def new_count(row: Row, name: str) -> int:
    """A whole number from 0. 0 if the column is missing: earlier versions did not write it."""
    return count(row, name) if name in row else 0


def price(row: Row, name: str) -> Decimal | None:
    """A number from 0 to `HIGHEST_PRICE`, rounded up to 6 decimals. None if the column is missing or empty.

    An earlier version wrote floats: the shortest decimal of a float is the number that an administrator gave.
    """
    value = plain(row.get(name))
    if value is None or value == "":
        return None
    exact = Decimal(str(value))
    if isinstance(value, bool) or not 0 <= exact <= HIGHEST_PRICE:
        raise ValueError(f"{name} is not a number from 0 to {HIGHEST_PRICE:,}")
    return exact.quantize(STEP, ROUND_CEILING).normalize()


def long_prices(row: Row, name: str) -> LongPrices | None:
    """Prices as `LongPrices` writes them: `272000:5/0.5/22.5`. None if the column is missing or empty."""
    value = text(row, name)
    if not value:
        return None
    above, _, rest = value.partition(":")
    prices = [price({name: one}, name) for one in rest.split("/")]
    prompt, cached, completion = prices
    if prompt is None or cached is None or completion is None or int(above) < 1:
        raise ValueError(f"{name} is not TOKENS:PROMPT/CACHED/COMPLETION")
    return LongPrices(int(above), prompt, cached, completion)


def currency(row: Row, name: str) -> str:
    """A code such as USD."""
    value = text(row, name) or DEFAULT_CURRENCY
    if not is_currency(value):
        raise ValueError(f"{name} is not a code of three letters, such as {DEFAULT_CURRENCY}")
    return value


def plain(value: Any) -> Any:
    """The library wraps numbers that are stored as Int64."""
    return value.value if isinstance(value, EntityProperty) else value
