"""Dates as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from admin.faults import Fault


def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        Fault: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Fault(f"There is no time zone {name!r}: name one such as Europe/Berlin or UTC.") from error


def moment(text: str, zone: ZoneInfo) -> datetime:
    """`2026-12-01 09:00` in `zone`, or with an offset of its own; `2026-12-01` is its first minute; in UTC.

    Raises:
        Fault: it is no date.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Fault(f'{text!r} is not a date: write one such as 2026-12-01 or "2026-12-01 09:00".') from error
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
