"""Spreads simultaneous calls over turns of the event loop, so that streams can continue in between."""

from __future__ import annotations

import asyncio
from collections import deque

LARGE_BYTES = 256 * 1024
"""Work on a larger body takes up to 30 ms, so it waits for a turn: two such works in one turn would stop the
event loop for too long."""


class Turns:
    """Lets one caller through in each turn of the event loop, in order of arrival.

    A single caller does not wait. Without turns, a hundred simultaneous calls would block the loop together.
    With them, the loop can pass on stream chunks between any two calls (docs/decisions/0058). Each `Turns`
    belongs to one event loop.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        """Whether a caller has used the current turn."""

    async def wait(self) -> None:
        """Wait for a free turn, and take it."""
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # a cancelled caller's future is done
                first.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._is_taken = False
