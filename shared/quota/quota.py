"""Whether a user may make one more call, and how many tokens it may cost.

`ledger.py` keeps it exact over all instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from math import ceil
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from ..core.errors import StoreUnavailable
from ..core.models import Credential, Event, Usage
from .amounts import ENDLESS, NOTHING, Amount
from .estimate import learned
from .ledger import Account, Held
from .ledger_row import Key, LedgerStore
from .minutes import Minutes
from .standing import LEAST_OUTPUT_TOKENS, TOTAL_ROW, Day, Standing, day_of, refusal

_log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 900.0
MOST_KEPT: Final = 2000
"""Accounts beyond these are forgotten as soon as they are settled: anybody can make up names."""
GIVEN_BACK_AT_ONCE: Final = 16
SOONER: Final = 3
"""What concerns other instances is told after this part of the time that a grant may lie idle."""

_USER_BLOCK: Final = Amount(32, 32_768)
_EVENT_BLOCK: Final = Amount(256, 262_144)


class Need(Struct, frozen=True, gc=False):
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
        if correction == 1:
            return self
        return replace(self, prompt_tokens=ceil(self.prompt_tokens * correction))

    def lowered_cap(self, tokens: int) -> int:
        """The output cap with which the call takes no more tokens than these."""
        return min(self.output_cap, (tokens - self.prompt_tokens) // self.choices)


class Hold:
    """A call's claim on its accounts: settled or released exactly once, without an await."""

    __slots__ = ("_claims", "_estimated_tokens", "output_cap", "standing")

    def __init__(self, need: Need, claims: list[tuple[Account, Held]], standing: Standing) -> None:
        self.output_cap = need.output_cap
        self.standing = standing
        self._estimated_tokens = need.prompt_tokens
        self._claims = claims

    def settle(self, usage: Usage) -> None:
        """Charge one request and what it cost."""
        # What was not reported is the estimate itself, or nothing: no news about how good it was.
        is_reported = usage.prompt_tokens not in {0, self._estimated_tokens}
        for account, _ in self._claims if is_reported else ():
            account.correction = learned(account.correction, self._estimated_tokens, usage.prompt_tokens)
        self._end(Amount(1, usage.total_tokens))

    def release(self) -> None:
        """Charge nothing: the call was not forwarded, or failed."""
        self._end(NOTHING)

    def _end(self, used: Amount) -> None:
        claims, self._claims = self._claims, []
        for account, held in claims:
            account.settle(held, used)


class Quota:
    """All accounts that this instance draws on. `clock` gives seconds and never goes back."""

    def __init__(self, store: LedgerStore, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._accounts: dict[tuple[str, str], Account] = {}
        """By their keys; looked up for each call, so by what a `Key` equals and is made sooner."""
        self._days: dict[ZoneInfo, Day] = {}
        self._minutes = Minutes(clock)
        self._sweeping: asyncio.Task[None] | None = None

    async def hold(self, who: Credential, event: Event, need: Need, now: datetime) -> Hold:
        """Claim one request and its tokens; the hold's output cap may be lower than asked.

        Raises:
            RateLimited, RequestQuotaExceeded, TokenQuotaExceeded, EventQuotaExceeded: a limit is reached.
            StoreUnavailable: the tables do not answer, and what is granted does not suffice.
        """
        day = self._day(event, now)
        if event.requests_per_minute is None:
            return await self._claim(who, event, need, day, now)
        self._start_sweeping()
        with self._minutes.counted(who, event.requests_per_minute):
            return await self._claim(who, event, need, day, now)

    def last_known(self, who: Credential, event: Event, now: datetime) -> Standing:
        """What is left to the attendee, as this instance last saw it."""
        day = self._day(event, now)
        return Standing(event, self._user(who, event, day), self._total(event), day)

    async def standing(
        self, who: Credential, event: Event, now: datetime, *, remembered: bool = False
    ) -> Standing:
        """What is left to the attendee, true now; `remembered`, as it was seen within the last second.

        Raises:
            StoreUnavailable: the tables do not answer.
        """
        day = self._day(event, now)
        user, total = self._user(who, event, day), self._total(event)
        for account in filter(None, (user, total)):
            await account.refresh(remembered=remembered)
        return Standing(event, user, total, day)

    async def sweep(self, *, everything: bool = False) -> None:
        """Give back what lies idle, tell what was used, and forget who has long been away."""
        now = self._clock()
        due = [
            account
            for account in self._accounts.values()
            if not account.is_told and (everything or self._is_idle(account, now))
        ]
        for first in range(0, len(due), GIVEN_BACK_AT_ONCE):
            await asyncio.gather(*map(self._give_back, due[first : first + GIVEN_BACK_AT_ONCE]))
        self._forget()

    def _is_idle(self, account: Account, now: float) -> bool:
        idle_seconds = now - account.used_at
        if idle_seconds >= self._idle_seconds:
            return True
        return idle_seconds >= self._idle_seconds / SOONER and account.concerns_others

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
        held = account.take(wanted)
        if held is None and (held := await account.hold(wanted, corrected.least)) is None:
            raise refusal(account, corrected.least, need.choices, event, day, now)
        claims.append((account, held))
        if held.amount == wanted:
            return need
        return replace(need, output_cap=corrected.lowered_cap(held.amount.tokens))

    def _user(self, who: Credential, event: Event, day: Day) -> Account | None:
        if event.requests_per_day is None and event.tokens_per_day is None:
            return None
        row = f"{who.user}:{day.name}"
        limit = _limit(event.requests_per_day, event.tokens_per_day)
        return self._account(who.event_code, row, limit, _USER_BLOCK)

    def _total(self, event: Event) -> Account | None:
        if event.requests_total is None and event.tokens_total is None:
            return None
        limit = _limit(event.requests_total, event.tokens_total)
        return self._account(event.code, TOTAL_ROW, limit, _EVENT_BLOCK)

    def _account(self, event_code: str, row: str, limit: Amount, block: Amount) -> Account:
        account = self._accounts.get((event_code, row))
        if account is None:
            key = Key(event_code, row)
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
            await asyncio.sleep(self._idle_seconds / SOONER / 2)
            await self.sweep()

    async def _give_back(self, account: Account) -> None:
        try:
            await account.give_back()
        except StoreUnavailable:
            _log.warning("what is granted could not be given back yet: the tables do not answer")


@lru_cache(maxsize=1024)
def _limit(requests: int | None, tokens: int | None) -> Amount:
    return Amount(ENDLESS if requests is None else requests, ENDLESS if tokens is None else tokens)
