"""Waiting without sleeping: whoever changes something rings, and whoever waits looks again."""

import asyncio
from collections.abc import Callable


class Bell:
    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
