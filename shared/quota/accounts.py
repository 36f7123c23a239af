"""All accounts that this instance uses. Idle ones give back what they have, and are forgotten later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..core.errors import StoreUnavailable
from .account import Account
from .amounts import NO_LIMIT, Amount
from .exchange import Exchange
from .ledger_row import Key, LedgerStore
from .pace import Pace

_log = logging.getLogger(__name__)

KEPT_SECONDS = 900.0
MAX_KEPT = 2000
"""Above this number, idle accounts are forgotten sooner, because a client can invent any number of users."""
WRITES_AT_ONCE = 16
URGENT_DIVISOR = 3
"""An urgent write waits for this fraction of the time that a grant may lie idle."""


class Accounts:
    """The accounts, each with its exchange. `clock` returns seconds and never goes back."""

    def __init__(self, store: LedgerStore, idle_seconds: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._exchanges: dict[tuple[str, str], Exchange] = {}
        """By `Key`, which equals a plain tuple: that is cheaper to build, and every call needs one."""

    def __len__(self) -> int:
        return len(self._exchanges)

    def get(self, event_code: str, row: str, limit: Amount) -> Exchange | None:
        """The account with this key, under its current limit; None without a limit."""
        if limit is NO_LIMIT:
            return None
        exchange = self._exchanges.get((event_code, row))
        if exchange is None:
            key = Key(event_code, row)
            now = self._clock()
            account = Account(key, Pace(now), now)
            exchange = self._exchanges[key] = Exchange(account, self._store, self._clock)
        exchange.account.limit = limit
        return exchange

    async def give_back(self, *, everything: bool = False) -> None:
        """Return and report what idle accounts have in hand, or with `everything`, all accounts."""
        now = self._clock()
        due = [
            exchange
            for exchange in self._exchanges.values()
            if exchange.account.needs_write and (everything or self._is_due(exchange.account, now))
        ]
        for first in range(0, len(due), WRITES_AT_ONCE):
            await asyncio.gather(*map(_give_back, due[first : first + WRITES_AT_ONCE]))

    def forget(self) -> bool:
        """Forget accounts that were not used for long. Returns whether there were any.

        Until then they remember the version of their row, which saves a read when the user comes back.
        """
        now = self._clock()
        kept_seconds = KEPT_SECONDS if len(self._exchanges) <= MAX_KEPT else self._idle_seconds
        unused = [
            key
            for key, exchange in self._exchanges.items()
            if exchange.can_be_forgotten and now - exchange.account.used_at >= kept_seconds
        ]
        for key in unused:
            del self._exchanges[key]
        return bool(unused)

    def _is_due(self, account: Account, now: float) -> bool:
        unused_seconds = now - account.used_at
        if unused_seconds >= self._idle_seconds or account.has_surplus(now):
            return True
        urgent_seconds = self._idle_seconds / URGENT_DIVISOR
        if now - account.refused_at < urgent_seconds:
            return True  # what is too little here may be enough with what other instances have
        return unused_seconds >= urgent_seconds and account.is_urgent


async def _give_back(exchange: Exchange) -> None:
    try:
        await exchange.give_back()
    except StoreUnavailable:
        _log.warning("Cannot return unused quota: the tables do not respond. The next sweep tries again.")
    except Exception:  # one account must not stop the others
        _log.exception("Cannot return the unused quota of an account. The next sweep tries again.")
