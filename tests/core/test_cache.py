"""The short memory in front of the tables, with a clock that only the test moves."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.cache import MISSING_SHARE, RETRY_SECONDS, Cache
from shared.core.errors import StoreUnavailable

SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Store:
    """Gives what it was told to; with `hold`, only when `release` is set."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.down = False
        self.asked: list[str] = []
        self.hold = False
        self.began = asyncio.Event()
        self.release = asyncio.Event()

    async def load(self, key: str) -> str | None:
        self.asked.append(key)
        self.began.set()
        if self.hold:
            await self.release.wait()
        if self.down:
            raise StoreUnavailable
        return self.values.get(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
def cache(store: Store, clock: Clock) -> Cache[str, str]:
    return Cache(store.load, SECONDS, clock)


async def begun(store: Store, cache: Cache[str, str]) -> asyncio.Task[str | None]:
    """A caller that waits in `load`."""
    store.hold = True
    task = asyncio.create_task(cache.get("a"))
    await store.began.wait()
    return task


async def test_a_value_is_loaded_once_while_it_is_fresh(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    assert await cache.get("a") == "1"
    clock.seconds += SECONDS - 0.001
    assert await cache.get("a") == "1"
    assert store.asked == ["a"]


async def test_a_value_is_loaded_again_once_its_time_is_over(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    store.values["a"] = "2"
    clock.seconds += SECONDS
    assert await cache.get("a") == "2"


async def test_many_callers_wait_for_one_load(cache: Cache[str, str], store: Store) -> None:
    store.values["a"] = "1"
    callers = [await begun(store, cache), *(asyncio.create_task(cache.get("a")) for _ in range(20))]
    store.release.set()
    assert await asyncio.gather(*callers) == ["1"] * 21
    assert store.asked == ["a"]


async def test_different_keys_do_not_wait_for_one_another(cache: Cache[str, str], store: Store) -> None:
    store.values["b"] = "2"
    first = await begun(store, cache)
    store.hold = False
    assert await cache.get("b") == "2"
    assert not first.done()
    store.release.set()
    assert await first is None


async def test_a_first_caller_that_leaves_does_not_take_the_others_with_it(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    first = await begun(store, cache)
    others = [asyncio.create_task(cache.get("a")) for _ in range(3)]
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.release.set()
    assert await asyncio.gather(*others) == ["1"] * 3
    assert store.asked == ["a"]


async def test_a_load_that_everybody_left_still_fills_the_memory(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    first = await begun(store, cache)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    store.release.set()
    assert await cache.get("a") == "1"
    assert store.asked == ["a"]


async def test_that_there_is_none_is_remembered_for_a_shorter_time(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    assert await cache.get("a") is None
    store.values["a"] = "1"
    clock.seconds += SECONDS * MISSING_SHARE - 0.001
    assert await cache.get("a") is None
    clock.seconds += 0.002
    assert await cache.get("a") == "1"


async def test_an_old_value_serves_while_the_store_is_down_and_the_store_is_asked_again(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    store.values["a"] = "1"
    await cache.get("a")
    store.down = True
    clock.seconds += SECONDS
    assert await cache.get("a") == "1"
    assert await cache.get("a") == "1"
    assert store.asked == ["a"] * 2
    clock.seconds += RETRY_SECONDS
    assert await cache.get("a") == "1"
    assert store.asked == ["a"] * 3
    store.down, store.values["a"] = False, "2"
    clock.seconds += RETRY_SECONDS
    assert await cache.get("a") == "2"


async def test_without_an_old_value_the_outage_is_told_and_not_remembered(
    cache: Cache[str, str], store: Store
) -> None:
    store.values["a"] = "1"
    store.down = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await cache.get("a")
    store.down = False
    assert await cache.get("a") == "1"


async def test_that_there_was_none_does_not_serve_in_an_outage(
    cache: Cache[str, str], store: Store, clock: Clock
) -> None:
    await cache.get("a")
    store.down = True
    clock.seconds += SECONDS
    with pytest.raises(StoreUnavailable):
        await cache.get("a")


async def test_every_waiting_caller_is_told_of_the_outage(cache: Cache[str, str], store: Store) -> None:
    store.down = True
    callers = [await begun(store, cache), *(asyncio.create_task(cache.get("a")) for _ in range(3))]
    store.release.set()
    told = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in told] == [StoreUnavailable] * 4


async def test_beyond_the_limit_the_oldest_key_is_forgotten(store: Store, clock: Clock) -> None:
    cache = Cache(store.load, SECONDS, clock, limit=2)
    for key in "aabbcbc":
        await cache.get(key)
    assert store.asked == ["a", "b", "c"]
    await cache.get("a")
    assert store.asked == ["a", "b", "c", "a"]


async def test_no_seconds_mean_that_every_call_asks(store: Store, clock: Clock) -> None:
    cache = Cache(store.load, 0, clock)
    store.values["a"] = "1"
    await cache.get("a")
    await cache.get("a")
    assert store.asked == ["a", "a"]
