"""Keeps values from the tables in memory for some seconds, and loads each key once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .errors import StoreUnavailable
from .loops import shared_result

K = TypeVar("K")
V = TypeVar("V")

RETRY_SECONDS = 2.0
"""During an outage of the tables, the last known value is used and the tables are retried this often."""

PATIENCE_SECONDS = 0.5
"""A load that takes longer goes on in the background, while callers get the last known value."""


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    fresh_until: float


class Cache(Generic[K, V]):
    """Keeps the values that `load` returns, for at most `limit` keys.

    None means that the key does not exist. It is not kept, so unknown keys need no memory. `clock` returns
    seconds and never goes back.
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
        loading = self._loading.get(key) or self._start_load(key)
        if entry is None:
            return await shared_result(loading)
        await asyncio.wait([loading], timeout=PATIENCE_SECONDS)
        if loading.done():
            return await shared_result(loading)
        self._use_for_now(entry)
        return entry.value

    def preload(self, key: K) -> None:
        """Start to load `key`, for callers that will soon need it, unless a load runs or has ended."""
        if key not in self._entries and key not in self._loading:
            self._start_load(key)

    def put(self, key: K, value: V) -> None:
        """Keep `value` as if it were just loaded."""
        self._keep(key, value)

    def is_loading(self, key: K) -> bool:
        """Whether a load of `key` runs, which `get` would share."""
        return key in self._loading

    def last(self, key: K) -> V | None:
        """The value of `key` in memory, fresh or not."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def _start_load(self, key: K) -> asyncio.Task[V | None]:
        # A separate task, so that the load continues for the others if its first caller is cancelled.
        loading = self._loading[key] = asyncio.create_task(self._refresh(key))
        loading.add_done_callback(lambda task: self._end_load(key, task))
        return loading

    async def _refresh(self, key: K) -> V | None:
        try:
            value = await self._load(key)
        except StoreUnavailable:
            entry = self._entries.get(key)
            if entry is None:
                raise
            self._use_for_now(entry)
            return entry.value
        self._keep(key, value)
        return value

    def _use_for_now(self, entry: _Entry[V]) -> None:
        entry.fresh_until = self._clock() + min(RETRY_SECONDS, self._seconds)

    def _keep(self, key: K, value: V | None) -> None:
        self._entries.pop(key, None)
        if value is None:
            return
        self._entries[key] = _Entry(value, self._clock() + self._seconds)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def _end_load(self, key: K, task: asyncio.Task[V | None]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled():
            task.exception()  # if every caller was cancelled, asyncio would log it as never retrieved
