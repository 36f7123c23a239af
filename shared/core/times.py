"""Time zones, the beginning of a day, and how a message gives a time."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)


@cache
def zone_names() -> frozenset[str]:
    """The names in the tz database. Some machines know more, such as `localtime` or `posix/UTC`."""
    names = files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(names) - {"Factory"}


def find_zone(name: str) -> ZoneInfo:
    """Raises ValueError if the tz database has no zone of that name."""
    if name not in zone_names():
        raise ValueError(f"{name!r} is not a time zone")
    return ZoneInfo(name)


def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """When the day begins in `zone`, in UTC: at midnight, or when the clocks skip midnight.

    If midnight comes twice, it is the first one. A day that the zone skips begins with the next day.
    """
    midnight = datetime.combine(day, time())
    at = midnight.replace(tzinfo=zone).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == midnight:
        return at
    # The clocks skip midnight: find the second at which they do.
    before = at - _DAY
    seconds = range(int(_DAY.total_seconds()))
    passed = bisect_left(
        seconds, True, key=lambda second: (before + timedelta(seconds=second)).astimezone(zone).date() >= day
    )
    return before + timedelta(seconds=passed)


def local_and_utc(at: datetime, zone: ZoneInfo) -> str:
    """The time in `zone`, then in UTC: `29 Mar 2026, 14:00 Europe/Berlin (12:00 UTC)`."""
    local, utc = at.astimezone(zone), at.astimezone(UTC)
    if zone.key == "UTC":
        return f"{with_date(utc)} UTC"
    in_utc = f"{utc:%H:%M}" if utc.date() == local.date() else with_date(utc)
    return f"{with_date(local)} {zone.key} ({in_utc} UTC)"


def with_date(at: datetime) -> str:
    """`29 Mar 2026, 14:00`: how people read a time, everywhere."""
    return f"{at.day} {at:%b %Y, %H:%M}"
