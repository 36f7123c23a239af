"""Deadlines that share a timer: all blocks with the same time limit need only one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Waiting(Protocol):
    """Has a deadline."""

    def is_late(self) -> None:
        """The deadline has passed."""


class Overdue:
    """Calls `is_late` once for each member after `seconds`. Belongs to the event loop that first uses it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Waiting, float] = {}
        """The oldest first, which is also the first to be late."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Kept, because `get_running_loop` makes a system call up to Python 3.11."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def enter(self, waiting: Waiting) -> None:
        loop = self._loop or self.loop
        self._due[waiting] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look, loop)

    def leave(self, waiting: Waiting) -> None:
        self._due.pop(waiting, None)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._due:
            waiting, due = next(iter(self._due.items()))
            if due > now:
                self._timer = loop.call_at(due, self._look, loop)
                return
            self.leave(waiting)
            waiting.is_late()


class Deadlines:
    """Gives blocks of code a time limit of `seconds`. A late block ends with the error from `late`."""

    def __init__(self, seconds: float, late: Callable[[], Exception]) -> None:
        self.late = late
        self.overdue = Overdue(seconds)

    def block(self) -> Block:
        """A context manager for the code that has the time limit."""
        return Block(self)


class Block:
    """Handles cancellation as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_deadlines", "_is_late", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_late = False

    def __enter__(self) -> None:
        overdue = self._deadlines.overdue
        task = asyncio.current_task(overdue.loop)
        if task is None:
            raise RuntimeError("a deadline can only be used inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        overdue.enter(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._deadlines.overdue.leave(self)
        if not self._is_late:
            return
        is_ours = self._task.uncancel() <= self._cancelling
        if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise self._deadlines.late() from error

    def is_late(self) -> None:
        self._is_late = True
        self._task.cancel()
