"""Everything that is known about the attendees of an event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from shared.core.counts import UsageRow
from shared.core.models import BLOCKED, OWN_LIMITS, Event
from shared.desk.sums import has_right_key
from shared.events.admission import with_own_limits
from shared.quota.amounts import NOTHING, Amount
from shared.quota.standing import day_of

if TYPE_CHECKING:
    from admin.tables import Tables
    from shared.tables.attendees import AttendeeRow

OFTEN = 20
"""Refused requests within the last two hours, from which an attendee counts as refused again and again."""
_RECENT = timedelta(hours=2)


class Line(NamedTuple):
    """One attendee."""

    user: str
    source: str
    """`roster`, `claim`, or empty: the name only appears in calls or exceptions."""
    team: str
    note: str
    added_at: datetime | None
    requests: int
    """Of all days, as for the other sums."""
    tokens: int
    refusals: int
    recent_refusals: int
    last_hour: datetime | None
    """The hour of the last request, or None if the attendee has not started."""
    today: Amount
    limits: tuple[int | None, int | None, int | None]
    """Requests, tokens and cost per day, as they hold for this attendee. None: no limit."""
    blocked: bool
    has_own_limits: bool

    @property
    def is_refused_often(self) -> bool:
        return self.recent_refusals >= OFTEN

    @property
    def left(self) -> tuple[int | None, int | None, int | None]:
        """What is left today of each of `limits`."""
        requests, tokens, cost = self.limits
        used = self.today
        return _left(requests, used.requests), _left(tokens, used.tokens), _left(cost, used.cost)


def _left(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)


class _Sums(NamedTuple):
    requests: int = 0
    tokens: int = 0
    refusals: int = 0
    recent_refusals: int = 0
    last_hour: datetime | None = None

    def plus(self, row: UsageRow, recent: datetime) -> _Sums:
        counts = row.counts
        return _Sums(
            self.requests + counts.requests,
            self.tokens + counts.prompt_tokens + counts.completion_tokens,
            self.refusals + counts.refusals,
            self.recent_refusals + (counts.refusals if row.hour >= recent else 0),
            max(self.last_hour or row.hour, row.hour) if has_right_key(row) else self.last_hour,
        )


async def read_people(tables: Tables, event: Event, now: datetime) -> tuple[list[Line], list[str]]:
    """A line for each name that is taken, has called, or has an exception; and what cannot be read."""
    taken = await tables.attendees.list(event.ledger_code)
    usage, problems = await tables.read_usage(event.ledger_code)
    today = await tables.used_on(event.ledger_code, day_of(now, event.time_zone).name)
    return lines(event, taken, usage, today, now), problems


def lines(
    event: Event,
    taken: Iterable[AttendeeRow],
    usage: Iterable[UsageRow],
    today: dict[str, Amount],
    now: datetime,
) -> list[Line]:
    """By name. Those without a name of their own ("other users") are left out."""
    rows, sums = {one.user: one for one in taken}, defaultdict[str, _Sums](_Sums)
    for row in usage:
        sums[row.user] = sums[row.user].plus(row, now - _RECENT)
    users = sorted({*rows, *sums, *today, *event.exceptions} - {""})
    return [
        _line(event, user, rows.get(user), sums.get(user, _Sums()), today.get(user, NOTHING))
        for user in users
    ]


def _line(event: Event, user: str, row: AttendeeRow | None, sums: _Sums, today: Amount) -> Line:
    own, mine = event.exceptions.get(user, {}), with_own_limits(event, user)
    return Line(
        user,
        row.source if row else "",
        row.team if row else "",
        row.note if row else "",
        row.added_at if row else None,
        sums.requests,
        sums.tokens,
        sums.refusals,
        sums.recent_refusals,
        sums.last_hour,
        today,
        (mine.requests_per_day, mine.tokens_per_day, mine.cost_per_day),
        bool(own.get(BLOCKED)),
        any(name in own for name in OWN_LIMITS),
    )
