"""Notices when a client leaves while its call is served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from ..functions.http import Client


class ClientLeft(Exception):
    """The client closed the connection while its call was served."""


def _ends() -> float:
    return 0.0


class Departure:
    """A block that ends with `ClientLeft` when the client leaves, or `seconds_left` later.

    It does not begin if the client has left before.
    """

    __slots__ = ("_client", "_is_over", "_task", "_timer", "seconds_left")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._is_over = False
        self.seconds_left: Callable[[], float] = _ends
        """Called when the client leaves: how long the call may continue without it."""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Departure:
        if self._client.has_left:
            raise ClientLeft
        self._task = asyncio.current_task()
        self._client.on_leave = self._leave
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._client.on_leave = None
        if self._timer is not None:
            self._timer.cancel()
        if self._is_over and kind is not None and issubclass(kind, asyncio.CancelledError):
            if self._task is not None:
                self._task.uncancel()
            raise ClientLeft

    def _leave(self) -> None:
        seconds = self.seconds_left()
        if seconds <= 0:
            self._end()  # without a timer: until it runs, the call could still be sent
        elif seconds < math.inf:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
