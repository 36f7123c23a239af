"""What an event's limits leave to an attendee, as headers and as figures."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Raw, Struct

from ..core.models import Event
from ..core.money import Prices, amount_text
from ..core.times import first_moment
from .amounts import NO_LIMIT, NOTHING, Amount
from .exchange import Exchange

LEAST_OUTPUT_TOKENS = 16
"""A shorter answer is useless, so a quota that leaves less counts as used up. The Responses API
refuses less, too."""
LEAST_CALL = Amount(1, 2 * LEAST_OUTPUT_TOKENS, 1)
"""A prompt of a few words, and an answer of a few words, of a model that costs next to nothing."""
TOTAL_ROW = ":total"
"""The row of the whole event. A user's row cannot have this key, because a user's name is never empty."""


def least_call(prices: Iterable[Prices | None]) -> Amount:
    """What the shortest call costs at the lowest of these prices. Those that are None are not known."""
    prompt, completion = LEAST_CALL.tokens - LEAST_OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS
    costs = [one.most_cost(prompt, completion) for one in prices if one is not None]
    return LEAST_CALL.at_least(Amount(cost=min(costs, default=0)))


class Day(Struct, frozen=True):
    """A quota day: from midnight to midnight in the event's time zone, 23 to 25 hours long."""

    name: str
    begins_at: datetime
    ends_at: datetime
    resets_at: float
    """Its end, in Unix time."""


def day_of(now: datetime, zone: ZoneInfo) -> Day:
    date = now.astimezone(zone).date()
    ends_at = first_moment(date + timedelta(days=1), zone)
    return Day(date.isoformat(), first_moment(date, zone), ends_at, ends_at.timestamp())


class Standing(Struct, frozen=True):
    """What an event's limits leave to one attendee. Its figures change with each call of the attendee."""

    event: Event
    day: Day
    user: Exchange | None
    total: Exchange | None
    total_limit: Amount
    limit_headers: dict[bytes, bytes]
    """The headers that are the same for every call."""

    def is_of(self, event: Event, now: datetime) -> bool:
        """Whether it is still true for a call of this event that arrives now."""
        return self.event is event and self.day.begins_at <= now < self.day.ends_at

    @property
    def remaining(self) -> Amount:
        """A user never has more left than the whole event."""
        remaining = self.user.account.remaining if self.user else NO_LIMIT
        return remaining.at_most(self.total.account.remaining) if self.total else remaining

    def headers(self, now: float) -> dict[bytes, bytes]:
        """The names are those that the OpenAI SDKs know. Resets are in whole seconds. `now` is the Unix time.

        Money is in the event's currency. The event's own money is not for attendees.
        """
        event, headers = self.event, self.limit_headers.copy()
        if self.user is None:
            return headers
        user, total = self.user.account, self.total.account if self.total else None
        reset = b"%d" % max(0, ceil(self.day.resets_at - now))
        if event.requests_per_day is not None:
            requests = user.requests_left if total is None else min(user.requests_left, total.requests_left)
            headers[b"x-ratelimit-remaining-requests"] = b"%d" % requests
            headers[b"x-ratelimit-reset-requests"] = reset
        if event.tokens_per_day is not None:
            tokens = user.tokens_left if total is None else min(user.tokens_left, total.tokens_left)
            headers[b"x-ratelimit-remaining-tokens"] = b"%d" % tokens
            headers[b"x-ratelimit-reset-tokens"] = reset
        if event.cost_per_day is not None:
            cost = user.cost_left if total is None else min(user.cost_left, total.cost_left)
            headers[b"x-event-budget-remaining"] = amount_text(cost).encode()
        return headers

    def figures(self, least: Amount) -> dict[str, Any]:
        """For `GET /v1/event`. A member is None if the event sets no such limit.

        `least` is the least that a call of this event can use.
        """
        used, remaining = self.user.account.used if self.user else NOTHING, self.remaining
        return {
            "requests": _unit(self.event.requests_per_day, used.requests, remaining.requests),
            "tokens": _unit(self.event.tokens_per_day, used.tokens, remaining.tokens),
            "budget": _budget(self.event, used.cost, remaining.cost),
            "resets_at": self.day.ends_at,
            "least_cost": Raw(amount_text(least.cost).encode()) if self.event.has_budget else None,
            "total_is_used": self._total_is_used(least),
        }

    def _total_is_used(self, least: Amount) -> bool:
        """Whether ended calls have left too little of the event's total: then only the organiser can help."""
        if self.total is None:
            return False
        total = self.total.account
        return not total.limit.minus(total.charged).covers(least)


@lru_cache(maxsize=1024)
def limit_headers(requests: int | None, tokens: int | None, cost: int | None) -> dict[bytes, bytes]:
    """The headers that are the same for all calls under these limits of a day."""
    headers = {}
    if requests is not None:
        headers[b"x-ratelimit-limit-requests"] = b"%d" % requests
    if tokens is not None:
        headers[b"x-ratelimit-limit-tokens"] = b"%d" % tokens
    if cost is not None:
        headers[b"x-event-budget-limit"] = amount_text(cost).encode()
    return headers


def _unit(limit: int | None, used: int, remaining: int) -> dict[str, int] | None:
    return None if limit is None else {"limit": limit, "used": used, "remaining": remaining}


def _budget(event: Event, used: int, remaining: int) -> dict[str, Any] | None:
    """Money as decimal numbers in the event's currency."""
    if event.cost_per_day is None:
        return None
    return {
        "limit": Raw(amount_text(event.cost_per_day).encode()),
        "used": Raw(amount_text(used).encode()),
        "remaining": Raw(amount_text(remaining).encode()),
        "currency": event.currency,
    }
