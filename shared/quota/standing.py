"""Where an attendee stands with the event's limits, and how that is told: headers, figures, refusals."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from math import ceil
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct

from ..core.errors import EventQuotaExceeded, QuotaExceeded, RequestQuotaExceeded, TokenQuotaExceeded
from ..core.models import Event
from .amounts import ENDLESS, NOTHING, Amount
from .ledger import Account

LEAST_OUTPUT_TOKENS: Final = 16
"""An answer shorter than this is of no use, so a quota that leaves less is used up."""
LEAST_CALL: Final = Amount(1, 2 * LEAST_OUTPUT_TOKENS)
"""A few words asked, and a few answered."""
RUNNING_RETRY_SECONDS: Final = 2
TOTAL_ROW: Final = ":total"
"""Of the whole event; no user's row, for a user's name is never empty."""

_NO_LIMIT: Final = Amount(ENDLESS, ENDLESS)


class Day(NamedTuple):
    """A quota day: from midnight to midnight in the event's time zone, 23 to 25 hours long."""

    name: str
    begins_at: datetime
    ends_at: datetime


def day_of(now: datetime, zone: ZoneInfo) -> Day:
    """The quota day of that moment."""
    date = now.astimezone(zone).date()
    ends = datetime.combine(date + timedelta(days=1), time(), zone).astimezone(UTC)
    return Day(date.isoformat(), datetime.combine(date, time(), zone).astimezone(UTC), ends)


class Standing(Struct, frozen=True):
    """What an event's limits leave to one attendee, as this instance knows it at the moment of asking."""

    event: Event
    user: Account | None
    total: Account | None
    day: Day

    @property
    def remaining(self) -> Amount:
        """What the whole event has left bounds what a user has."""
        remaining = self.user.remaining if self.user else _NO_LIMIT
        return remaining.at_most(self.total.remaining) if self.total else remaining

    def headers(self, now: datetime) -> dict[bytes, bytes]:
        """In the names that the OpenAI SDKs know; resets in whole seconds."""
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
        """For people and programs that ask: None where the event sets no limit."""
        used, remaining = self.user.used if self.user else NOTHING, self.remaining
        return {
            "requests": _unit(self.event.requests_per_day, used.requests, remaining.requests),
            "tokens": _unit(self.event.tokens_per_day, used.tokens, remaining.tokens),
            "resets_at": self.day.ends_at,
            "total_is_used": self._total_is_used,
        }

    @property
    def _total_is_used(self) -> bool:
        """Whether ended calls have used the whole event's total: then only the organiser helps."""
        return self.total is not None and not self.total.limit.minus(self.total.charged).covers(LEAST_CALL)


def _unit(limit: int | None, used: int, remaining: int) -> dict[str, int] | None:
    return None if limit is None else {"limit": limit, "used": used, "remaining": remaining}


def refusal(
    account: Account, least: Amount, choices: int, event: Event, day: Day, now: datetime
) -> QuotaExceeded:
    """Why `account` does not have the `least` that a call of so many choices needs, and what to do next."""
    is_total = account.key.row == TOTAL_ROW
    if account.remaining.requests >= 1:
        kind = EventQuotaExceeded if is_total else TokenQuotaExceeded
        if least.tokens > account.limit.tokens and account.remaining.covers(LEAST_CALL):
            has = "the whole event has" if is_total else "you have a day"
            limit = f"more than the {account.limit.tokens:,} that {has}"
            less = "Send less, or ask for fewer answers (n)." if choices > 1 else "Send less."
            return kind(f"This call may cost {least.tokens:,} tokens, {limit}. {less}")
        if account.remaining.plus(account.held).tokens >= least.tokens:
            text = _TOTAL_IS_HELD if is_total else _DAY_IS_HELD
            return kind(f"{text} Try again when they have ended.", RUNNING_RETRY_SECONDS, running=True)
    if is_total:
        organizer = f" ({event.organizer})" if event.organizer else ""
        text = f"The event '{event.code}' has used all that it may. Ask your organiser{organizer}."
        return EventQuotaExceeded(text)
    return _used_up(account, event, day, now)


_TOTAL_IS_HELD: Final = "Calls still running hold the rest of the event's tokens."
_DAY_IS_HELD: Final = "Your calls that are still running hold the rest of your tokens."


def _used_up(account: Account, event: Event, day: Day, now: datetime) -> QuotaExceeded:
    """Of a user's day: it is renewed, but where no day has enough for any call."""
    wait = max(1.0, (day.ends_at - now).total_seconds())
    renewed = f"They are renewed at {_reset(event, day)}."
    requests, tokens = account.remaining
    if requests < 1:
        text = f"Your {event.requests_per_day:,} requests of the day are used."
        return RequestQuotaExceeded(f"{text} {renewed}", wait)
    if not account.limit.covers(LEAST_CALL):
        few = f"You have {event.tokens_per_day:,} tokens a day: too few for any call"
        return TokenQuotaExceeded(f"{few}. Ask your organiser.")
    left = f"{tokens:,} of your {event.tokens_per_day:,} tokens of the day are left"
    return TokenQuotaExceeded(f"{left}: too few for this call. {renewed}", wait)


def _reset(event: Event, day: Day) -> str:
    utc = f"{day.ends_at:%Y-%m-%d %H:%M} UTC"
    if event.time_zone.key == "UTC":
        return utc
    return f"{day.ends_at.astimezone(event.time_zone):%Y-%m-%d %H:%M} {event.time_zone.key} ({utc})"
