"""Waits for something that happens in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(is_reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_reached():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not reached in 20 seconds")
