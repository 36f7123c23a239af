"""Background loops go on after every exception, and callers that share a task share no exception."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.errors import StoreUnavailable
from shared.core.loops import LONGEST_PAUSE_SECONDS, repeat, shared_result


class Work:
    """Work that fails for a number of times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0
        self.has_succeeded = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise [ValueError("odd"), StoreUnavailable(), KeyError(1)][self.runs % 3]
        self.has_succeeded.set()


async def test_loop_that_fails_logs_its_name_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(failures=3)
    loop = asyncio.create_task(repeat(work, 0.001, "The test"))
    async with asyncio.timeout(10):
        await work.has_succeeded.wait()
    loop.cancel()
    assert work.runs >= 4
    assert caplog.text.count("The test failed") == 3


async def test_cancelled_loop_ends() -> None:
    loop = asyncio.create_task(repeat(Work(0), 600, "The test"))
    await asyncio.sleep(0)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


async def test_loop_ends_when_it_is_no_longer_needed() -> None:
    work = Work(0)
    async with asyncio.timeout(10):
        await repeat(work, 0, "The test", lambda: work.runs < 3)
    assert work.runs == 3


async def test_pause_doubles_up_to_a_minute_and_returns_to_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep, own_task = asyncio.sleep, asyncio.current_task()

    async def note(seconds: float) -> None:
        if asyncio.current_task() is not own_task:
            return await sleep(seconds)
        pauses.append(seconds)
        return await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    work = Work(failures=7)
    await repeat(work, 5, "The test", lambda: work.runs < 9)
    assert pauses == [5, 10, 20, 40, LONGEST_PAUSE_SECONDS, *[LONGEST_PAUSE_SECONDS] * 3, 5]


async def test_each_caller_of_a_shared_task_gets_an_exception_of_its_own() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise StoreUnavailable("Not set up.", 30)

    task = asyncio.create_task(fail())
    first, second = await asyncio.gather(shared_result(task), shared_result(task), return_exceptions=True)
    assert isinstance(first, StoreUnavailable) and isinstance(second, StoreUnavailable)
    assert first is not second and first.headers is not second.headers
    assert first.message == second.message == "Not set up."
    assert first.headers == second.headers == {b"retry-after": b"30"}
