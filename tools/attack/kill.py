"""Ten instances are killed: what part of a user's limit is lost with each?"""

import asyncio
from contextlib import suppress
from dataclasses import replace

import aiohttp

from tools.simulator import Answer

from . import flood
from .flood import Attack, Note, Plan, chat
from .stage import DAY, USER, Stage

_KILLS = 10
_SETTLE_SECONDS = 15.0
"""For so long, a refusal says that the killed instances may return what they hold (docs/quota.md)."""
_ANSWER = Answer("A glove box keeps what is inside apart from the air of the room around it. " * 20)
_ATTACK = Attack("", chat("Hi", max_tokens=400), 0, _ANSWER, tokens_per_second=4000)


async def kill(stage: Stage, plan: Plan, *, clients: int, pause: float, limit: int) -> Note:
    """Each client waits `pause` seconds between its calls. What cannot be used up afterwards is lost."""
    attack = replace(_ATTACK, limit=limit)
    code = await flood.prepare(stage, attack, DAY)
    for _ in range(_KILLS):
        with stage.instance(PROXY_QUOTA_IDLE_SECONDS="15") as (child, url):
            async with asyncio.TaskGroup() as group:
                for _ in range(clients):
                    group.create_task(_client(url, code, pause))
                await asyncio.sleep(1)
                child.kill()
    used = stage.billed
    longer = replace(plan, seconds=plan.seconds + _SETTLE_SECONDS)
    outcome = await flood.use_up(stage, longer, attack, DAY, code)
    lost = (limit - outcome.billed) / limit / _KILLS
    rest = "" if outcome.reached else "; the rest was not used up in time"
    return Note(f"{lost:.2%} of {limit:,} tokens lost for each kill; the killed used {used:,}{rest}")


async def _client(url: str, code: str, pause: float) -> None:
    """Calls until the instance is gone."""
    headers = {"api-key": f"{code}/{USER}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        with suppress(aiohttp.ClientError):
            while True:
                async with http.post(f"{url}/v1/chat/completions", data=_ATTACK.body) as got:
                    await got.read()
                await asyncio.sleep(pause)
