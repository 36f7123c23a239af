"""Whether a user may make one more call, and how many tokens it may cost.

`ledger.py` keeps it exact over all instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from math import ceil
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from .amounts import ENDLESS, NOTHING, Amount
from .errors import (
    EventQuotaExceeded,
    ProxyError,
    QuotaExceeded,
    RequestQuotaExceeded,
    StoreUnavailable,
    TokenQuotaExceeded,
)
from .estimate import learned
from .ledger import Account, Held
from .ledger_row import Key, LedgerStore
from .minutes import Minutes
from .models import Credential, Event, Usage

_log = logging.getLogger(__name__)

LEAST_OUTPUT_TOKENS: Final = 16
"""An answer shorter than this is of no use, so a quota that leaves less is used up."""

RUNNING_RETRY_SECONDS: Final = 2
TOTAL_ROW: Final = ":total"
"""No user's row: a user's name is never empty."""

KEPT_SECONDS: Final = 900.0
MOST_KEPT: Final = 2000
"""Accounts beyond these are forgotten as soon as they are settled: anybody can make up names."""
GIVEN_BACK_AT_ONCE: Final = 16

_NO_LIMIT: Final = Amount(ENDLESS, ENDLESS)
_USER_BLOCK: Final = Amount(32, 32_768)
_EVENT_BLOCK: Final = Amount(256, 262_144)


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


class Need(NamedTuple):
    """What a call would take. `output_cap` is for each of `choices`."""

    prompt_tokens: int
    output_cap: int
    choices: int

    @property
    def amount(self) -> Amount:
        return Amount(1, self.prompt_tokens + self.output_cap * self.choices)

    @property
    def least(self) -> Amount:
        return Amount(1, self.prompt_tokens + min(self.output_cap, LEAST_OUTPUT_TOKENS) * self.choices)

    def corrected(self, correction: float) -> Need:
        """The same call, its prompt estimated higher."""
        return self if correction == 1 else self._replace(prompt_tokens=ceil(self.prompt_tokens * correction))

    def lowered_cap(self, tokens: int) -> int:
        """The output cap with which the call takes no more tokens than these."""
        return min(self.output_cap, (tokens - self.prompt_tokens) // self.choices)


class Hold:
    """A call's claim on its accounts: settled or released exactly once, without an await."""

    def __init__(self, need: Need, claims: list[tuple[Account, Held]], standing: Standing) -> None:
        self.output_cap = need.output_cap
        self.standing = standing
        self._estimated_tokens = need.prompt_tokens
        self._claims = claims

    def settle(self, usage: Usage) -> None:
        """Charge one request and what it cost."""
        for account, _ in self._claims:
            account.correction = learned(account.correction, self._estimated_tokens, usage.prompt_tokens)
        self._end(Amount(1, usage.total_tokens))

    def release(self) -> None:
        """Charge nothing: the call was not forwarded, or failed."""
        self._end(NOTHING)

    def _end(self, used: Amount) -> None:
        claims, self._claims = self._claims, []
        for account, held in claims:
            account.settle(held, used)


class Standing(NamedTuple):
    """What an event's limits leave to one attendee at a moment, as this instance knows it."""

    event: Event
    user: Account | None
    total: Account | None
    day: Day

    @property
    def remaining(self) -> Amount:
        """What the whole event has left bounds what a user has."""
        remaining = self.user.remaining if self.user else _NO_LIMIT
        return remaining.at_most(self.total.remaining) if self.total else remaining

    def headers(self, now: datetime) -> dict[str, str]:
        """In the names that the OpenAI SDKs know; resets in whole seconds."""
        requests, tokens = self.remaining
        reset = str(max(0, ceil((self.day.ends_at - now).total_seconds())))
        headers: dict[str, str] = {}
        if (limit := self.event.requests_per_day) is not None:
            headers["x-ratelimit-limit-requests"] = str(limit)
            headers["x-ratelimit-remaining-requests"] = str(requests)
            headers["x-ratelimit-reset-requests"] = reset
        if (limit := self.event.tokens_per_day) is not None:
            headers["x-ratelimit-limit-tokens"] = str(limit)
            headers["x-ratelimit-remaining-tokens"] = str(tokens)
            headers["x-ratelimit-reset-tokens"] = reset
        return headers

    def figures(self) -> Figures:
        used = self.user.used if self.user else NOTHING
        remaining, event = self.remaining, self.event
        return Figures(
            event.requests_per_day,
            used.requests,
            remaining.requests if event.requests_per_day is not None else None,
            event.tokens_per_day,
            used.tokens,
            remaining.tokens if event.tokens_per_day is not None else None,
            self.day.ends_at,
        )


class Figures(NamedTuple):
    """One attendee's own numbers, for the event's limits. None where the event sets none."""

    requests_limit: int | None
    requests_used: int
    requests_remaining: int | None
    tokens_limit: int | None
    tokens_used: int
    tokens_remaining: int | None
    resets_at: datetime


class Quota:
    """All accounts that this instance draws on. `clock` gives seconds and never goes back."""

    def __init__(self, store: LedgerStore, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._accounts: dict[Key, Account] = {}
        self._days: dict[ZoneInfo, Day] = {}
        self._minutes = Minutes(clock)
        self._sweeping: asyncio.Task[None] | None = None

    async def hold(self, who: Credential, event: Event, need: Need, now: datetime) -> Hold:
        """Claim one request and its tokens; the hold's output cap may be lower than asked.

        Raises:
            RateLimited, RequestQuotaExceeded, TokenQuotaExceeded, EventQuotaExceeded: with the figures in
                their headers.
            StoreUnavailable: the tables do not answer, and what is granted does not suffice.
        """
        day = self._day(event, now)
        try:
            if event.requests_per_minute is None:
                return await self._claim(who, event, need, day, now)
            self._start_sweeping()
            with self._minutes.counted(who, event.requests_per_minute):
                return await self._claim(who, event, need, day, now)
        except ProxyError as error:
            standing = Standing(event, self._user(who, event, day), self._total(event), day)
            error.headers.update(standing.headers(now))
            raise

    async def standing(self, who: Credential, event: Event, now: datetime) -> Standing:
        """What is left to the attendee, true now.

        Raises:
            StoreUnavailable: the tables do not answer.
        """
        day = self._day(event, now)
        user, total = self._user(who, event, day), self._total(event)
        for account in filter(None, (user, total)):
            await account.refresh()
        return Standing(event, user, total, day)

    async def sweep(self, *, everything: bool = False) -> None:
        """Give back what lies idle, tell what was used, and forget who has long been away."""
        now = self._clock()
        due = [
            account
            for account in self._accounts.values()
            if not account.is_told and (everything or now - account.used_at >= self._idle_seconds)
        ]
        for first in range(0, len(due), GIVEN_BACK_AT_ONCE):
            await asyncio.gather(*map(self._give_back, due[first : first + GIVEN_BACK_AT_ONCE]))
        self._forget()

    def _forget(self) -> None:
        """An account that is kept knows its row's version, and needs no read when its user is back."""
        now = self._clock()
        kept_seconds = KEPT_SECONDS if len(self._accounts) <= MOST_KEPT else self._idle_seconds
        for key, account in list(self._accounts.items()):
            if account.is_settled and now - account.used_at >= kept_seconds:
                del self._accounts[key]
        self._minutes.forget()

    async def close(self) -> None:
        """Stop the timer, and give everything back."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.sweep(everything=True)

    async def _claim(self, who: Credential, event: Event, need: Need, day: Day, now: datetime) -> Hold:
        claims: list[tuple[Account, Held]] = []
        try:
            if user := self._user(who, event, day):
                need = await self._claim_of(user, need, event, day, now, claims)
            # Looked up only now: one that nobody waits for may be forgotten meanwhile.
            if total := self._total(event):
                need = await self._claim_of(total, need, event, day, now, claims)
        except BaseException:
            for account, held in claims:
                account.release(held)
            raise
        return Hold(need, claims, Standing(event, user, total, day))

    async def _claim_of(
        self,
        account: Account,
        need: Need,
        event: Event,
        day: Day,
        now: datetime,
        claims: list[tuple[Account, Held]],
    ) -> Need:
        """Adds to `claims`; returns the need with the output cap that the account allows."""
        corrected = need.corrected(account.correction)
        wanted = corrected.amount
        held = await account.hold(wanted, corrected.least)
        if held is None:
            raise _refusal(account, corrected, event, day, now)
        claims.append((account, held))
        if held.amount == wanted:
            return need
        return need._replace(output_cap=corrected.lowered_cap(held.amount.tokens))

    def _user(self, who: Credential, event: Event, day: Day) -> Account | None:
        if event.requests_per_day is None and event.tokens_per_day is None:
            return None
        key = Key(who.event_code, f"{who.user}:{day.name}")
        return self._account(key, _limit(event.requests_per_day, event.tokens_per_day), _USER_BLOCK)

    def _total(self, event: Event) -> Account | None:
        if event.requests_total is None and event.tokens_total is None:
            return None
        limit = _limit(event.requests_total, event.tokens_total)
        return self._account(Key(event.code, TOTAL_ROW), limit, _EVENT_BLOCK)

    def _account(self, key: Key, limit: Amount, block: Amount) -> Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(key, self._store, block, self._clock)
        account.limit = limit
        self._start_sweeping()
        return account

    def _day(self, event: Event, now: datetime) -> Day:
        day = self._days.get(event.time_zone)
        if day is None or not day.begins_at <= now < day.ends_at:
            day = self._days[event.time_zone] = day_of(now, event.time_zone)
        return day

    def _start_sweeping(self) -> None:
        """The platform kills workers, it does not stop them: so a timer gives back while there is time."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_for_ever())

    async def _sweep_for_ever(self) -> None:
        while self._accounts or len(self._minutes):
            await asyncio.sleep(self._idle_seconds / 2)
            await self.sweep()

    async def _give_back(self, account: Account) -> None:
        try:
            await account.give_back()
        except StoreUnavailable:
            _log.warning("what is granted could not be given back yet: the tables do not answer")


@lru_cache(maxsize=1024)
def _limit(requests: int | None, tokens: int | None) -> Amount:
    return Amount(ENDLESS if requests is None else requests, ENDLESS if tokens is None else tokens)


def _refusal(account: Account, need: Need, event: Event, day: Day, now: datetime) -> QuotaExceeded:
    lacks_requests = account.remaining.requests < 1
    wait = max(1.0, (day.ends_at - now).total_seconds())
    running = not lacks_requests and account.remaining.plus(account.held).tokens >= need.least.tokens
    if account.key.row == TOTAL_ROW and running:
        text = "Calls still running hold the rest of the event's tokens. Try again when they have ended."
        return EventQuotaExceeded(text, RUNNING_RETRY_SECONDS, running=True)
    if running:
        text = (
            "Your calls that are still running hold the rest of your tokens. Try again when they have ended."
        )
        return TokenQuotaExceeded(text, RUNNING_RETRY_SECONDS, running=True)
    if account.key.row == TOTAL_ROW:
        return EventQuotaExceeded(
            f"The event '{event.code}' has used all that it may. Ask your organiser{_organizer(event)}.", wait
        )
    if lacks_requests:
        text = f"Your {event.requests_per_day:,} requests of the day are used."
        return RequestQuotaExceeded(f"{text} They are renewed at {_reset(event, day)}.", wait)
    left = f"{account.remaining.tokens:,} of your {event.tokens_per_day:,} tokens of the day are left"
    return TokenQuotaExceeded(
        f"{left}: too few for this call. They are renewed at {_reset(event, day)}.", wait
    )


def _organizer(event: Event) -> str:
    return f" ({event.organizer})" if event.organizer else ""


def _reset(event: Event, day: Day) -> str:
    utc = f"{day.ends_at:%Y-%m-%d %H:%M} UTC"
    if event.time_zone.key == "UTC":
        return utc
    return f"{day.ends_at.astimezone(event.time_zone):%Y-%m-%d %H:%M} {event.time_zone.key} ({utc})"
