"""Work that repeats in the background, and work that several callers wait for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import StoreUnavailable

_log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 60.0
"""After repeated failures, the pause grows up to this, unless the ordinary pause is longer."""

T = TypeVar("T")


async def repeat(
    work: Callable[[], Awaitable[object]],
    pause_seconds: float,
    name: str,
    is_needed: Callable[[], object] = lambda: True,
) -> None:
    """Run `work` after each pause, for as long as it is needed.

    An exception never ends the loop: it is logged with `name`, and the pause doubles until `work` succeeds.
    """
    pause = pause_seconds
    while is_needed():
        await asyncio.sleep(pause)
        try:
            await work()
        except Exception:
            pause = min(max(pause * 2, 0.1), max(LONGEST_PAUSE_SECONDS, pause_seconds))
            _log.exception("%s failed. It runs again in %.1f seconds.", name, pause)
        else:
            pause = pause_seconds


async def shared_result(task: asyncio.Task[T]) -> T:
    """The result of a task that several callers wait for. It continues if a caller is cancelled.

    Raises:
        StoreUnavailable: the tables do not respond. Each caller gets an exception of its own, so that nothing
            that one caller adds to it reaches another.
    """
    try:
        return await asyncio.shield(task)
    except StoreUnavailable as error:
        raise StoreUnavailable(error.message, error.retry_after_seconds) from error
