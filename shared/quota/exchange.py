"""Keeps an account exact over all instances, with few table calls.

The row in the table says how much is *granted*. An instance takes a block by a conditional write, spends it
from memory, and gives back what it does not use. So two instances never give out the same request, and most
calls need no table call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ..core.errors import StoreUnavailable
from ..core.ids import new_id
from ..core.loops import shared_result
from .account import Account
from .amounts import Amount
from .ledger_row import Change, Conflict, LedgerStore, Purpose

MAX_TRIES = 20
"""They take about two seconds with the pauses between them: an attendee waits."""

_CROWDED = "Too many requests at the same time. Try again in a second."


class Uncounted(Protocol):
    """A running call that holds the bound of its prompt."""

    async def count_prompt(self) -> None:
        """Hold what the prompt costs, in place of its bound."""


class Exchange:
    """The exchange of one account with its row. One table operation runs at a time, for all waiting calls.

    `clock` returns seconds and never goes back. `sleep` waits before another try.
    """

    def __init__(
        self,
        account: Account,
        store: LedgerStore,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.account = account
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._running: asyncio.Task[None] | None = None
        self._visits = 0
        self.uncounted: set[Uncounted] = set()

    async def hold(self, wanted: Amount, least: Amount) -> Amount | None:
        """Hold `wanted`, or else what is left if that covers `least`, or else return None.

        Raises:
            StoreUnavailable: the table does not respond, and too little is in hand.
        """
        account, now = self.account, self._clock()
        if account.take(wanted, now):
            return wanted
        if account.is_out_of(wanted, least, now):
            return account.take_rest(wanted, least, now)
        account.wait(wanted, least)
        try:
            return await self._hold_after_grant(wanted, least)
        finally:
            account.stop_waiting(wanted)

    def hold_in_hand(self, wanted: Amount, least: Amount) -> Amount | None:
        """Hold `wanted`, or else what this instance has in hand if that covers `least`. No table call."""
        now = self._clock()
        return wanted if self.account.take(wanted, now) else self.account.take_rest(wanted, least, now)

    def settle(self, held: Amount, used: Amount) -> None:
        """Replace what a call holds by what it used.

        A debt is reported to the row at once, in the background, so that other instances give out less.
        """
        self.account.settle(held, used, self._clock())
        if not held.covers(used):
            self._report_debt()

    async def refresh(self, *, remembered: bool = False) -> None:
        """Read the row. With `remembered`, only if it was not seen within the last second.

        Raises:
            StoreUnavailable: the table does not respond.
        """
        if not (remembered and self.account.is_fresh(self._clock())):
            await self._join(self._read)

    async def give_back(self) -> None:
        """Return what is spare, and report what was spent.

        Raises:
            StoreUnavailable: the table does not respond. Nothing is lost: call it again later.
        """
        while self._running is not None:
            await asyncio.wait([self._running])
        await self._join(lambda: self._exchange(Purpose.GIVE_BACK))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A block in which this exchange is not forgotten: a call waits for something else, to hold then."""
        self._visits += 1
        try:
            yield
        finally:
            self._visits -= 1

    @property
    def can_be_forgotten(self) -> bool:
        """Whether the row has everything that this instance knows, and no call waits here."""
        return self.account.is_settled and self._running is None and not self._visits

    async def _hold_after_grant(self, wanted: Amount, least: Amount) -> Amount | None:
        account = self.account
        try:
            # More than once, because a write that was planned before this call does not include it.
            for _ in range(MAX_TRIES * 4):
                await self._join(lambda: self._exchange(Purpose.TAKE))
                now = self._clock()
                if account.take(wanted, now):
                    return wanted
                if account.is_out_of(wanted, least, now):
                    return account.take_rest(wanted, least, now)
        except StoreUnavailable:
            if rest := self.hold_in_hand(wanted, least):
                return rest
            raise
        raise StoreUnavailable(_CROWDED, 1)

    def _report_debt(self) -> None:
        """Start a write if there is a debt and no write runs. At the end of a write, this is called again.

        If a write fails, the next hold or sweep tries again.
        """
        if self._running is None and self.account.owes:
            self._start(self._exchange(Purpose.REPORT))

    async def _join(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the running operation, or start `work`. It continues if its caller is cancelled."""
        running = self._running
        if running is None or running.done():  # its callback may not have run yet
            running = self._start(work())
        await shared_result(running)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._running = asyncio.create_task(work)
        self._running.add_done_callback(self._end)
        return self._running

    def _end(self, task: asyncio.Task[None]) -> None:
        if self._running is task:
            self._running = None
        # This also retrieves the exception when every caller has left.
        if not task.cancelled() and task.exception() is None:
            self._report_debt()

    async def _exchange(self, purpose: Purpose) -> None:
        """Return, report and take in one conditional write. Try again if another instance was faster."""
        for attempt in range(MAX_TRIES):
            try:
                await self._catch_up()
                return await self._write(await self._plan(purpose))
            except Conflict:
                self.account.is_stale = True
                await self._sleep(random.random() * min(0.01 * 2**attempt, 0.25))  # noqa: S311 - jitter
        raise StoreUnavailable(_CROWDED, 1)

    async def _catch_up(self) -> None:
        if self.account.is_stale or self.account.doubt is not None:
            await self._read()
        if (change := self.account.doubt) is not None:
            # The write has not arrived, but still may. So send the same write again: the one that arrives
            # first counts, and the other meets a conflict.
            await self._send(change)

    async def _plan(self, purpose: Purpose) -> Change:
        change = self.account.plan(purpose, new_id(), self._clock())
        if purpose is not Purpose.TAKE or not change.is_empty or self.account.is_fresh(self._clock()):
            return change
        # The row had nothing left when it was last seen. Other instances may have given back since.
        await self._read()
        return self.account.plan(purpose, new_id(), self._clock())

    async def _write(self, change: Change) -> None:
        if change.is_empty:
            self.account.skip_write(change)
            return
        self.account.before_write(change)
        try:
            await self._send(change)
        except Conflict:
            self.account.after_conflict(change)
            raise

    async def _read(self) -> None:
        row = await self._store.read_ledger(self.account.key)
        self.account.after_read(row, self._clock())

    async def _send(self, change: Change) -> None:
        row = await self._store.write_ledger(self.account.key, change.row)
        self.account.after_write(change, row, self._clock())
