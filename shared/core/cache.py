"""Keeps values from the tables in memory for some seconds, and loads each key once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import StoreUnavailable

K = TypeVar("K")
V = TypeVar("V")

MISSING_SHARE = 1 / 6
"""A missing key is kept for this share of the time: its row may be added at any moment."""

RETRY_SECONDS = 2.0
"""During an outage of the tables, the last known value is used and the tables are retried this often."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V | None
    fresh_until: float


class Cache(Generic[K, V]):
    """Keeps the values that `load` returns, for at most `limit` keys.

    None means that the key does not exist, and is kept for less time. `clock` returns seconds and never goes
    back.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V | None]],
        seconds: float,
        clock: Callable[[], float],
        limit: int = 10_000,
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._limit = limit
        self._entries: dict[K, _Entry[V]] = {}
        self._loading: dict[K, asyncio.Task[V | None]] = {}

    def fresh(self, key: K) -> V | None:
        """The value of `key` if it is in memory and fresh. Faster than `get`, because it never awaits."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and self._clock() < entry.fresh_until else None

    async def get(self, key: K) -> V | None:
        """The value of `key`, from memory if fresh, else loaded. Simultaneous callers share one load.

        Raises:
            StoreUnavailable: the value cannot be loaded, and no older value is in memory.
        """
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.fresh_until:
            return entry.value
        loading = self._loading.get(key)
        if loading is None:
            # A separate task, so that the load continues for the others if its first caller is cancelled.
            loading = self._loading[key] = asyncio.create_task(self._refresh(key))
            loading.add_done_callback(lambda task: self._end_load(key, task))
        return await asyncio.shield(loading)

    def last(self, key: K) -> V | None:
        """The value of `key` in memory, fresh or not."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    async def _refresh(self, key: K) -> V | None:
        try:
            value = await self._load(key)
        except StoreUnavailable:
            entry = self._entries.get(key)
            if entry is None or entry.value is None:
                raise
            entry.fresh_until = self._clock() + min(RETRY_SECONDS, self._seconds)
            return entry.value
        self._keep(key, value)
        return value

    def _keep(self, key: K, value: V | None) -> None:
        seconds = self._seconds if value is not None else self._seconds * MISSING_SHARE
        self._entries.pop(key, None)
        self._entries[key] = _Entry(value, self._clock() + seconds)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def _end_load(self, key: K, task: asyncio.Task[V | None]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # if every caller was cancelled, asyncio would log it as never retrieved
