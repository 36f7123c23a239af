"""Made-up names, guessed codes and slow bodies: what does a known attendee notice?

`python -m tools.attack.crowd URL CODE` is the crowd, in a process of its own.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import aiohttp

from tools.processes import Child, attached, resident_bytes

from .flood import Note, Plan, chat
from .stage import BARE, DAY, Stage
from .times import CALLS, measured, milliseconds

_NAMES, _SLOW_BODIES = 2000, 100
_TICK_SECONDS, _GUESSES, _CALLS = 0.02, 10, 4  # in a tick
_MOST_RUNNING = 600  # with the slow ones
_BODY = chat("Hi", BARE)


async def crowd(stage: Stage, plan: Plan) -> Note:
    code = await stage.add_event(**{DAY: 1_000_000_000})
    child, url = stage.instances[0]
    async with measured(url, code) as idle:
        await asyncio.sleep(plan.seconds / 2)
    before = resident_bytes(child.pid)
    with Child("crowd", attached(Path(sys.executable), "tools.attack.crowd", url, code)) as others:
        await asyncio.to_thread(others.expect, "begun", 20)
        async with measured(url, code) as crowded:
            await asyncio.sleep(plan.seconds)
        grown = resident_bytes(child.pid) - before
    calls = f"calls: {milliseconds(crowded[CALLS])} (idle: {milliseconds(idle[CALLS])})"
    return Note(f"{calls}; memory: {before / 2**20:.0f} MB, then {grown / 2**20:+.0f} MB")


async def _crowd(url: str, code: str) -> None:
    running = set[asyncio.Task[None]]()

    def start(credential: str, body: object) -> None:
        task = asyncio.create_task(_post(http, url, credential, body))
        running.add(task)
        task.add_done_callback(running.discard)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for _ in range(_SLOW_BODIES):
            start(f"{code}/slow", _slow_body())
        print("begun", flush=True)
        for tick in count():
            wrong = [f"guess-{tick * _GUESSES + n}/eve" for n in range(_GUESSES)]
            names = [f"{code}/made-up-{(tick * _CALLS + n) % _NAMES}" for n in range(_CALLS)]
            for credential in (wrong + names) * (len(running) < _MOST_RUNNING):
                start(credential, _BODY)
            await asyncio.sleep(_TICK_SECONDS)


async def _slow_body() -> AsyncIterator[bytes]:
    """4 MB at once, and then a byte a second."""
    yield b'{"x":"' + b"x" * 4 * 2**20
    while True:
        await asyncio.sleep(1)
        yield b"x"


async def _post(http: aiohttp.ClientSession, url: str, credential: str, body: object) -> None:
    with suppress(aiohttp.ClientError, TimeoutError):
        headers = {"api-key": credential}
        async with http.post(f"{url}/v1/chat/completions", data=body, headers=headers) as got:
            await got.read()


if __name__ == "__main__":
    asyncio.run(_crowd(*sys.argv[1:]))
