"""The refusals of a quota, with the texts that attendees read."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from ..core.models import Event
from ..core.money import money_text
from ..core.quota_errors import (
    BudgetExceeded,
    EventBudgetExceeded,
    EventQuotaExceeded,
    QuotaExceeded,
    RequestQuotaExceeded,
    TokenQuotaExceeded,
)
from ..core.texts import organiser, plural
from ..core.times import local_and_utc
from .account import Account
from .amounts import Amount
from .hold import Hold
from .standing import LEAST_CALL, TOTAL_ROW, Day, Standing

RUNNING_RETRY_SECONDS = 2
OTHERS_RETRY_SECONDS = 4
"""The SDKs try again twice. Within 8 seconds, others return what is left of an almost used limit."""

Unit = Literal["requests", "tokens", "budget"]


def refusal(
    account: Account, hold: Hold, standing: Standing, now: datetime, *, may_return: bool
) -> QuotaExceeded:
    """The refusal of a call that needs more than `account` has.

    `may_return` says whether other instances may still return what they hold.
    """
    left, least, event = account.remaining, hold.least, standing.event
    unit = _scarce_unit(left, least)
    if left.covers(LEAST_CALL) and (too_large := _too_large(account, hold, event)):
        return too_large
    if left.plus(account.held).covers(least):
        return running_refusal(account, unit)
    if may_return and account.limit.minus(account.charged).covers(least):
        return _others_refusal(account, unit)
    is_money, reason = unit == "budget", "" if unit == "requests" else hold.reason
    if _is_total(account):
        return _total_is_used(account, event, reason, is_money=is_money)
    return _day_is_used(account, event, standing.day, now, reason, is_money=is_money)


def running_refusal(account: Account, unit: Unit) -> QuotaExceeded:
    """The refusal of a call while running calls on this instance hold what it needs of `unit`."""
    whose, owner = ("Requests", "this event's") if _is_total(account) else ("Your requests", "your")
    text = f"{whose} that are still running hold the rest of {owner} {unit}. Try again when they finish."
    return _kind(account, unit)(text, RUNNING_RETRY_SECONDS, temporary=True)


def _others_refusal(account: Account, unit: Unit) -> QuotaExceeded:
    """The refusal of a call while other instances hold what it needs, for running calls or for later ones."""
    owner = "this event's" if _is_total(account) else "your"
    text = f"Other servers hold the rest of {owner} {unit}. Try again in a few seconds."
    return _kind(account, unit)(text, OTHERS_RETRY_SECONDS, temporary=True)


def _is_total(account: Account) -> bool:
    return account.key.row == TOTAL_ROW


def _scarce_unit(left: Amount, least: Amount) -> Unit:
    if left.requests < least.requests:
        return "requests"
    return "budget" if left.tokens >= least.tokens and left.cost < least.cost else "tokens"


def _kind(account: Account, unit: Unit) -> type[QuotaExceeded]:
    if _is_total(account):
        return EventBudgetExceeded if unit == "budget" else EventQuotaExceeded
    if unit == "requests":
        return RequestQuotaExceeded
    return BudgetExceeded if unit == "budget" else TokenQuotaExceeded


def _too_large(account: Account, hold: Hold, event: Event) -> QuotaExceeded | None:
    """The refusal if the limit itself is too small. The money of the whole event is not for attendees."""
    limit, least, is_total = account.limit, hold.least, _is_total(account)
    owner = "this event's" if is_total else "your daily"
    advice = hold.reason or "Send a shorter one"
    if hold.need.choices > 1:
        advice += ", or ask for fewer answers (n)"
    if least.tokens > limit.tokens:
        more = f", or ask {organiser(event)} for a higher limit" if hold.reason else ""
        needs, limited = f"about {least.tokens:,} tokens", f"and {owner} limit is {limit.tokens:,}"
        start = f"it can use {needs}" if hold.reason else f"it needs {needs}"
        return _kind(account, "tokens")(f"{_too_long(hold)}: {start}, {limited}. {advice}{more}.")
    if least.cost > limit.cost:
        budget = "budget" if is_total else f"budget of {money_text(limit.cost, event.currency)}"
        needs = f"it can cost {money_text(least.cost, event.currency)}, more than {owner} {budget}"
        text = f"{_too_long(hold)}: {needs}. {advice}, or use a cheaper model."
        return _kind(account, "budget")(text)
    return None


def _too_long(hold: Hold) -> str:
    return "Your request is too large" if hold.reason else "Your message is too long"


def _total_is_used(account: Account, event: Event, reason: str, *, is_money: bool) -> QuotaExceeded:
    kind = _kind(account, "budget" if is_money else "tokens")
    whom = organiser(event)
    if not account.remaining.covers(LEAST_CALL):
        whole = "budget" if is_money else "quota"
        return kind(f"This event has used its whole {whole}. Ask {whom}.")
    if is_money:
        left = "What is left of this event's budget is too little for this request"
    else:
        tokens, limit = account.remaining.tokens, account.limit.tokens
        left = f"This event has {tokens:,} of {limit:,} tokens left, too few for this request"
    return kind(f"{left}. {reason or 'Send a shorter one'}, or ask {whom}.")


def _day_is_used(
    account: Account, event: Event, day: Day, now: datetime, reason: str, *, is_money: bool
) -> QuotaExceeded:
    """The quota comes back at midnight, but that does not help if the limit itself is too small."""
    wait = max(1.0, (day.ends_at - now).total_seconds())
    again = f"You can continue on {local_and_utc(day.ends_at, event.time_zone)}."
    if event.ends_at <= day.ends_at:
        again = f"The event ends before your limit resets. Ask {organiser(event)} for more."
    limit = account.limit
    if limit.requests == 0:
        return RequestQuotaExceeded("Your daily limit is 0 requests. Ask your organiser to raise it.")
    if account.remaining.requests < 1:
        used = "your 1 request" if limit.requests == 1 else f"all {limit.requests:,} requests"
        return RequestQuotaExceeded(f"You have used {used} for today. {again}", wait)
    if is_money:
        return _money_is_used(account, event, reason, again, wait)
    if limit.tokens < LEAST_CALL.tokens:
        small = f"Your daily limit of {plural(limit.tokens, 'token')} is too small for any request"
        return TokenQuotaExceeded(f"{small}. Ask your organiser to raise it.")
    left = f"You have {account.remaining.tokens:,} of {limit.tokens:,} tokens left today"
    return TokenQuotaExceeded(f"{left}, too few for this request. {_sentence(reason)}{again}", wait)


def _sentence(reason: str) -> str:
    return f"{reason}. " if reason else ""


def _money_is_used(account: Account, event: Event, reason: str, again: str, wait: float) -> QuotaExceeded:
    cost, budget = account.remaining.cost, money_text(account.limit.cost, event.currency)
    if not account.limit.cost:
        return BudgetExceeded("Your daily budget is 0. Ask your organiser to raise it.")
    if not cost:
        return BudgetExceeded(f"You have spent your {budget} for today. {again}", wait)
    left = f"You have {money_text(cost, event.currency)} of {budget} left today"
    return BudgetExceeded(f"{left}, too little for this request. {_sentence(reason)}{again}", wait)
