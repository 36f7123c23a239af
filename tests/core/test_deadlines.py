"""Time limits that share one timer end what they should, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.deadlines import Deadlines, TimeLimit

NEVER = 600.0


class Entry:
    def __init__(self, name: str, late: list[str]) -> None:
        self.name = name
        self._late = late

    def late(self) -> None:
        self._late.append(self.name)


async def waits(deadlines: Deadlines, seconds: float) -> None:
    with TimeLimit(deadlines, seconds):
        await asyncio.sleep(NEVER)


async def test_shorter_limit_that_begins_later_ends_first() -> None:
    deadlines = Deadlines()
    long, short = (asyncio.create_task(waits(deadlines, seconds)) for seconds in (0.05, 0.01))
    for task in (short, long):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 10)
        assert long.done() is (task is long)


async def test_only_what_has_not_ended_is_late() -> None:
    deadlines, late = Deadlines(), list[str]()
    entries = [Entry(name, late) for name in ("ended", "first", "second", "far")]
    for entry, seconds in zip(entries, (0, 0, 0.01, NEVER), strict=True):
        deadlines.begin(entry, seconds)
    deadlines.end(entries[0])
    deadlines.end(entries[0])
    while len(late) < 2:  # noqa: ASYNC110 - the timer gives no sign
        await asyncio.sleep(0)
    assert late == ["first", "second"]


async def test_block_that_ends_in_time_is_not_cancelled_later() -> None:
    deadlines, late = Deadlines(), list[str]()
    with TimeLimit(deadlines, 0):
        pass
    deadlines.begin(Entry("next", late), 0)
    while not late:  # noqa: ASYNC110 - the timer gives no sign
        await asyncio.sleep(0)


async def test_cancellation_from_outside_stays_one() -> None:
    task = asyncio.create_task(waits(Deadlines(), 0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_exception_that_the_end_of_the_block_raises_comes_through() -> None:
    with pytest.raises(ValueError, match="own"), TimeLimit(Deadlines(), 0):
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            raise ValueError("own") from None
    await asyncio.sleep(0)


async def test_outer_limit_ends_the_outer_block() -> None:
    deadlines = Deadlines()
    with pytest.raises(TimeoutError), TimeLimit(deadlines, 0):
        try:
            await waits(deadlines, NEVER)
        except TimeoutError:
            pytest.fail("The inner limit was not over.")
