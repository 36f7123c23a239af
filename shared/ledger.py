"""Accounts that many instances draw on at once: exact together, and nearly free for each.

The row in the table is the truth of what has been *granted*. An instance takes a small block by a
conditional write, spends it from memory, and gives back what lies idle. So no two instances can
give the same request away, and most calls need no table at all.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

from .errors import StoreUnavailable

SHARE: Final = 16
"""A block is this part of what remains: it shrinks to one as the limit comes near."""

MAX_TRIES: Final = 12
REMEMBERED_SECONDS: Final = 1.0
"""An empty account is not asked again sooner: a client in a loop costs no table calls."""

_INSTANCE: Final = os.urandom(6).hex()
_numbers = count(1)


class Amount(NamedTuple):
    """Of requests and of LLM tokens."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.requests + other.requests, self.tokens + other.tokens)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.requests - other.requests, self.tokens - other.tokens)

    def covers(self, other: Amount) -> bool:
        return self.requests >= other.requests and self.tokens >= other.tokens

    def at_least(self, other: Amount) -> Amount:
        return Amount(max(self.requests, other.requests), max(self.tokens, other.tokens))

    def at_most(self, other: Amount) -> Amount:
        return Amount(min(self.requests, other.requests), min(self.tokens, other.tokens))

    def where_drawn(self, drawn: Amount) -> Amount:
        """This amount in the units of which something was drawn."""
        return Amount(self.requests if drawn.requests else 0, self.tokens if drawn.tokens else 0)

    def where(self, limited: Amount) -> Amount:
        """This amount in the units that have a limit, and nothing in the others."""
        return Amount(
            self.requests if limited.requests < ENDLESS else 0, self.tokens if limited.tokens < ENDLESS else 0
        )


NOTHING: Final = Amount()
ENDLESS: Final = 2**62
"""Stands for "no limit"; amounts are whole numbers, so that sums stay exact."""


class Key(NamedTuple):
    """A row of the table `quotas`: partition key and row key."""

    event_code: str
    row: str


class Row(NamedTuple):
    """One account in the table. `version` is its ETag; None where there is no row yet."""

    granted: Amount = NOTHING
    used: Amount = NOTHING
    writer: str = ""
    """Who wrote it last: tells after a lost answer whether the write arrived."""
    version: str | None = None

    @property
    def taken(self) -> Amount:
        """What is gone for good: what was granted, or used while that unit had no limit."""
        return self.granted.at_least(self.used)


class Conflict(Exception):
    """The row has changed since it was read."""


class LedgerStore(Protocol):
    async def read(self, key: Key) -> Row:
        """The row; an empty one where there is none.

        Raises:
            StoreUnavailable: the table does not answer.
        """

    async def write(self, key: Key, row: Row) -> Row:
        """Write if nobody has since `row.version`; returns the row with its new version.

        Raises:
            Conflict: somebody has.
            StoreUnavailable: the table does not answer: whether it wrote is not known.
        """


class Held(NamedTuple):
    """What was set aside. `drawn` is what came out of a grant: units without a limit are not granted."""

    amount: Amount
    drawn: Amount


class _Change(NamedTuple):
    """One write to the row: what it returns, takes and tells, and the version that it was made for."""

    writer: str
    version: str | None
    returned: Amount
    taken: Amount
    spent: Amount


class Account:
    """One account as this instance sees it. What is held or spent changes without an await.

    `clock` gives seconds and never goes back; `sleep` waits before another try.
    """

    def __init__(
        self,
        key: Key,
        store: LedgerStore,
        largest_block: Amount,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.key = key
        self.limit = Amount(ENDLESS, ENDLESS)
        self.used_at = clock()
        self.row = Row()
        self.spare = NOTHING
        """Granted to us and free. Tokens may be below zero: an answer may cost more than was held for it."""
        self.held = NOTHING
        self.spent = NOTHING
        """Used, and not yet told to the table."""
        self._store = store
        self._largest_block = largest_block
        self._clock = clock
        self._sleep = sleep
        self._wanted = NOTHING
        self._known = False
        self._limit_seen = self.limit
        self._empty_until = clock()
        self._doubt: _Change | None = None
        self._writing: asyncio.Task[None] | None = None

    async def hold(self, wanted: Amount, least: Amount) -> Held | None:
        """Set `wanted` aside, or what is left when that is at least `least`; None when it is not.

        Raises:
            StoreUnavailable: the table does not answer, and what is here does not suffice.
        """
        self.used_at = self._clock()
        if self.limit == self._limit_seen:
            if held := self._take(wanted):
                return held
            if self.used_at < self._empty_until:
                return self._take_rest(least)
        return await self._hold_after_grant(wanted, least)

    def settle(self, held: Held, used: Amount) -> None:
        """Replace what was held by what was used: that much of it stays drawn, more becomes a debt."""
        self.spare = self.spare.plus(held.drawn.minus(used.where_drawn(held.drawn)))
        self.held = self.held.minus(held.amount)
        self.spent = self.spent.plus(used)
        self.used_at = self._clock()

    def release(self, held: Held) -> None:
        """Take a hold back as if it had never been."""
        self.settle(held, NOTHING)

    @property
    def remaining(self) -> Amount:
        """What is left for new calls: in the row, as this instance last saw it, and in its own hands."""
        free = self.limit.minus(self.row.taken).at_least(NOTHING)
        return free.plus(self.spare).at_least(NOTHING).at_most(self.limit)

    @property
    def used(self) -> Amount:
        """What was used, as far as this instance knows, calls still running included."""
        return self.row.used.plus(self.spent).plus(self.held)

    @property
    def is_settled(self) -> bool:
        """Whether the table knows everything: nothing lent, nothing held, nothing to tell."""
        return self.spare == self.held == self.spent == NOTHING and self._doubt is None

    async def refresh(self) -> None:
        """Read the row, for numbers that are true now.

        Raises:
            StoreUnavailable: the table does not answer.
        """
        await self._alone(self._read)

    async def give_back(self) -> None:
        """Return what is not held, and tell what was used.

        Raises:
            StoreUnavailable: the table does not answer; it can be tried again.
        """
        while self._writing is not None:
            await asyncio.wait([self._writing])
        await self._alone(lambda: self._exchange(take=False))

    def _take(self, wanted: Amount) -> Held | None:
        drawn = wanted.where(self.limit)
        if not self.spare.where(self.limit).covers(drawn):
            return None
        self.spare = self.spare.minus(drawn)
        self.held = self.held.plus(wanted)
        return Held(wanted, drawn)

    def _take_rest(self, least: Amount) -> Held | None:
        return self._take(Amount(least.requests, max(self.spare.tokens, least.tokens)))

    async def _hold_after_grant(self, wanted: Amount, least: Amount) -> Held | None:
        self._wanted = self._wanted.plus(wanted)
        try:
            for _ in range(MAX_TRIES * 4):
                # A write that was under way before this call was counted may leave it out.
                counted = self._writing is None
                await self._alone(lambda: self._exchange(take=True))
                if held := self._take(wanted):
                    return held
                if counted and self._clock() < self._empty_until:
                    return self._take_rest(least)
        except StoreUnavailable:
            if self._known and (rest := self._take_rest(least)):
                return rest
            raise
        finally:
            self._wanted = self._wanted.minus(wanted)
        raise StoreUnavailable("Too many calls at once. Try again.", 1)

    async def _alone(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One exchange with the table at a time; who comes meanwhile waits for it. It outlives its caller."""
        if self._writing is None:
            self._writing = asyncio.create_task(work())
            self._writing.add_done_callback(self._ended)
        await asyncio.shield(self._writing)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._writing = None
        if not task.cancelled():
            task.exception()  # taken note of, also where every caller has left

    async def _read(self) -> None:
        self.row = await self._store.read(self.key)
        self._known = True
        self._resolve()

    def _resolve(self) -> None:
        """Find out whether a write whose answer was lost arrived.

        Where nobody can tell, because others wrote since, the block is lost: never is it there twice.
        """
        change, self._doubt = self._doubt, None
        if change is None:
            return
        if self.row.writer == change.writer:
            self.spare = self.spare.plus(change.taken)
        elif self.row.version == change.version:
            self._undo(change)

    def _undo(self, change: _Change) -> None:
        self.spare = self.spare.plus(change.returned)
        self.spent = self.spent.plus(change.spent)

    async def _exchange(self, *, take: bool) -> None:
        """Return, tell and take, in one conditional write; again where another instance was faster."""
        for attempt in range(MAX_TRIES):
            if not self._known or self._doubt is not None:
                await self._read()
            try:
                return await self._write(take=take)
            except Conflict:
                self._known = False
                await self._sleep(random.random() * min(0.01 * 2**attempt, 0.5))  # noqa: S311 - jitter
        raise StoreUnavailable("Too many calls at once. Try again.", 1)

    async def _write(self, *, take: bool) -> None:
        limit = self.limit
        returned = NOTHING if take and limit == self._limit_seen else self.spare
        free = limit.minus(self.row.taken.minus(returned)).at_least(NOTHING).where(limit)
        taken = self._block(free, returned) if take else NOTHING
        change = _Change(f"{_INSTANCE}-{next(_numbers)}", self.row.version, returned, taken, self.spent)
        if taken != returned or change.spent != NOTHING:
            await self._send(change)
        self._limit_seen = limit
        left = free.minus(taken)
        short = self._wanted.where(limit).minus(self.spare)
        is_empty = take and any(need > 0 and not rest for need, rest in zip(short, left, strict=True))
        self._empty_until = self._clock() + (REMEMBERED_SECONDS if is_empty else 0)

    async def _send(self, change: _Change) -> None:
        granted = self.row.granted.minus(change.returned).plus(change.taken)
        row = Row(granted, self.row.used.plus(change.spent), change.writer, change.version)
        # Out of our hands before it is in the table's, so that it cannot be spent meanwhile.
        self.spare = self.spare.minus(change.returned)
        self.spent = self.spent.minus(change.spent)
        self._doubt = change
        try:
            self.row = await self._store.write(self.key, row)
        except Conflict:
            self._doubt = None
            self._undo(change)
            raise
        self._doubt = None
        self.spare = self.spare.plus(change.taken)

    def _block(self, free: Amount, returned: Amount) -> Amount:
        """What callers wait for, and a share of what is free for those to come."""
        share = Amount(free.requests // SHARE, free.tokens // SHARE).at_most(self._largest_block)
        missing = self._wanted.where(self.limit).minus(self.spare.minus(returned))
        return share.at_least(missing).at_most(free).at_least(NOTHING)
