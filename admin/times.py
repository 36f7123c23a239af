"""Reads dates in the forms that people write. A date that could mean two moments is an error, never a
guess."""

from __future__ import annotations

import re
from calendar import month_name
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from admin.errors import CommandError

EXAMPLE = '"2026-12-01 09:00"'
YEARS = range(2000, 2200)

_NUMBERS = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d+)(?!\d)")
_YEAR_FIRST = re.compile(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?!\d)")
_SIGNED_ZONE = re.compile(r"\b(UTC|GMT|[A-Z]{1,4}T)\s*[+-]\s*\d", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
_UNCLEAR_ZONE = "{!r} is not a clear time zone. Use --time-zone Europe/Berlin, or an offset such as +01:00."


def find_zone(name: str) -> ZoneInfo:
    """Raises CommandError if there is no IANA time zone of that name."""
    try:
        return ZoneInfo(name.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CommandError(f"There is no time zone {name!r}. {_suggest_zone(name)}") from error


def parse(text: str, zone: ZoneInfo, *, is_end: bool = False) -> datetime:
    """The moment in UTC. `text` is in `zone`, unless it has an offset of its own.

    A date without a time means the beginning of that day, or with `is_end`, its end.

    Raises:
        CommandError: `text` is not a date, is incomplete, or could mean two moments.
    """
    text = " ".join(text.split())
    if not text:
        raise CommandError(f"A date is empty. Use a date such as 2026-12-01 or {EXAMPLE}.")
    if text.lower() == "now":
        return datetime.now(UTC).replace(microsecond=0)
    try:
        at, is_day = _parse_iso(text) or _parse_other(text)
        if at.year not in YEARS:
            raise CommandError(f"{text!r} is in the year {at.year}. Use a date such as {EXAMPLE}.")
        if is_day and is_end:
            at += timedelta(days=1)
        return (at if at.tzinfo else _in_zone(text, at, zone)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text!r} is not a date. Use a date such as 2026-12-01 or {EXAMPLE}.") from error


def format_local(at: datetime, zone: ZoneInfo) -> str:
    """`Tue 2026-12-01 09:00`, in `zone`; in English on every machine."""
    local = at.astimezone(zone)
    return f"{['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'][local.weekday()]} {local:%Y-%m-%d %H:%M}"


def _parse_iso(text: str) -> tuple[datetime, bool] | None:
    """The moment, and whether it is a date without a time."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at, ":" not in text and "T" not in text.upper() and len(text) <= len("2026-12-01")


def _parse_other(text: str) -> tuple[datetime, bool]:
    """As `_parse_iso`, for a date in words or in another order."""
    from dateutil import parser

    _check_order(text)
    # The parser fills gaps from the default: two defaults show where the gaps are.
    at, other = (
        parser.parse(text, default=default, tzinfos=_offset)
        for default in (datetime(2004, 1, 1), datetime(2008, 2, 2, 1))
    )
    if at.date() != other.date():
        raise CommandError(f"{text!r} is incomplete. Give day, month and year, such as {EXAMPLE}.")
    return at, at.hour != other.hour


def _check_order(text: str) -> None:
    if year_first := _YEAR_FIRST.search(text):
        datetime(*(int(part) for part in year_first.groups()))  # type: ignore[arg-type]
    elif (numbers := _NUMBERS.search(text)) and len(numbers[3]) == 4:
        first, second = int(numbers[1]), int(numbers[2])
        if max(first, second) <= 12 and first != second:
            date = f"{second} {month_name[first]}"
            raise CommandError(
                f"{text!r} could be {first} {month_name[second]} or {date}. "
                f"Write the year first: {numbers[3]}-{first:02}-{second:02} is {date}."
            )
    if signed := _SIGNED_ZONE.search(text):
        raise CommandError(_UNCLEAR_ZONE.format(signed[0]))
    if not _YEAR.search(text):
        raise CommandError(f"{text!r} has no year of four digits. Use a date such as {EXAMPLE}.")


def _offset(name: str | None, seconds: int | timedelta | None) -> tzinfo | None:
    """The offset of a zone in the text. Names such as CST have several meanings, so only UTC is accepted."""
    ahead = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds or 0)
    if name is None:
        return None if seconds is None else timezone(ahead)
    if name.upper() in {"UTC", "GMT", "Z"} and not ahead:
        return UTC
    raise CommandError(_UNCLEAR_ZONE.format(name))


def _in_zone(text: str, at: datetime, zone: ZoneInfo) -> datetime:
    local = at.replace(tzinfo=zone)
    if local.utcoffset() == local.replace(fold=1).utcoffset():
        return local
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        raise CommandError(
            f"{text} does not exist in {zone.key}: the clocks go forward. Choose another time."
        )
    raise CommandError(
        f"{text} comes twice in {zone.key}: the clocks go back. Add the offset, such as +01:00."
    )


def _suggest_zone(name: str) -> str:
    """Suggest the zone of that city, or one that is spelled alike."""
    zones, wanted = sorted(available_timezones()), name.strip().lower().replace(" ", "_")
    found = [zone for zone in zones if zone.lower() == wanted or zone.lower().endswith(f"/{wanted}")]
    found = found or get_close_matches(name, zones, 1, 0.75)
    return f"Did you mean {found[0]}?" if found else "Use a name such as Europe/Berlin or UTC."
