"""Time in tests: a clock that a test moves by hand, and a wait for work in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


async def until(is_reached: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_reached():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not reached in 20 seconds")
