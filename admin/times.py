"""Reads dates in the forms that people write. A date that could mean two moments is an error, never a
guess."""

from __future__ import annotations

import re
from calendar import month_name
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from admin.errors import CommandError
from shared.core import times as shared_times

EXAMPLE = '"2026-12-01 09:00"'
YEARS = range(2000, 2200)

_NUMBERS = re.compile(r"(?<!\d)(\d{1,2})[./-](\d{1,2})[./-](\d+)(?!\d)")
_YEAR_FIRST = re.compile(r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?!\d)")
_DURATION = re.compile(r"(\d{1,5})\s*(m|min|minutes?|h|hours?|d|days?|w|weeks?)(?![a-z])\s*", re.IGNORECASE)
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY_NAME = re.compile(r"(yesterday|today|tomorrow)\b(?:\s+(?:at\s+)?(\S.*))?", re.IGNORECASE)
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_TIME_ONLY = re.compile(r"\d{1,2}(:\d\d(:\d\d)?)?\s*([ap]m)?|noon|midnight", re.IGNORECASE)
_SIGNED_ZONE = re.compile(r"\b(UTC|GMT|[A-Z]{1,4}T)\s*[+-]\s*\d", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
_UNCLEAR_ZONE = "{!r} is not a clear time zone. Use --time-zone Europe/Berlin, or an offset such as +01:00."


def find_zone(name: str) -> ZoneInfo:
    """Raises CommandError if the tz database has no time zone of that name."""
    try:
        return shared_times.find_zone(name.strip())
    except ValueError as error:
        raise CommandError(f"There is no time zone {name!r}. {_suggest_zone(name)}") from error


def parse(text: str, zone: ZoneInfo, *, is_end: bool = False) -> datetime:
    """The moment in UTC. `text` is in `zone`, unless it has an offset of its own.

    A date without a time means the beginning of that day, or with `is_end`, its end. `+1h` counts from
    now, and `tomorrow` is a date.

    Raises:
        CommandError: `text` is not a date, is incomplete, or could mean two moments.
    """
    text = " ".join(text.split())
    if not text:
        raise CommandError(f"A date is empty. Use a date such as 2026-12-01 or {EXAMPLE}.")
    now = datetime.now(UTC).replace(microsecond=0)
    if text.lower() == "now":
        return now
    if text.startswith("+"):
        return now + parse_duration(text[1:])
    text = _with_date(text, now.astimezone(zone).date())
    try:
        at, is_day = _parse_iso(text) or _parse_other(text)
        if at.year not in YEARS:
            raise CommandError(f"{text!r} is in the year {at.year}. Use a date such as {EXAMPLE}.")
        if is_day and is_end:
            at += timedelta(days=1)
        if at.tzinfo:
            return at.astimezone(UTC)
        return shared_times.first_moment(at.date(), zone) if is_day else _in_zone(text, at, zone)
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{text!r} is not a date. Use a date such as 2026-12-01 or {EXAMPLE}.") from error


def parse_duration(text: str) -> timedelta:
    """`90m`, `1h30m` or `2 days`. Raises CommandError for anything else."""
    parts = _DURATION.findall(text.strip())
    length = sum((timedelta(**{_UNITS[unit[0].lower()]: int(number)}) for number, unit in parts), timedelta())
    if not length or _DURATION.sub("", text.strip()):
        raise CommandError(f"{text!r} is not a length of time. Use one such as 30m, 1h30m or 2d.")
    return length


def _with_date(text: str, today: date) -> str:
    """`tomorrow 18:00` with the date in place of the word."""
    if not (found := _DAY_NAME.fullmatch(text)):
        return text
    day = today + timedelta(days=_DAYS[found[1].lower()])
    return f"{day.isoformat()} {found[2] or ''}".strip()


def format_end(at: datetime, zone: ZoneInfo) -> str:
    """As `format_local`, but the midnight at the end of a day is shown as that day."""
    local = at.astimezone(zone)
    last = local.date() - timedelta(days=1)
    if at == shared_times.first_moment(local.date(), zone):
        return f"the end of {last.day} {last:%b %Y}"
    return format_local(at, zone)


def format_period(starts: datetime, ends: datetime, zone: ZoneInfo) -> str:
    """`1 Dec 2026, 09:00 to the end of 3 Dec 2026 Europe/Berlin`."""
    return f"{format_local(starts, zone)} to {format_end(ends, zone)} {zone.key}"


def format_local(at: datetime, zone: ZoneInfo) -> str:
    """`1 Dec 2026, 09:00`, in `zone`."""
    return shared_times.with_date(at.astimezone(zone))


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
    if _TIME_ONLY.fullmatch(text):
        raise CommandError(f'{text!r} has no date. Use one such as "today {text}" or {EXAMPLE}.')
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
        return local.astimezone(UTC)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        raise CommandError(
            f"{text} does not exist in {zone.key}: the clocks go forward. Choose another time."
        )
    raise CommandError(
        f"{text} comes twice in {zone.key}: the clocks go back. Add the offset, such as +01:00."
    )


def _suggest_zone(name: str) -> str:
    """Suggest the zone of that city, or one that is spelled alike."""
    zones, wanted = sorted(shared_times.zone_names()), name.strip().lower().replace(" ", "_")
    found = [zone for zone in zones if zone.lower() == wanted or zone.lower().endswith(f"/{wanted}")]
    found = found or get_close_matches(name, zones, 1, 0.75)
    return f"Did you mean {found[0]}?" if found else "Use a name such as Europe/Berlin or UTC."
