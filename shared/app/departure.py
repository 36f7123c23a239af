"""Notices when a client leaves while its call is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from ..core.deadlines import Deadlines
from ..functions.http import Receive

WATCH_AFTER_SECONDS = 0.05
"""Only calls that take longer are watched. For shorter ones, the watch would cost more than it saves."""


class ClientLeft(Exception):
    """The client closed the connection while its call was served."""


def _no_seconds() -> float:
    return 0.0


class Departure:
    """A block that ends with `ClientLeft` when the client leaves, or `seconds_left` later."""

    __slots__ = ("_deadlines", "_has_left", "_receive", "_task", "_watching", "seconds_left")

    def __init__(self, receive: Receive, deadlines: Deadlines) -> None:
        self._receive = receive
        self._deadlines = deadlines
        self._has_left = False
        self.seconds_left: Callable[[], float] = _no_seconds
        """Called when the client leaves: how long the block may continue without it."""
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Departure:
        self._task = asyncio.current_task(self._deadlines.loop)
        self._deadlines.begin(self, WATCH_AFTER_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._deadlines.end(self)
        if self._watching is not None:
            self._watching.cancel()
        if self._has_left and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._task is not None:
                self._task.uncancel()
            raise ClientLeft

    def late(self) -> None:
        """The block has taken `WATCH_AFTER_SECONDS`: begin to watch the client."""
        self._watching = self._deadlines.loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(self.seconds_left())
        self._has_left = True
        if self._task is not None:
            self._task.cancel()
