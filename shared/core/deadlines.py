"""Limits in time for what awaits: one timer for all that may take equally long, not one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol


class Waiting(Protocol):
    """What is told when it has taken its time."""

    def is_late(self) -> None: ...


class Overdue:
    """Tells whoever has been here for `seconds`, once. It belongs to the loop in which it is first used."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Waiting, float] = {}
        """The oldest first: it is also the first to be late."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Kept: up to Python 3.11 asyncio makes a system call to find it out."""
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
    """Makes blocks that may take `seconds`; one that takes longer ends by the error that `late` makes."""

    def __init__(self, seconds: float, late: Callable[[], Exception]) -> None:
        self.late = late
        self.overdue = Overdue(seconds)

    def block(self) -> Block:
        """For `with`, around what awaits."""
        return Block(self)


class Block:
    """What `asyncio.timeout` promises of cancellation, this does too."""

    __slots__ = ("_cancelling", "_deadlines", "_is_late", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_late = False

    def __enter__(self) -> None:
        overdue = self._deadlines.overdue
        task = asyncio.current_task(overdue.loop)
        if task is None:
            raise RuntimeError("a deadline needs a task to end")
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
