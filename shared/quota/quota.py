"""Decides whether a user may make one more call, and how many tokens it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from ..core.errors import StoreUnavailable
from ..core.loops import repeat
from ..core.models import Credential, Event
from .account import Account
from .accounts import URGENT_DIVISOR, Accounts
from .amounts import UNLIMITED, Amount, limit_of
from .exchange import Exchange
from .hold import Count, Hold, Need
from .ledger_row import LedgerStore
from .minutes import Minutes
from .pace import WINDOW_SECONDS
from .refusals import refusal, running_refusal
from .running import Running, RunningCalls
from .slowdown import Slowdown
from .standing import TOTAL_ROW, Day, Standing, day_of, limit_headers

GRANT_SECONDS = 3.5
"""How long a call waits for all its grants, so that it waits at most five seconds for the tables."""

OTHERS_SECONDS = 2.0
"""How long a call waits for the counts of prompts of other calls. Their bounds count until then."""

USER_SHARE = 4
"""The running calls of one user hold at most this fraction of what is then left of the event's totals."""

USEFUL_OUTPUT_TOKENS = 1024
"""For that share, the output limit of a single call is not lowered below this."""


class Quota:
    """The quotas of all events on this instance. `clock` returns seconds and never goes back."""

    def __init__(
        self,
        store: LedgerStore,
        idle_seconds: float,
        clock: Callable[[], float],
        *,
        grant_seconds: float = GRANT_SECONDS,
        others_seconds: float = OTHERS_SECONDS,
    ) -> None:
        self._idle_seconds = idle_seconds
        self._grant_seconds = grant_seconds
        self._others_seconds = others_seconds
        self._returned_seconds = WINDOW_SECONDS + idle_seconds * 4 / 3
        """Within this time, other instances use a block, or find it idle and return it."""
        self._clock = clock
        self._accounts = Accounts(store, idle_seconds, clock)
        self._days: dict[ZoneInfo, Day] = {}
        self._minutes = Minutes(clock)
        self._sweeping: asyncio.Task[None] | None = None
        self._running = RunningCalls()
        self._slowdown = Slowdown(clock)

    def hold(
        self, credential: Credential, event: Event, need: Need, count: Count, now: datetime
    ) -> Coroutine[Any, Any, Hold]:
        """Hold one request, its tokens and its cost. The output limit may become lower than that of the need.

        The tokens are those of `need` as long as there is plenty of tokens and money. When they are scarce,
        `count` counts the prompt exactly. So no limit is exceeded, and only a call that does not fit is
        refused.

        Raises:
            RateLimited, QuotaExceeded: the call is refused.
            StoreUnavailable: the tables do not respond, and too little is in hand. The exception is shared by
                all calls that waited for the same write.
        """
        hold, limit = Hold(need, count), event.requests_per_minute
        if limit is None:
            return self._hold(credential, event, hold, now)
        return self._hold_in_minute(credential, event, hold, now, limit)

    def begin_call(self, credential: Credential, event: Event) -> None:
        """Note that a call begins. Call `end_call` exactly once at its end.

        Raises:
            RateLimited: the user has too many calls running, or too many requests that the model refused.
        """
        self._slowdown.check(credential)
        self._running.begin(credential, event)

    def end_call(self, credential: Credential) -> None:
        self._running.end(credential)

    def note_refused(self, credential: Credential) -> None:
        """The model has refused a request of this user."""
        self._slowdown.note(credential)
        self._start_sweeping()

    def last_known(self, credential: Credential, event: Event, now: datetime) -> Standing:
        """What is left to the attendee, as this instance last saw it. Makes no table call."""
        user = self._running.of(credential)
        if user.standing is None or not user.standing.is_of(event, now):
            user.standing = self._find(credential, event, self._day(event, now))
        return user.standing

    async def standing(
        self, credential: Credential, event: Event, now: datetime, *, remembered: bool = False
    ) -> Standing:
        """What is left to the attendee now, or with `remembered`, within the last second.

        Raises:
            StoreUnavailable: the tables do not respond.
        """
        standing = self.last_known(credential, event, now)
        for exchange in filter(None, (standing.user, standing.total)):
            await exchange.refresh(remembered=remembered)
        return standing

    async def standing_headers(
        self, credential: Credential, event: Event, now: datetime
    ) -> dict[bytes, bytes]:
        """The headers with what is left to the attendee; none while the tables do not respond."""
        try:
            return (await self.standing(credential, event, now, remembered=True)).headers(now.timestamp())
        except StoreUnavailable:
            return {}

    async def sweep(self, *, everything: bool = False) -> None:
        """Give back what idle accounts have, or `everything`, and forget users without recent calls."""
        await self._accounts.give_back(everything=everything)
        if self._accounts.forget():
            self._running.forget()
        self._minutes.forget()
        self._slowdown.forget()

    async def close(self) -> None:
        """Stop the timer, and give everything back."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self.sweep(everything=True)

    async def _hold_in_minute(
        self, credential: Credential, event: Event, hold: Hold, now: datetime, limit: int
    ) -> Hold:
        """Hold, and count the call as one of at most `limit` in a minute."""
        self._start_sweeping()
        with self._minutes.count(credential, limit):
            return await self._hold(credential, event, hold, now)

    async def _hold(self, credential: Credential, event: Event, hold: Hold, now: datetime) -> Hold:
        standing = self.last_known(credential, event, now)
        try:
            if (user := standing.user) and not self._take(user, hold):
                await self._take_scarce(user, hold, standing, now)
                # Found again, because an account without waiting calls may be forgotten during the wait.
                standing = self.last_known(credential, event, now)
            if total := standing.total:
                total.account.limit = standing.total_limit  # a call that began earlier may know another one
                running = self._running.of(credential)
                if not total.account.has_plenty_for(hold.amount, running.held):
                    with total.kept():
                        await self._keep_to_share(total, hold, running)
                hold.count_in(running)  # before it waits, so that calls of the same moment share, too
                if not self._take(total, hold):
                    await self._take_scarce(total, hold, standing, now)
        except BaseException:
            hold.release()
            raise
        hold.standing = standing
        return hold

    def _take(self, exchange: Exchange, hold: Hold) -> bool:
        """Hold the whole bound, if this instance has so much in hand."""
        if not exchange.account.take(hold.amount, self._clock()):
            return False
        hold.add(exchange, hold.amount)
        return True

    async def _take_scarce(self, exchange: Exchange, hold: Hold, standing: Standing, now: datetime) -> None:
        """Hold what there is of the bound. Raises QuotaExceeded if that is too little."""
        account = exchange.account
        with exchange.kept():
            held = await self._hold_scarce(exchange, hold)
        if held is None:
            account.refused_at = self._clock()
            may_return = account.changed_within(self._returned_seconds, account.refused_at)
            raise refusal(account, hold, standing, now, may_return=may_return)
        hold.add(exchange, held)

    async def _hold_scarce(self, exchange: Exchange, hold: Hold) -> Amount | None:
        """Hold an amount in an account that does not have the whole bound in hand."""
        if exchange.account.is_too_empty_for(hold.need.shortest, self._clock()) and not exchange.uncounted:
            return None  # however short the prompt is
        try:
            async with asyncio.timeout_at(hold.waits_until(self._grant_seconds)) as waiting:
                return await self._hold_from_row(exchange, hold, waiting)
        except (StoreUnavailable, TimeoutError) as error:
            await self._count_prompts(exchange, hold)
            if held := exchange.hold_in_hand(hold.amount, hold.need.least):
                return held
            if isinstance(error, TimeoutError):
                raise StoreUnavailable from error
            raise

    async def _hold_from_row(self, exchange: Exchange, hold: Hold, waiting: asyncio.Timeout) -> Amount | None:
        """Hold the bound if the row has plenty, else what the counted prompt needs.

        `waiting` is for the tables: the time to count a long prompt is not theirs.
        """
        wanted = hold.amount
        if exchange.account.has_plenty_for(wanted) and (held := await exchange.hold(wanted, wanted)):
            return held
        waiting.reschedule(None)
        await self._count_prompts(exchange, hold)
        waiting.reschedule(hold.waits_until(self._grant_seconds))
        return await exchange.hold(hold.amount, hold.need.least)

    async def _keep_to_share(self, total: Exchange, hold: Hold, running: Running) -> None:
        """Limit what the running calls of one user hold of the event's total tokens and money.

        Raises:
            EventQuotaExceeded: their calls hold their share already.
            StoreUnavailable: the table does not respond, and the total was never seen.
        """
        if not _share(total.account, running).covers(hold.amount):
            await self._see(total, hold)
            await self._count_prompts(total, hold)
            share, least = _share(total.account, running), hold.need.least_with(USEFUL_OUTPUT_TOKENS)
            if running.held.requests and not share.covers(least):
                raise running_refusal(total.account, "budget" if share.tokens >= least.tokens else "tokens")
            hold.lower_to(share.at_least(least))

    async def _see(self, total: Exchange, hold: Hold) -> None:
        """Read the row, unless it was seen a moment ago: others may have given back since."""
        try:
            async with asyncio.timeout_at(hold.waits_until(self._grant_seconds)):
                await total.refresh(remembered=True)
        except (StoreUnavailable, TimeoutError) as error:
            if not total.account.is_seen:
                raise StoreUnavailable from error

    async def _count_prompts(self, exchange: Exchange, hold: Hold) -> None:
        """Count the prompt of a call, and those of the running calls that hold only a bound."""
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        others = [loop.create_task(one.count_prompt()) for one in exchange.uncounted if one is not hold]
        await hold.count_prompt()
        if others:
            await asyncio.wait(others, timeout=self._others_seconds)
        hold.wait_longer(loop.time() - began_at)

    def _find(self, credential: Credential, event: Event, day: Day) -> Standing:
        """The accounts of an attendee and an event, under their current limits."""
        self._start_sweeping()
        limits = event.requests_per_day, event.tokens_per_day, event.cost_per_day
        total_limit = limit_of(event.requests_total, event.tokens_total, event.cost_total)
        return Standing(
            event,
            day,
            self._accounts.get(credential.event_code, f"{credential.user}:{day.name}", limit_of(*limits)),
            self._accounts.get(event.ledger_code, TOTAL_ROW, total_limit),
            total_limit,
            limit_headers(*limits),
        )

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
        pause_seconds = self._idle_seconds / URGENT_DIVISOR / 2
        await repeat(
            self.sweep,
            pause_seconds,
            "The return of unused quota",
            lambda: len(self._accounts) or len(self._minutes) or len(self._slowdown),
        )


def _share(total: Account, running: Running) -> Amount:
    """How much more the running calls of one user may hold. Requests have no share."""
    limit, left = total.limit, total.remaining.divided_by(USER_SHARE).minus(running.held)
    return Amount(
        UNLIMITED,
        left.tokens if limit.tokens < UNLIMITED else UNLIMITED,
        left.cost if limit.cost < UNLIMITED else UNLIMITED,
    )
