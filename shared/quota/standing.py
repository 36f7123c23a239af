"""What an event's limits leave to an attendee, as headers and as figures."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from math import ceil
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from ..core.models import Event
from .account import Account
from .amounts import NO_LIMIT, NOTHING, Amount

LEAST_OUTPUT_TOKENS = 16
"""A shorter answer is useless, so a quota that leaves less counts as used up."""
LEAST_CALL = Amount(1, 2 * LEAST_OUTPUT_TOKENS)
"""A prompt of a few words, and an answer of a few words."""
TOTAL_ROW = ":total"
"""The row of the whole event. A user's row cannot have this key, because a user's name is never empty."""


class Day(NamedTuple):
    """A quota day: from midnight to midnight in the event's time zone, 23 to 25 hours long."""

    name: str
    begins_at: datetime
    ends_at: datetime


def day_of(now: datetime, zone: ZoneInfo) -> Day:
    date = now.astimezone(zone).date()
    ends = datetime.combine(date + timedelta(days=1), time(), zone).astimezone(UTC)
    return Day(date.isoformat(), datetime.combine(date, time(), zone).astimezone(UTC), ends)


class Standing(Struct, frozen=True):
    """What an event's limits leave to one attendee. Its figures change with each call of the attendee."""

    event: Event
    user: Account | None
    total: Account | None
    day: Day

    @property
    def remaining(self) -> Amount:
        """A user never has more left than the whole event."""
        remaining = self.user.remaining if self.user else NO_LIMIT
        return remaining.at_most(self.total.remaining) if self.total else remaining

    def headers(self, now: datetime) -> dict[bytes, bytes]:
        """The names are those that the OpenAI SDKs know. Resets are in whole seconds."""
        requests, tokens = self.remaining
        reset = b"%d" % max(0, ceil((self.day.ends_at - now).total_seconds()))
        headers: dict[bytes, bytes] = {}
        if (limit := self.event.requests_per_day) is not None:
            headers[b"x-ratelimit-limit-requests"] = b"%d" % limit
            headers[b"x-ratelimit-remaining-requests"] = b"%d" % requests
            headers[b"x-ratelimit-reset-requests"] = reset
        if (limit := self.event.tokens_per_day) is not None:
            headers[b"x-ratelimit-limit-tokens"] = b"%d" % limit
            headers[b"x-ratelimit-remaining-tokens"] = b"%d" % tokens
            headers[b"x-ratelimit-reset-tokens"] = reset
        return headers

    def figures(self) -> dict[str, Any]:
        """For `GET /v1/event`. A member is None if the event sets no such limit."""
        used, remaining = self.user.used if self.user else NOTHING, self.remaining
        return {
            "requests": _unit(self.event.requests_per_day, used.requests, remaining.requests),
            "tokens": _unit(self.event.tokens_per_day, used.tokens, remaining.tokens),
            "resets_at": self.day.ends_at,
            "total_is_used": self._total_is_used,
        }

    @property
    def _total_is_used(self) -> bool:
        """Whether ended calls have used up the whole event's total: then only the organiser can help."""
        return self.total is not None and not self.total.limit.minus(self.total.charged).covers(LEAST_CALL)


def _unit(limit: int | None, used: int, remaining: int) -> dict[str, int] | None:
    return None if limit is None else {"limit": limit, "used": used, "remaining": remaining}
