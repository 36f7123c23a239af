"""Decides whether a user may make one more call, and how many tokens it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from math import ceil
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from ..core.models import Credential, Event, Usage
from .account import Claim
from .accounts import URGENT_DIVISOR, Accounts
from .amounts import NOTHING, UNLIMITED, Amount
from .estimate import next_correction
from .exchange import Exchange
from .ledger_row import LedgerStore
from .minutes import Minutes
from .refusals import refusal
from .standing import LEAST_OUTPUT_TOKENS, TOTAL_ROW, Day, Standing, day_of

_USER_BLOCK = Amount(32, 32_768)
_EVENT_BLOCK = Amount(256, 262_144)


class Need(Struct, frozen=True, gc=False):
    """The most that a call can cost. `output_limit` is for each of its `choices`."""

    prompt_tokens: int
    output_limit: int
    choices: int

    @property
    def amount(self) -> Amount:
        return Amount(1, self.prompt_tokens + self.output_limit * self.choices)

    @property
    def least(self) -> Amount:
        return Amount(1, self.prompt_tokens + min(self.output_limit, LEAST_OUTPUT_TOKENS) * self.choices)

    def corrected(self, correction: float) -> Need:
        """The same call with a higher estimate of its prompt."""
        if correction == 1:
            return self
        return replace(self, prompt_tokens=ceil(self.prompt_tokens * correction))

    def output_limit_within(self, tokens: int) -> int:
        """The output limit with which the call costs at most `tokens`."""
        return min(self.output_limit, (tokens - self.prompt_tokens) // self.choices)


class Hold(Struct, frozen=True, eq=False):
    """A call's claims on its accounts. The first `settle` or `release` ends it; later ones do nothing."""

    output_limit: int
    standing: Standing
    _estimated_tokens: int
    _claims: list[tuple[Exchange, Claim]]

    def settle(self, usage: Usage) -> None:
        """Charge one request and its usage."""
        # If the usage was not reported, `prompt_tokens` is the estimate itself, or 0.
        is_reported = usage.prompt_tokens not in {0, self._estimated_tokens}
        for exchange, _ in self._claims if is_reported else ():
            account = exchange.account
            account.correction = next_correction(
                account.correction, self._estimated_tokens, usage.prompt_tokens
            )
        self._end(Amount(1, usage.total_tokens))

    def release(self) -> None:
        """Charge nothing: the call was not forwarded, or failed."""
        self._end(NOTHING)

    def _end(self, used: Amount) -> None:
        while self._claims:
            exchange, claim = self._claims.pop()
            exchange.settle(claim, used)


class Quota:
    """The quotas of all events on this instance. `clock` returns seconds and never goes back."""

    def __init__(self, store: LedgerStore, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._accounts = Accounts(store, idle_seconds, clock)
        self._days: dict[ZoneInfo, Day] = {}
        self._minutes = Minutes(clock)
        self._sweeping: asyncio.Task[None] | None = None

    async def hold(self, credential: Credential, event: Event, need: Need, now: datetime) -> Hold:
        """Hold one request and its tokens. The output limit of the hold may be lower than that of the need.

        Raises:
            RateLimited, RequestQuotaExceeded, TokenQuotaExceeded, EventQuotaExceeded: the call is refused.
            StoreUnavailable: the tables do not respond, and too little is in hand. The exception is shared by
                all calls that waited for the same write.
        """
        if event.requests_per_minute is None:
            return await self._claim(credential, event, need, now)
        self._start_sweeping()
        with self._minutes.count(credential, event.requests_per_minute):
            return await self._claim(credential, event, need, now)

    def last_known(self, credential: Credential, event: Event, now: datetime) -> Standing:
        """What is left to the attendee, as this instance last saw it. Makes no table call."""
        day = self._day(event, now)
        return _standing(event, self._user_exchange(credential, event, day), self._total_exchange(event), day)

    async def standing(
        self, credential: Credential, event: Event, now: datetime, *, remembered: bool = False
    ) -> Standing:
        """What is left to the attendee now, or with `remembered`, within the last second.

        Raises:
            StoreUnavailable: the tables do not respond.
        """
        day = self._day(event, now)
        user, total = self._user_exchange(credential, event, day), self._total_exchange(event)
        for exchange in filter(None, (user, total)):
            await exchange.refresh(remembered=remembered)
        return _standing(event, user, total, day)

    async def sweep(self, *, everything: bool = False) -> None:
        """Give back what idle accounts have, or `everything`, and forget users without recent calls."""
        await self._accounts.give_back(everything=everything)
        self._accounts.forget()
        self._minutes.forget()

    async def close(self) -> None:
        """Stop the timer, and give everything back."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.sweep(everything=True)

    async def _claim(self, credential: Credential, event: Event, need: Need, now: datetime) -> Hold:
        day, prompt_tokens = self._day(event, now), need.prompt_tokens
        claims: list[tuple[Exchange, Claim]] = []
        try:
            if user := self._user_exchange(credential, event, day):
                need = await self._claim_from(user, need, claims, event, day, now)
            # Not looked up earlier, because an account without waiting calls may be forgotten meanwhile.
            if total := self._total_exchange(event):
                need = await self._claim_from(total, need, claims, event, day, now)
        except BaseException:
            for exchange, claim in claims:
                exchange.release(claim)
            raise
        return Hold(need.output_limit, _standing(event, user, total, day), prompt_tokens, claims)

    async def _claim_from(
        self,
        exchange: Exchange,
        need: Need,
        claims: list[tuple[Exchange, Claim]],
        event: Event,
        day: Day,
        now: datetime,
    ) -> Need:
        """Add a claim to `claims`. Returns the need with the output limit that the account allows."""
        account = exchange.account
        corrected = need.corrected(account.correction)
        wanted = corrected.amount
        claim = account.take(wanted, self._clock())
        if claim is None and (claim := await exchange.hold(wanted, corrected.least)) is None:
            raise refusal(account, corrected.least, need.choices, event, day, now)
        claims.append((exchange, claim))
        if claim.amount == wanted:
            return need
        return replace(need, output_limit=corrected.output_limit_within(claim.amount.tokens))

    def _user_exchange(self, credential: Credential, event: Event, day: Day) -> Exchange | None:
        if event.requests_per_day is None and event.tokens_per_day is None:
            return None
        row = f"{credential.user}:{day.name}"
        limit = _limit(event.requests_per_day, event.tokens_per_day)
        return self._exchange(credential.event_code, row, limit, _USER_BLOCK)

    def _total_exchange(self, event: Event) -> Exchange | None:
        if event.requests_total is None and event.tokens_total is None:
            return None
        limit = _limit(event.requests_total, event.tokens_total)
        return self._exchange(event.code, TOTAL_ROW, limit, _EVENT_BLOCK)

    def _exchange(self, event_code: str, row: str, limit: Amount, largest_block: Amount) -> Exchange:
        exchange = self._accounts.get(event_code, row, limit, largest_block)
        self._start_sweeping()
        return exchange

    def _day(self, event: Event, now: datetime) -> Day:
        day = self._days.get(event.time_zone)
        if day is None or not day.begins_at <= now < day.ends_at:
            day = self._days[event.time_zone] = day_of(now, event.time_zone)
        return day

    def _start_sweeping(self) -> None:
        """Give back by a timer, because the platform kills workers without notice."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep_repeatedly())

    async def _sweep_repeatedly(self) -> None:
        while len(self._accounts) or len(self._minutes):
            await asyncio.sleep(self._idle_seconds / URGENT_DIVISOR / 2)
            await self.sweep()


def _standing(event: Event, user: Exchange | None, total: Exchange | None, day: Day) -> Standing:
    return Standing(event, user.account if user else None, total.account if total else None, day)


@lru_cache(maxsize=1024)
def _limit(requests: int | None, tokens: int | None) -> Amount:
    return Amount(UNLIMITED if requests is None else requests, UNLIMITED if tokens is None else tokens)
