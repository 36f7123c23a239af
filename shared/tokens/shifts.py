"""The threads that count prompts. Those of long prompts work in shifts: none waits for the end of another.

The tokenizer holds the interpreter's lock, so threads that count at the same time would stop the event loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

SHIFT_SECONDS = 0.02

MOST_THREADS = 64
"""Further long prompts wait for the end of one of these."""

P = ParamSpec("P")
T = TypeVar("T")


class Shifts:
    """Lets one thread work at a time. The others wait in a queue."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False
        self._began_at = 0.0

    def run(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Work in shifts, which `pause` ends."""
        self._begin()
        _own.shifts = self
        try:
            return work(*arguments, **named)
        finally:
            _own.shifts = None
            self._end()

    def pause(self) -> None:
        """If others wait and the shift is over, let all of them work before this thread goes on."""
        if self._waiting and time.monotonic() - self._began_at >= SHIFT_SECONDS:
            self._end()
            self._begin()

    def _begin(self) -> None:
        with self._lock:
            turn = threading.Event() if self._is_taken else None
            if turn is not None:
                self._waiting.append(turn)
            self._is_taken = True
        if turn is not None:
            turn.wait()
        self._began_at = time.monotonic()

    def _end(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False


class _Own(threading.local):
    shifts: Shifts | None = None


_own = _Own()
_long = Shifts()


def pause() -> None:
    """Call it where a long count can be interrupted. Anywhere else, it does nothing."""
    if (shifts := _own.shifts) is not None:
        shifts.pause()


@cache
def thread(is_long: bool) -> ThreadPoolExecutor:
    """The thread for short prompts, which never wait for long ones, and the threads for long ones."""
    return ThreadPoolExecutor(max_workers=MOST_THREADS if is_long else 1, thread_name_prefix="tokens")


def in_shifts(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """`work` of a long prompt, in one of its threads."""
    return _long.run(work, *arguments, **named)
