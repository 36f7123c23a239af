"""One in each turn of the loop: for what is short, but long beside what must not wait."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Lets one through in each turn of the loop, in the order in which they came; one alone does not wait.

    So a hundred that come at once do not hold the loop together: between any two of them it does what else is
    ready, such as passing on what a stream has brought (docs/decisions/0058 and 0059). It belongs to the loop
    in which it is used.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False
        """Whether somebody has had this turn."""

    async def wait(self) -> None:
        """Until it is our turn."""
        loop = asyncio.get_running_loop()
        if self._is_taken:
            ours = loop.create_future()
            self._waiting.append(ours)
            await ours
        else:
            self._is_taken = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # it is where its caller was cancelled
                first.set_result(None)
                loop.call_soon(self._next, loop)
                return
        self._is_taken = False
