"""Notices when a client leaves while its call is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from ..functions.http import Receive

WATCH_AFTER_SECONDS = 0.05
"""Only calls that take longer are watched. For shorter ones, the watch would cost more than it saves."""


class ClientLeft(Exception):
    """The client closed the connection while its call was served."""


class Watch:
    """Starts to watch the client of each call that takes `WATCH_AFTER_SECONDS`.

    One timer serves all calls, because a timer for each would cost 2 % of a call. A `Watch` belongs to the
    event loop of its first use.
    """

    def __init__(self) -> None:
        self._due: dict[Departure, float] = {}
        """In the order of arrival, which is also the order of the times."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Kept, because up to Python 3.11 asyncio makes a system call to find it."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def enter(self, departure: Departure) -> None:
        loop = self._loop or self.loop
        self._due[departure] = due = loop.time() + WATCH_AFTER_SECONDS
        if self._timer is None:
            self._timer = loop.call_at(due, self._check, loop)

    def leave(self, departure: Departure) -> None:
        self._due.pop(departure, None)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._due:
            departure, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._check, loop)
                return
            self.leave(departure)
            departure.watch()


def _ends() -> float:
    return 0.0


class Departure:
    """Raises `ClientLeft` in the block when the client leaves, at once or after some seconds."""

    __slots__ = ("_left", "_receive", "_task", "_watch", "_watching", "seconds_left")

    def __init__(self, receive: Receive, watch: Watch) -> None:
        self._receive = receive
        self._watch = watch
        self._left = False
        self.seconds_left: Callable[[], float] = _ends
        """Called when the client leaves: how long the call may continue without it."""
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> Departure:
        self._task = asyncio.current_task(self._watch.loop)
        self._watch.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._watch.leave(self)
        if self._watching is not None:
            self._watching.cancel()
        if self._left and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._task is not None:
                self._task.uncancel()
            raise ClientLeft

    def watch(self) -> None:
        """Begin to watch the client."""
        self._watching = self._watch.loop.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(self.seconds_left())
        self._left = True
        if self._task is not None:
            self._task.cancel()
