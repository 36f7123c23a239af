"""Deadlines end late blocks only, and keep cancellations from outside."""

from __future__ import annotations

import asyncio

import pytest

from shared.core.deadlines import Deadlines

SHORT = 0.05


class Late(Exception):
    pass


async def test_a_late_block_ends_with_the_given_error() -> None:
    with pytest.raises(Late), Deadlines(SHORT, Late).block():
        await asyncio.sleep(30)


async def test_a_block_that_ended_in_time_is_not_interrupted_later() -> None:
    deadlines = Deadlines(SHORT, Late)
    for _ in range(3):
        with deadlines.block():
            await asyncio.sleep(0)
    await asyncio.sleep(SHORT * 4)


async def test_each_block_has_its_full_time() -> None:
    deadlines, order = Deadlines(0.3, Late), []

    async def takes(name: int, seconds: float) -> None:
        try:
            with deadlines.block():
                await asyncio.sleep(seconds)
            order.append((name, "in time"))
        except Late:
            order.append((name, "late"))

    async with asyncio.TaskGroup() as group:
        group.create_task(takes(1, 30))
        await asyncio.sleep(0.2)
        group.create_task(takes(2, 0.2))  # would be late if it shared the first one's deadline
        group.create_task(takes(3, 30))
    assert order == [(1, "late"), (2, "in time"), (3, "late")]


async def test_a_cancellation_from_outside_is_kept() -> None:
    async def block() -> None:
        with Deadlines(30, Late).block():
            await asyncio.sleep(30)

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_outside_wins_over_a_simultaneous_deadline() -> None:
    deadlines = Deadlines(30, Late)

    async def block() -> None:
        with deadlines.block() as _, block_of:
            await asyncio.sleep(30)

    block_of = deadlines.block()
    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    block_of.is_late()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_in_a_late_block_is_raised_without_a_pending_cancellation() -> None:
    async def block() -> None:
        try:
            with Deadlines(SHORT, Late).block():
                try:
                    await asyncio.sleep(30)
                finally:
                    raise ValueError
        except ValueError:
            await asyncio.sleep(0)

    await asyncio.create_task(block())


async def test_blocks_can_be_nested() -> None:
    with pytest.raises(Late), Deadlines(SHORT, Late).block(), Deadlines(30, ValueError).block():
        await asyncio.sleep(30)
    with pytest.raises(Late), Deadlines(30, ValueError).block(), Deadlines(SHORT, Late).block():
        await asyncio.sleep(30)
