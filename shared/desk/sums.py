"""Sums of usage rows: what the desk shows is computed from these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ..core.counts import Counts, Minute, UsageRow
from ..core.errors import InvalidEventToken

RECENT_MINUTES = 10
"""The rate, and who is refused again and again, are of this time."""
ACTIVE_MINUTES = 5
SHOWN_MINUTES = 6 * 60
"""The chart goes back this far."""

NO_COUNTS, NO_MINUTE = Counts(), Minute()
_REFUSALS, _ERRORS = Minute._fields.index("refusals"), Minute._fields.index("errors")


def minute_of(at: datetime) -> int:
    """The minutes since 1970: how a minute is named here."""
    return int(at.timestamp()) // 60


@dataclass(slots=True)
class AttendeeSums:
    """The sums of one user."""

    total: Counts = NO_COUNTS
    recent: Minute = NO_MINUTE
    """What began in the last `RECENT_MINUTES`."""
    is_in: bool = False
    """Whether a call had the right key."""
    is_active: bool = False
    """Whether a call began in the last `ACTIVE_MINUTES`."""
    refused_for: str = ""
    """The code of a recent refusal or error."""


@dataclass(slots=True)
class Sums:
    """The sums of one event at one moment."""

    now: int
    """The minute."""
    total: Counts = NO_COUNTS
    models: dict[str, Counts] = field(default_factory=dict)
    attendees: dict[str, AttendeeSums] = field(default_factory=dict)
    minutes: dict[int, Minute] = field(default_factory=dict)

    def copy(self, now: int) -> Sums:
        """To add to, some time later. Of sums in which nothing is recent."""
        attendees = {name: AttendeeSums(one.total, is_in=one.is_in) for name, one in self.attendees.items()}
        minutes = {at: counts for at, counts in self.minutes.items() if at > now - SHOWN_MINUTES}
        return Sums(now, self.total, dict(self.models), attendees, minutes)

    def add(self, row: UsageRow) -> None:
        self.total = self.total.plus(row.counts)
        self.models[row.model] = self.models.get(row.model, Counts()).plus(row.counts)
        attendee = self.attendees.setdefault(row.user, AttendeeSums())
        attendee.total = attendee.total.plus(row.counts)
        is_in = has_right_key(row)
        attendee.is_in |= is_in
        hour, recent = minute_of(row.hour), []
        for minute, counts in row.minutes.items():
            at = hour + minute
            if at > self.now - SHOWN_MINUTES:
                known = self.minutes.get(at)
                self.minutes[at] = counts if known is None else plus((known, counts))
            if at > self.now - RECENT_MINUTES:
                recent.append(counts)
                attendee.is_active |= is_in and at > self.now - ACTIVE_MINUTES
        if recent:
            attendee.recent = plus((attendee.recent, *recent))
            if any(counts[_REFUSALS] or counts[_ERRORS] for counts in recent):
                attendee.refused_for = row.refused_for


def has_right_key(row: UsageRow) -> bool:
    """Whether the user of the row had the right key. Anyone can send a wrong pass with a name."""
    return bool(row.counts.requests) or row.refused_for != InvalidEventToken.code


def plus(several: Iterable[Minute]) -> Minute:
    return Minute(*map(sum, zip(*several, strict=True)))
