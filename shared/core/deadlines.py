"""Time limits that share one timer: a timer for each would cost 1 to 2 % of a call."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType
from typing import Protocol


class Timed(Protocol):
    """What has a deadline. It is a key of a dictionary."""

    def late(self) -> None:
        """The deadline is over."""


class Deadlines:
    """The deadlines of all that run."""

    def __init__(self) -> None:
        """Create it inside the running loop."""
        self._due: dict[Timed, float] = {}
        self._next = math.inf
        """When the timer ends."""
        self._timer: asyncio.TimerHandle | None = None
        self.loop = asyncio.get_running_loop()

    def begin(self, timed: Timed, seconds: float) -> None:
        """Call `timed.late` after `seconds`, unless `end` is called before."""
        self._due[timed] = due = self.loop.time() + seconds
        if due < self._next:
            self._wait(due)

    def end(self, timed: Timed) -> None:
        """Forget its deadline, if it has one. The timer runs on, for what comes next."""
        self._due.pop(timed, None)

    def _wait(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self.loop.call_at(due, self._check)

    def _check(self) -> None:
        now = self.loop.time()
        late = [timed for timed, due in self._due.items() if due <= now]
        for timed in late:
            del self._due[timed]
        self._timer, self._next = None, math.inf
        if self._due:
            self._wait(min(self._due.values()))
        for timed in late:
            timed.late()


class TimeLimit:
    """Raises TimeoutError in its block after `seconds`, as `asyncio.timeout` does."""

    __slots__ = ("_cancelling", "_deadlines", "_is_late", "_seconds", "_task")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._is_late = False

    def __enter__(self) -> None:
        task = asyncio.current_task(self._deadlines.loop)
        if task is None:
            raise RuntimeError("A time limit needs a task.")
        self._task, self._cancelling = task, task.cancelling()
        self._deadlines.begin(self, self._seconds)

    def late(self) -> None:
        self._is_late = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._deadlines.end(self)
        if not self._is_late:
            return
        is_own = self._task.uncancel() <= self._cancelling
        if is_own and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
