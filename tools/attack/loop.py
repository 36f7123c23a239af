"""Eight of the bodies that are slowest to read, at once: how long does everyone else wait?"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

from .flood import Note, Plan, chat
from .stage import BARE, Stage
from .times import EVENTS, HEALTH, measured, milliseconds

_ROUNDS = 2
_LONGEST_SECONDS = 0.05


def _bodies() -> list[bytes]:
    """Each is almost 7 MB: many members, deep objects, a policy member twice, a long enum."""
    head, depth = chat("Hi", BARE).removesuffix("}"), 1_100_000
    members = ",".join(f'"{number:06}":0' for number in range(600_000))
    deep = '"x":' + '{"a":' * depth + "0" + "}" * depth
    twice = f'"user":"{"x" * 6_900_000}","model":"{BARE}"'
    enum = ",".join(f'"a long entry, number {number:06}"' for number in range(200_000))
    tools = f'"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"enum":[{enum}]}}}}}}]'
    return [f"{head},{more}}}".encode() for more in (members, deep, twice, tools)]


async def loop(stage: Stage, _: Plan, *, valid: bool) -> Note:
    code, url = await stage.add_event(requests_per_day=1_000_000), stage.urls[0]
    async with measured(url, code) as idle:
        await asyncio.sleep(2)
    credential = f"{code if valid else 'no-such-event'}/eve"
    bodies, send = _bodies() * 2, asyncio.get_running_loop().run_in_executor
    with ThreadPoolExecutor(len(bodies)) as pool:  # so that sending does not delay what is measured
        async with measured(url, code) as waits:
            await asyncio.sleep(0.2)
            for _round in range(_ROUNDS):
                await asyncio.gather(*(send(pool, partial(_post, url, credential), body) for body in bodies))
    found = "; ".join(
        f"{kind}: {milliseconds(waits[kind])} (idle: longest {1000 * max(idle[kind]):.1f} ms)"
        for kind in (HEALTH, EVENTS)
    )
    return Note(found, failed=max(waits[HEALTH] + waits[EVENTS]) > _LONGEST_SECONDS)


def _post(url: str, credential: str, body: bytes) -> None:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"api-key": credential})
        connection.getresponse()
    except OSError:
        pass  # the app may close the connection before it has read the whole body
    finally:
        connection.close()
