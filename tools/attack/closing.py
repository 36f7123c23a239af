"""Made-up names hold an event's total with prompts that the model refuses, and are charged nothing."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from time import monotonic

import aiohttp

from tools.simulator import Answer, Deployment, TooLong
from tools.simulator.behaviours import ApiRequest
from tools.simulator.wire import Response

from .flood import Note, Plan, chat
from .stage import PICTURES, TEXT, TOTAL, Stage

_NAMES = 24
_LARGE = chat("!1" * 97_500, TEXT)  # a token for each byte: more than the model's context
_SMALL = chat("Hi", PICTURES, max_tokens=100)
_LIMIT = 2_000_000
_MOST_REFUSED = 0.02


@dataclass(frozen=True, slots=True)
class _SlowRefusal:
    def respond(self, request: ApiRequest) -> Response:
        return replace(TooLong().respond(request), headers_seconds=0.3)


async def closing(stage: Stage, plan: Plan) -> Note:
    code = await stage.add_event(**{TOTAL: _LIMIT})
    stage.simulator.reset()
    stage.deployments.update({TEXT: Deployment(), PICTURES: Deployment(tokens_per_second=50)})
    stage.simulator.always(TEXT, _SlowRefusal())
    stage.simulator.always(PICTURES, Answer("Yes."))
    honest, others, ends_at = Counter[int](), Counter[int](), monotonic() + plan.seconds

    async def loop(user: str, body: str, statuses: Counter[int]) -> None:
        for turn in count():
            if monotonic() > ends_at:
                return
            url = f"{stage.urls[turn % len(stage.urls)]}/v1/chat/completions"
            async with http.post(url, data=body, headers={"api-key": f"{code}/{user}"}) as got:
                statuses[got.status] += 1
                await got.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        made_up = (loop(f"made-up-{number}", _LARGE, others) for number in range(_NAMES))
        await asyncio.gather(loop("honest", _SMALL, honest), *made_up)
    calls, refused = honest.total(), honest.total() - honest[200]
    charged = (await stage.used(code, TOTAL)).tokens
    names = ", ".join(f"{number} x {status}" for status, number in others.most_common())
    text = f"{refused} of {calls} honest calls refused; {_NAMES} names: {names}; charged {charged:,} tokens"
    return Note(text, failed=refused > calls * _MOST_REFUSED)
