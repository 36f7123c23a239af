"""Dates as people write them. What could mean two different moments is refused, never guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from admin.faults import Fault

EXAMPLE = '"2026-12-01 09:00"'
YEARS = range(2000, 2200)

_NUMBERS = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d+)(?!\d)")
_YEAR_FIRST = re.compile(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?!\d)")
_SIGNED_ZONE = re.compile(r"\b(UTC|GMT|[A-Z]{1,4}T)\s*[+-]\s*\d", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        Fault: there is none.
    """
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Fault(f"There is no time zone {name!r}: {_similar(name)}") from error


def moment(text: str, zone: ZoneInfo, *, closing: bool = False) -> datetime:
    """The moment that `text` names, in UTC: in `zone`, unless it says an offset from UTC itself.

    A date alone is its first minute; where it is when something closes, its last.

    Raises:
        Fault: it is no date, not a whole one, or could be two moments.
    """
    text = " ".join(text.split())
    if not text:
        raise Fault(f"A date is empty: write one such as 2026-12-01 or {EXAMPLE}.")
    if text.lower() == "now":
        return datetime.now(UTC).replace(microsecond=0)
    try:
        at, is_day = _iso(text) or _free(text)
        _check_year(text, at)
        if is_day and closing:
            at += timedelta(days=1)
        return (at if at.tzinfo else _placed(text, at, zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Fault(f"{text!r} is not a date: write one such as 2026-12-01 or {EXAMPLE}.") from error


def shown(at: datetime, zone: ZoneInfo) -> str:
    """`Tue 2026-12-01 09:00`, in `zone`; in English wherever it runs."""
    local = at.astimezone(zone)
    return f"{['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][local.weekday()]} {local:%Y-%m-%d %H:%M}"


def _iso(text: str) -> tuple[datetime, bool] | None:
    """The moment, and whether it is a day without a time."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at, ":" not in text and "T" not in text.upper() and len(text) <= len("2026-12-01")


def _free(text: str) -> tuple[datetime, bool]:
    """Likewise, of a date in words or other orders. Raises Fault, or ValueError where it is none."""
    from dateutil import parser

    _check_order(text)
    # What the text leaves open is taken from the default: two of them show what that was.
    one, other = (
        parser.parse(text, default=default, tzinfos=_offset)
        for default in (datetime(2004, 1, 1), datetime(2008, 2, 2, 1))
    )
    if one.date() != other.date():
        raise Fault(f"{text!r} is not a whole date: give day, month and year, such as {EXAMPLE}.")
    return one, one.hour != other.hour


def _check_order(text: str) -> None:
    if first := _YEAR_FIRST.search(text):
        datetime(*(int(part) for part in first.groups()))  # type: ignore[arg-type]
    elif numbers := _NUMBERS.search(text):
        one, other, year = numbers.groups()
        if len(year) == 4 and int(one) <= 12 and int(other) <= 12 and one.lstrip("0") != other.lstrip("0"):
            raise Fault(
                f"{text!r} can be read as {int(one)} {_MONTHS[int(other)]} and as {int(other)} "
                f"{_MONTHS[int(one)]}: write the year first, such as {year}-{one:0>2}-{other:0>2} for "
                f"{int(other)} {_MONTHS[int(one)]}."
            )
    if signed := _SIGNED_ZONE.search(text):
        raise Fault(_UNCLEAR_ZONE.format(signed[0]))
    if not _YEAR.search(text):
        raise Fault(f"{text!r} has no year of four digits: write a date such as {EXAMPLE}.")


_MONTHS = (
    *("", "January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


_UNCLEAR_ZONE = (
    "{!r} is not clear as a time zone: use --time-zone Europe/Berlin, or an offset such as +01:00."
)


def _offset(name: str | None, seconds: int | timedelta | None) -> tzinfo | None:
    """Letters such as CST name several zones: they are not taken, but for UTC."""
    ahead = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds or 0)
    if name is None:
        return None if seconds is None else timezone(ahead)
    if name.upper() in {"UTC", "GMT", "Z"} and not ahead:
        return UTC
    raise Fault(_UNCLEAR_ZONE.format(name))


def _check_year(text: str, at: datetime) -> None:
    if at.year not in YEARS:
        raise Fault(f"{text!r} is in the year {at.year}: write a date such as {EXAMPLE}.")


def _placed(text: str, at: datetime, zone: ZoneInfo) -> datetime:
    placed = at.replace(tzinfo=zone)
    if placed.utcoffset() == placed.replace(fold=1).utcoffset():
        return placed
    if placed.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        raise Fault(f"In {zone.key} the clocks are put forward, and there is no {text}: choose another time.")
    raise Fault(
        f"In {zone.key} the clocks are put back, and {text} comes twice: add the offset, such as +01:00."
    )


def _similar(name: str) -> str:
    """Which one may be meant: the one of that city, or one that is written alike."""
    there, wanted = sorted(available_timezones()), name.strip().lower().replace(" ", "_")
    found = [one for one in there if one.lower() == wanted or one.lower().endswith(f"/{wanted}")]
    found = found or get_close_matches(name, there, 1, 0.75)
    return f"did you mean {found[0]}?" if found else "name one such as Europe/Berlin or UTC."
