"""How a message gives a time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def local_and_utc(at: datetime, zone: ZoneInfo) -> str:
    """The time in `zone`, then in UTC: `29 Mar 2026, 14:00 Europe/Berlin (12:00 UTC)`."""
    local, utc = at.astimezone(zone), at.astimezone(UTC)
    if zone.key == "UTC":
        return f"{_with_date(utc)} UTC"
    in_utc = f"{utc:%H:%M}" if utc.date() == local.date() else _with_date(utc)
    return f"{_with_date(local)} {zone.key} ({in_utc} UTC)"


def _with_date(time: datetime) -> str:
    return f"{time.day} {time:%b %Y, %H:%M}"
