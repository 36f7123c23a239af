"""Runs timer functions at their times on the host's loop, each at most once at a time.

Times are UTC (WEBSITE_TIME_ZONE is not heeded). No run is remembered after a restart: `past_due` is false.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from azure.functions.timer import TimerRequest

from .functions import TimerFunction
from .invocation import ThreadPool, invoker

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Timers:
    def __init__(self, functions: Iterable[TimerFunction], threads: ThreadPool, clock: Clock = _now) -> None:
        self._functions = tuple(functions)
        self._threads = threads
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._repeat(one), name=one.handler.name) for one in self._functions
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, function: TimerFunction) -> None:
        if function.run_on_startup:
            await self._run(function)
        while True:
            await self._sleep_until(function.schedule.next_after(self._clock()))
            await self._run(function)

    async def _sleep_until(self, moment: datetime) -> None:
        # sleeps may end early and the machine's clock may be set meanwhile
        while True:
            seconds = (moment - self._clock()).total_seconds()
            if seconds <= 0:
                return
            await asyncio.sleep(min(seconds, 60))

    async def _run(self, function: TimerFunction) -> None:
        try:
            result = await invoker(function.handler, self._threads)(TimerRequest(past_due=False))
            if result is not None:
                raise RuntimeError("a timer function without a $return binding returned a value")
        except Exception:
            _log.exception("%s failed", function.handler.name)
