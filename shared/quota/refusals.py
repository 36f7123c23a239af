"""The refusals of a quota, with the texts that attendees read."""

from __future__ import annotations

from datetime import datetime

from ..core.errors import EventQuotaExceeded, QuotaExceeded, RequestQuotaExceeded, TokenQuotaExceeded
from ..core.models import Event
from ..core.times import local_and_utc
from .account import Account
from .amounts import Amount
from .standing import LEAST_CALL, TOTAL_ROW, Day

RUNNING_RETRY_SECONDS = 2


def refusal(
    account: Account, least: Amount, choices: int, event: Event, day: Day, now: datetime
) -> QuotaExceeded:
    """The refusal of a call that needs at least `least`, which `account` does not have."""
    is_total = account.key.row == TOTAL_ROW
    kind = EventQuotaExceeded if is_total else TokenQuotaExceeded
    if account.remaining.requests >= 1:
        if least.tokens > account.limit.tokens and account.remaining.covers(LEAST_CALL):
            return kind(_too_long(account, least, choices))
        if account.remaining.plus(account.held).tokens >= least.tokens:
            text = (
                "Requests that are still running hold the rest of this event's tokens."
                if is_total
                else "Your requests that are still running hold the rest of your tokens."
            )
            return kind(f"{text} Try again when they finish.", RUNNING_RETRY_SECONDS, running=True)
    if is_total:
        return EventQuotaExceeded(_total_is_used(account, event))
    return _day_is_used(account, event, day, now)


def _too_long(account: Account, least: Amount, choices: int) -> str:
    owner = "this event's" if account.key.row == TOTAL_ROW else "your daily"
    needs = f"it needs about {least.tokens:,} tokens, and {owner} limit is {account.limit.tokens:,}"
    fewer = ", or ask for fewer answers (n)" if choices > 1 else ""
    return f"Your message is too long: {needs}. Send a shorter one{fewer}."


def _total_is_used(account: Account, event: Event) -> str:
    organizer = f" ({event.organizer})" if event.organizer else ""
    if not account.remaining.covers(LEAST_CALL):
        return f"This event has used its whole quota. Ask your organiser{organizer}."
    left = f"This event has {account.remaining.tokens:,} of {account.limit.tokens:,} tokens left"
    return f"{left}, too few for this request. Send a shorter one, or ask your organiser{organizer}."


def _day_is_used(account: Account, event: Event, day: Day, now: datetime) -> QuotaExceeded:
    """The quota comes back at midnight, but that does not help if the limit itself is too small."""
    wait = max(1.0, (day.ends_at - now).total_seconds())
    again = f"You can continue on {local_and_utc(day.ends_at, event.time_zone)}."
    requests, tokens = account.remaining
    limit = account.limit
    if limit.requests == 0:
        return RequestQuotaExceeded("Your daily limit is 0 requests. Ask your organiser to raise it.")
    if requests < 1:
        used = "your 1 request" if limit.requests == 1 else f"all {limit.requests:,} requests"
        return RequestQuotaExceeded(f"You have used {used} for today. {again}", wait)
    if not limit.covers(LEAST_CALL):
        small = f"Your daily limit of {plural(limit.tokens, 'token')} is too small for any request"
        return TokenQuotaExceeded(f"{small}. Ask your organiser to raise it.")
    left = f"You have {tokens:,} of {limit.tokens:,} tokens left today, too few for this request"
    return TokenQuotaExceeded(f"{left}. {again}", wait)


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
