"""Accounts that many instances draw on at once: exact together, and nearly free for each.

The row in the table is the truth of what has been *granted*. An instance takes a small block by a
conditional write, spends it from memory, and gives back what lies idle. So no two instances can
give the same request away, and most calls need no table at all.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum, auto
from math import inf
from typing import Any, Final, NamedTuple

from msgspec import Struct

from ..core.errors import StoreUnavailable
from ..core.ids import new_id
from .amounts import ENDLESS, NOTHING, Amount
from .blocks import SHARE, Blocks
from .ledger_row import Conflict, Key, LedgerStore, Row

MAX_TRIES: Final = 20
"""With the pauses between them about two seconds: an attendee waits for it."""

REMEMBERED_SECONDS: Final = 1.0
"""An account that refuses is not looked at again sooner: a client in a loop costs no more table calls."""

_CROWDED: Final = "Too many calls at once. Try again."


class Held(Struct, frozen=True, gc=False):
    """What was set aside. `drawn` is what came out of a grant: units without a limit are not granted."""

    amount: Amount
    drawn: Amount


class _Change(NamedTuple):
    """One write to the row: what it returns, takes and tells, and the limit that it was made for."""

    row: Row
    returned: Amount
    taken: Amount
    spent: Amount
    limit: Amount

    @property
    def is_none(self) -> bool:
        return self.taken == self.returned and self.spent == NOTHING


class _Purpose(Enum):
    """Of an exchange with the table. Each also tells what was used, and what is owed."""

    TAKE = auto()
    """another block"""
    TELL = auto()
    """nothing more"""
    GIVE_BACK = auto()
    """whatever is spare"""


class Account:
    """One account as this instance sees it. What is held or spent changes without an await.

    At all times the row's `granted` is what it says was used, and what all instances have in hand:
    spare, drawn for holds, and used but not yet told.

    `block` is the largest that is taken at once while calls are slow. `clock` gives seconds and never goes
    back; `sleep` waits before another try.
    """

    def __init__(
        self,
        key: Key,
        store: LedgerStore,
        block: Amount,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.key = key
        self.limit = Amount(ENDLESS, ENDLESS)
        self.correction = 1.0
        """Of the estimates for its calls: the quota's to keep, see `estimate.learned`."""
        self.used_at = clock()
        self.row = Row()
        """As last seen. At first it is taken to be missing: a first call is then one insert, and no read."""
        self.spare = NOTHING
        """Granted to us and free. Below zero, it is owed: an answer cost more than was held for it, or no
        limit was there when the call began."""
        self.held = NOTHING
        self.spent = NOTHING
        """Used, and not yet told to the table."""
        self._store = store
        self._blocks = Blocks(block, clock)
        self._clock = clock
        self._sleep = sleep
        self._wanted = NOTHING
        self._limit_seen = self.limit
        """The limit under which what is spare was granted."""
        self._seen_at = -inf
        self._is_outdated = False
        self._doubt: _Change | None = None
        self._writing: asyncio.Task[None] | None = None

    def take(self, wanted: Amount) -> Held | None:
        """Set `wanted` aside where what is in hand suffices: what `hold` gives, without an await."""
        self.used_at = self._clock()
        return self._take(wanted)

    async def hold(self, wanted: Amount, least: Amount) -> Held | None:
        """Set `wanted` aside, or what is left when that is at least `least`; None when it is not.

        Raises:
            StoreUnavailable: the table does not answer, and what is here does not suffice.
        """
        if held := self.take(wanted):
            return held
        if self._is_out_of(wanted):
            return self._take_rest(least)
        return await self._hold_after_grant(wanted, least)

    def settle(self, held: Held, used: Amount) -> None:
        """Replace what was held by what was used: that much of it stays drawn, more becomes a debt.

        The table is told of a debt at once, in the background: other instances give out the less.
        """
        self.spare = self.spare.plus(held.drawn).minus(used)
        self.held = self.held.minus(held.amount)
        self.spent = self.spent.plus(used)
        self.used_at = self._clock()
        if not held.drawn.covers(used):
            self._tell_debt()

    def release(self, held: Held) -> None:
        """Take a hold back as if it had never been."""
        self.settle(held, NOTHING)

    @property
    def remaining(self) -> Amount:
        """What is left for new calls: in the row, as this instance last saw it, and in its own hands.

        Nothing, where the row has not been seen: no more may be promised than there is.
        """
        if self._seen_at == -inf:
            return NOTHING
        (granted, granted_tokens), (used, used_tokens) = self.row.granted, self.row.used
        requests, tokens = self.spare
        limit, tokens_limit = self.limit
        return Amount(
            _left(limit, granted, used, requests),
            _left(tokens_limit, granted_tokens, used_tokens, tokens),
        )

    @property
    def used(self) -> Amount:
        """What was used, as far as this instance knows, calls still running included."""
        return self.charged.plus(self.held)

    @property
    def charged(self) -> Amount:
        """What calls that have ended used, as far as this instance knows."""
        telling = self._doubt.spent if self._doubt else NOTHING
        return self.row.used.plus(telling).plus(self.spent)

    @property
    def concerns_others(self) -> bool:
        """Whether they should not have to wait for long until the table is told.

        More is spare here than a block's share of what remains, by the row as it was last seen: after a call
        that held much and used little they may lack it. Or more was used than is granted, or a write's answer
        was lost: they may be given what is gone.
        """
        requests, tokens = self.spare.where(self.limit)
        is_large = not self.remaining.covers(Amount(requests * SHARE, tokens * SHARE))
        return is_large or self._owes or self._doubt is not None

    @property
    def is_told(self) -> bool:
        """Whether there is nothing to give back or to tell, and no write whose answer was lost."""
        return self.spare == self.spent == NOTHING and self._doubt is None

    @property
    def is_settled(self) -> bool:
        """Whether the table knows everything and nobody waits here: the account can be forgotten."""
        return self.is_told and self.held == self._wanted == NOTHING and self._writing is None

    async def refresh(self, *, remembered: bool = False) -> None:
        """Read the row, for numbers that are true now; `remembered`, for those of the last second.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        if not (remembered and self._is_fresh):
            await self._alone(self._read)

    async def give_back(self) -> None:
        """Return what is not held, and tell what was used.

        Raises:
            StoreUnavailable: the table does not answer; it can be tried again.
        """
        while self._writing is not None:
            await asyncio.wait([self._writing])
        self._blocks.gave_back(self.spare.where(self.limit))
        await self._alone(lambda: self._exchange(_Purpose.GIVE_BACK))

    @property
    def _owes(self) -> bool:
        return not self.spare.where(self.limit).covers(NOTHING)

    @property
    def _free(self) -> Amount:
        return self.limit.minus(self.row.granted.at_least(self.row.used)).at_least(NOTHING)

    def _take(self, wanted: Amount) -> Held | None:
        """None also when the limit was lowered since: then what is spare has to go back first."""
        limit, drawn = self.limit, wanted.where(self.limit)
        if not self.spare.where(limit).covers(drawn):
            return None
        if limit is not self._limit_seen and not limit.covers(self._limit_seen):
            return None
        self.spare = self.spare.minus(drawn)
        self.held = self.held.plus(wanted)
        return Held(wanted, drawn)

    def _take_rest(self, least: Amount) -> Held | None:
        return self._take(Amount(least.requests, max(self.spare.tokens, least.tokens)))

    def _is_out_of(self, wanted: Amount) -> bool:
        """Whether the row, seen a moment ago, has nothing left of whatever lacks."""
        if not (self.limit.covers(self._limit_seen) and self._is_fresh):
            return False
        lacking = wanted.minus(self.spare).where(self.limit)
        return all(lack <= 0 or free <= 0 for lack, free in zip(lacking, self._free, strict=True))

    @property
    def _is_fresh(self) -> bool:
        return self._clock() - self._seen_at < REMEMBERED_SECONDS

    async def _hold_after_grant(self, wanted: Amount, least: Amount) -> Held | None:
        self._wanted = self._wanted.plus(wanted)
        try:
            # More than once: a write that was under way before this call was counted may leave it out.
            for _ in range(MAX_TRIES * 4):
                await self._alone(lambda: self._exchange(_Purpose.TAKE))
                if held := self._take(wanted):
                    return held
                if self._is_out_of(wanted):
                    return self._take_rest(least)
        except StoreUnavailable:
            if rest := self._take(wanted) or self._take_rest(least):
                return rest
            raise
        finally:
            self._wanted = self._wanted.minus(wanted)
        raise StoreUnavailable(_CROWDED, 1)

    def _tell_debt(self) -> None:
        """Where another exchange runs, its end tells. One that fails is left to the next hold or sweep."""
        if self._writing is None and self._owes:
            self._begin(self._exchange(_Purpose.TELL))

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One exchange with the table at a time; who comes meanwhile waits for it. It outlives its caller."""
        writing = self._writing
        if writing is None or writing.done():  # done, and its end not yet told
            writing = self._begin(work())
        try:
            await asyncio.shield(writing)
        except StoreUnavailable as error:
            # One for each caller, who puts his own figures into its headers.
            raise StoreUnavailable(error.message, error.retry_after_seconds) from error

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._writing = asyncio.create_task(work)
        self._writing.add_done_callback(self._ended)
        return self._writing

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._writing is task:
            self._writing = None
        # The exception is taken note of, also where every caller has left.
        if not task.cancelled() and task.exception() is None:
            self._tell_debt()

    async def _exchange(self, purpose: _Purpose) -> None:
        """Return, tell and take, in one conditional write; again where another instance was faster."""
        if purpose is _Purpose.TAKE:
            self._blocks.used_up()
        for attempt in range(MAX_TRIES):
            try:
                await self._catch_up()
                change = self._plan(purpose)
                if purpose is _Purpose.TAKE and change.is_none and not self._is_fresh:
                    # Nothing to be had, by what was seen a while ago: others may have given back since.
                    await self._read()
                    change = self._plan(purpose)
                return await self._carry_out(change)
            except Conflict:
                self._is_outdated = True
                await self._sleep(random.random() * min(0.01 * 2**attempt, 0.25))  # noqa: S311 - jitter
        raise StoreUnavailable(_CROWDED, 1)

    async def _catch_up(self) -> None:
        if self._is_outdated or self._doubt is not None:
            await self._read()
        if self._doubt is not None:
            # It did not arrive, and still may. So the same once more: whichever comes first counts, and the
            # other meets a conflict.
            await self._send(self._doubt)

    async def _read(self) -> None:
        self._saw(await self._store.read(self.key))
        change = self._doubt
        if change is None or self.row.version == change.row.version:
            return
        if self.row.writer == change.row.writer:
            self._arrived(change)
        else:
            # Nobody can tell whether it arrived, for others wrote since. What is lost by it at most is one
            # block; what was owed is owed again, so that nothing is given away.
            self._doubt = None
            self.spare = self.spare.plus(change.returned.at_most(NOTHING))

    def _plan(self, purpose: _Purpose) -> _Change:
        keeps = purpose is not _Purpose.GIVE_BACK and self.limit.covers(self._limit_seen)
        returned = self.spare.at_most(NOTHING) if keeps else self.spare
        used = self.row.used.plus(self.spent)
        # Never below what was used, whatever somebody did to the row by hand.
        granted = self.row.granted.minus(returned).at_least(used)
        free = self.limit.minus(granted).at_least(NOTHING).where(self.limit)
        take = purpose is _Purpose.TAKE
        taken = self._next_block(free, self.spare.minus(returned)) if take else NOTHING
        row = Row(granted.plus(taken), used, new_id(), self.row.version)
        return _Change(row, returned, taken, self.spent, self.limit)

    def _next_block(self, free: Amount, kept: Amount) -> Amount:
        """What callers wait for; and for those to come, a share of what is free in all.

        What is kept of it counts, or the one of requests and tokens that lasts longer would pile up here.
        """
        missing = self._wanted.where(self.limit).minus(kept)
        fresh = self._blocks.share(free).minus(kept)
        return fresh.at_least(missing).at_least(NOTHING).at_most(free)

    async def _carry_out(self, change: _Change) -> None:
        if change.is_none:
            self._limit_seen = change.limit
            return
        # Out of our hands before it is in the table's, so that it cannot be spent meanwhile.
        self.spare = self.spare.minus(change.returned)
        self.spent = self.spent.minus(change.spent)
        try:
            await self._send(change)
        except Conflict:
            self._doubt = None
            self.spare = self.spare.plus(change.returned)
            self.spent = self.spent.plus(change.spent)
            raise

    async def _send(self, change: _Change) -> None:
        self._doubt = change
        self._saw(await self._store.write(self.key, change.row))
        self._arrived(change)

    def _saw(self, row: Row) -> None:
        self.row, self._seen_at, self._is_outdated = row, self._clock(), False

    def _arrived(self, change: _Change) -> None:
        self._doubt = None
        self.spare = self.spare.plus(change.taken)
        self._limit_seen = change.limit
        if change.taken != NOTHING:
            self._blocks.took(change.taken)


def _left(limit: int, granted: int, used: int, spare: int) -> int:
    gone = granted if granted > used else used
    left = spare + limit - gone if limit > gone else spare
    return 0 if left < 0 else left if left < limit else limit
