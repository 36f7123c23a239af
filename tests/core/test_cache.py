"""The cache in front of the tables."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.cache import PATIENCE_SECONDS, RETRY_SECONDS, Cache
from shared.core.errors import StoreUnavailable
from tests.clock import Clock

SECONDS = 30.0


class Store:
    """A table in memory. While `is_blocked`, a load waits for `release`."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.down = False
        self.loads: list[str] = []
        self.is_blocked = False
        self.began = asyncio.Event()
        self.release = asyncio.Event()

    async def load(self, key: str) -> str | None:
        self.loads.append(key)
        self.began.set()
        if self.is_blocked:
            await self.release.wait()
        if self.down:
            raise StoreUnavailable
        return self.values.get(key)


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
def cache(store: Store, clock: Clock) -> Cache[str, str]:
    return Cache(store.load, SECONDS, clock)


async def blocked_load(store: Store, cache: Cache[str, str]) -> asyncio.Task[str | None]:
    """A caller that waits for the store."""
    store.is_blocked = True
    task = asyncio.create_task(cache.get("a"))
    await store.began.wait()
    return task


async def test_a_fresh_value_is_loaded_once(cache: Cache[str, str], store: Store, clock: Clock) -> None:
    store.values["a"] = "1"
    assert await cache.get("a") == "1"
    clock.seconds += SECONDS - 0.001
    assert await cache.get("a") == "1"
    assert store.loads == ["a"]


async def test_an_expired_value_is_loaded_again(cache: Cache[str, str], store: Store, clock: Clock) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    store.values["a"] = "2"
    clock.seconds += SECONDS
    assert await cache.get("a") == "2"


async def test_simultaneous_callers_share_one_load(cache: Cache[str, str], store: Store) -> None:
    store.values["a"] = "1"
    callers = [await blocked_load(store, cache), *(asyncio.create_task(cache.get("a")) for _ in range(20))]
    store.release.set()
    assert await asyncio.gather(*callers) == ["1"] * 21
    assert store.loads == ["a"]


async def test_a_load_does_not_delay_other_keys(cache: Cache[str, str], store: Store) -> None:
    store.values["b"] = "2"
    first = await blocked_load(store, cache)
    store.is_blocked = False
    assert await cache.get("b") == "2"
    assert not first.done()
    store.release.set()
    assert await first is None


async def test_cancelling_the_first_caller_does_not_cancel_the_others(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    first = await blocked_load(store, cache)
    others = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.release.set()
    assert await asyncio.gather(*others) == ["1"] * 3
    assert store.loads == ["a"]


async def test_a_load_continues_after_its_only_caller_is_cancelled(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    first = await blocked_load(store, cache)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.release.set()
    assert await cache.get("a") == "1"
    assert store.loads == ["a"]


async def test_a_missing_key_is_not_kept(cache: Cache[str, str], store: Store) -> None:
    assert await cache.get("a") is None
    store.values["a"] = "1"
    assert await cache.get("a") == "1"


async def test_missing_keys_do_not_push_out_a_value(store: Store, clock: Clock) -> None:
    cache = Cache(store.load, SECONDS, clock, limit=2)
    store.values["a"] = "1"
    await cache.get("a")
    for number in range(10):
        await cache.get(f"missing-{number}")
    store.down = True
    clock.seconds += SECONDS
    assert await cache.get("a") == "1"


async def test_a_key_that_is_removed_from_the_store_is_forgotten(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    del store.values["a"]
    clock.seconds += SECONDS
    assert await cache.get("a") is None
    assert cache.last("a") is None


async def test_an_old_value_is_used_during_an_outage_while_the_store_is_retried(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    store.down = True
    clock.seconds += SECONDS
    assert await cache.get("a") == "1"
    assert await cache.get("a") == "1"
    assert store.loads == ["a"] * 2
    clock.seconds += RETRY_SECONDS
    assert await cache.get("a") == "1"
    assert store.loads == ["a"] * 3
    store.down, store.values["a"] = False, "2"
    clock.seconds += RETRY_SECONDS
    assert await cache.get("a") == "2"


async def test_without_an_old_value_an_outage_is_raised_and_not_kept(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    store.down = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await cache.get("a")
    store.down = False
    assert await cache.get("a") == "1"


async def test_a_missing_key_raises_during_an_outage(cache: Cache[str, str], store: Store) -> None:
    await cache.get("a")
    store.down = True
    with pytest.raises(StoreUnavailable):
        await cache.get("a")


async def test_while_a_load_hangs_an_old_value_is_used(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    clock.seconds += SECONDS
    store.values["a"] = "2"
    store.is_blocked = True
    async with asyncio.timeout(PATIENCE_SECONDS + 10):
        assert await asyncio.gather(*(cache.get("a") for _ in range(5))) == ["1"] * 5
    assert cache.fresh("a") == "1", "later callers do not wait again"
    store.release.set()
    clock.seconds += RETRY_SECONDS
    assert await cache.get("a") == "2"
    assert store.loads == ["a", "a"], "the same load goes on"


async def test_an_outage_is_raised_for_every_waiting_caller_by_an_exception_of_its_own(
    cache: Cache[str, str], store: Store
) -> None:
    store.down = True
    callers = [await blocked_load(store, cache), *(asyncio.create_task(cache.get("a")) for _ in range(3))]
    store.release.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in results] == [StoreUnavailable] * 4
    assert len({id(one) for one in results}) == 4


async def test_above_the_limit_the_oldest_key_is_removed(store: Store, clock: Clock) -> None:
    cache = Cache(store.load, SECONDS, clock, limit=2)
    store.values = dict.fromkeys("abc", "1")
    for key in "aabbcbc":
        await cache.get(key)
    assert store.loads == ["a", "b", "c"]
    await cache.get("a")
    assert store.loads == ["a", "b", "c", "a"]


async def test_with_zero_seconds_every_call_loads(store: Store, clock: Clock) -> None:
    cache = Cache(store.load, 0, clock)
    store.values["a"] = "1"
    await cache.get("a")
    await cache.get("a")
    assert store.loads == ["a", "a"]
