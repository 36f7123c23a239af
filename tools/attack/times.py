"""How long others wait for one instance. Its upstream is a process of its own, which delays nothing."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from statistics import median, quantiles
from time import perf_counter

import aiohttp

from tools.bench.upstream import TIME

from .flood import chat
from .stage import BARE, USER

HEALTH, CALLS, EVENTS = "healthz", "calls", "events"
"""An event waits from the upstream's write of it until it arrives."""

_PACED, _PLAIN = chat("every 10 ms", BARE, stream=True), chat("Hi", BARE)
_Send = Callable[[], AbstractAsyncContextManager[aiohttp.ClientResponse]]


@asynccontextmanager
async def measured(url: str, code: str) -> AsyncIterator[dict[str, list[float]]]:
    """Measures while the block runs. Yields the seconds of each kind."""
    waits, path = defaultdict[str, list[float]](list), f"{url}/v1/chat/completions"
    headers = {"api-key": f"{code}/{USER}"}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.TaskGroup() as group:
        loops = (
            _responses(lambda: http.get(f"{url}/healthz"), waits[HEALTH]),
            _responses(lambda: http.post(path, data=_PLAIN), waits[CALLS]),
            _events(lambda: http.post(path, data=_PACED), waits[EVENTS]),
        )
        tasks = [group.create_task(loop) for loop in loops]
        yield waits
        for task in tasks:
            task.cancel()


async def _responses(send: _Send, waits: list[float]) -> None:
    while True:
        began = perf_counter()
        async with send() as response:
            await response.read()
        waits.append(perf_counter() - began)
        await asyncio.sleep(0.01)


async def _events(send: _Send, waits: list[float]) -> None:
    while True:
        async with send() as response:
            async for data in response.content.iter_any():
                now = perf_counter()
                waits.extend(now - float(at) for at in TIME.findall(data))


def milliseconds(seconds: list[float]) -> str:
    p99 = quantiles(seconds, n=100, method="inclusive")[98]
    figures = (median(seconds), p99, max(seconds))
    return "median {:.1f}, p99 {:.1f}, longest {:.1f} ms".format(*(1000 * one for one in figures))
