"""All APIs mixed over four processes: quotas and usage are what the simulator billed, and never above a limit."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from shared.quota.amounts import Amount
from tests.conftest import Stage
from tests.quota.helpers import row_key
from tests.quota.test_quota_processes import IDLE_SECONDS, process
from tools.simulator import CutStream
from tools.simulator.journal import Call

pytestmark = pytest.mark.one_python

_log = logging.getLogger(__name__)

CLIENTS, TURNS = 24, 6
CHAT, RESPONSES, EMBEDDINGS, IMAGES = "chat/completions", "responses", "embeddings", "images/generations"
WORDS = "Tell me about glove boxes, gloves and boxes of gloves in a box."
PICTURE: Any = {"prompt": "a glove box", "quality": "low", "size": "1024x1024"}


@dataclass
class Mixed:
    """The processes, with one model for each kind of call."""

    stage: Stage
    urls: list[str]
    http: aiohttp.ClientSession
    models: dict[str, str]
    """By API; `cut` is one whose streams the upstream cuts."""
    ids: dict[str, str] = field(default_factory=dict)
    """The last response of each client."""
    statuses: Counter[int] = field(default_factory=Counter)

    async def call(self, who: str, api: str, *, kind: str = "", leaves: bool = False, **body: Any) -> None:
        """Any process serves it. A client that `leaves` reads one piece of a stream and closes it."""
        url = f"{random.choice(self.urls)}/v1/{api}"
        body = {"model": self.models[kind or api]} | body
        async with self.http.post(url, headers={"api-key": who}, json=body) as response:
            self.statuses[response.status] += 1
            if leaves and response.status == 200:
                await response.content.readany()
                response.close()
                return
            try:
                text = await response.text()
            except aiohttp.ClientPayloadError:
                return
        if api == RESPONSES and response.status == 200 and not kind:
            self.ids[f"{who} {body['user']}"] = _last_id(text)

    async def turn(self, event: str, client: int, turn: int) -> None:
        """One call of a client. Those of amy have a usage; the streams of bob are cut or left."""
        amy, bob, name = f"{event}/amy", f"{event}/bob", f"client-{client}"
        previous = self.ids.get(f"{amy} {name}")
        response: dict[str, Any] = {"input": WORDS, "user": name, "previous_response_id": previous}
        messages = [{"role": "user", "content": WORDS}]
        match (client + turn) % 8:
            case 0 | 1:
                await self.call(amy, RESPONSES, stream=turn % 2 == 0, **response)
            case 2:
                await self.call(amy, CHAT, messages=messages, stream=client % 2 == 0)
            case 3:
                await self.call(amy, EMBEDDINGS, input=[WORDS, WORDS])
            case 4:
                await self.call(amy, IMAGES, **PICTURE, stream=client % 2 == 0, partial_images=client % 2)
            case 5:
                await self.call(bob, RESPONSES, kind="cut", input=WORDS, stream=True)
            case 6:
                await self.call(bob, CHAT, kind="cut", messages=messages, stream=True)
            case _:
                api, asked = ((RESPONSES, {"input": WORDS}), (CHAT, {"messages": messages}))[client % 2]
                await self.call(bob, api, kind="left", leaves=True, stream=True, **asked)

    async def run(self, event: str) -> None:
        async def client(number: int) -> None:
            for turn in range(TURNS):
                await self.turn(event, number, turn)

        await asyncio.gather(*map(client, range(CLIENTS)))
        await self.stage.simulator.until(lambda calls: all(call.ended for call in calls))

    def calls(self, *kinds: str) -> list[Call]:
        """Without the stored responses that an instance has read."""
        models = [self.models[kind] for kind in kinds]
        calls = self.stage.simulator.calls
        return [call for call in calls if call.deployment in models and call.method == "POST"]


def _last_id(text: str) -> str:
    """The id of a whole response, or of the last event of a stream."""
    if text.startswith("{"):
        return str(json.loads(text)["id"])
    return str(json.loads(text.rpartition("data: ")[2])["response"]["id"])


@pytest.fixture
async def mixed(stage: Stage, environment: dict[str, str]) -> AsyncIterator[Mixed]:
    both = ("chat", "responses")
    models = {
        RESPONSES: await stage.add_deployment(apis=both),
        CHAT: await stage.add_deployment(apis=both),
        EMBEDDINGS: await stage.add_deployment("text-embedding-3-small", apis=("embeddings",)),
        IMAGES: await stage.add_deployment("gpt-image-1", apis=("images",)),
        "cut": await stage.add_deployment(apis=both),
        "left": await stage.add_deployment(apis=both),
    }
    stage.simulator.always(models["cut"], CutStream(6))
    settings = environment | {"PROXY_CACHE_SECONDS": "30", "PROXY_QUOTA_IDLE_SECONDS": str(IDLE_SECONDS)}
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        starting = (stack.enter_async_context(process(settings, f"app {n}")) for n in range(4))
        yield Mixed(stage, [url for _, url in await asyncio.gather(*starting)], http, models)


def billed(calls: list[Call]) -> int:
    return sum(call.billed.total for call in calls)


async def charged(stage: Stage, event: str, user: str, calls: list[Call]) -> Amount:
    """What the quota row and the usage rows of a user hold, once they agree on all these calls."""
    for _ in range(100):
        row = await stage.tables.read_ledger(row_key(event, user))
        counts = [row.counts for row in await stage.tables.usage(event) if row.user == user]
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in counts)
        usage = Amount(sum(one.requests for one in counts), tokens)
        if row.granted == row.used == usage and usage.requests == len(calls):
            return usage
        await asyncio.sleep(0.1)
    raise AssertionError((len(calls), row, usage))


NO_LIMIT = {"requests_per_day": 10_000, "tokens_per_day": 10_000_000}
LIMITS = [
    {"requests_per_day": 60},
    {"tokens_per_day": 6_000, "max_output_tokens": 100},
    {"tokens_total": 12_000, "max_output_tokens": 100},
]


async def test_four_processes_charge_all_apis_what_was_billed_and_keep_every_limit(mixed: Mixed) -> None:
    stage = mixed.stage
    for limits in LIMITS:
        event = await stage.add_event(models=(), default_model=None, **NO_LIMIT | limits)
        mixed.statuses.clear()
        stage.simulator._journal.clear()
        await mixed.run(event)
        assert set(mixed.statuses) == {200, 429}

        exact, cut = mixed.calls(RESPONSES, CHAT, EMBEDDINGS, IMAGES), mixed.calls("cut", "left")
        amy = await charged(stage, event, "amy", exact)
        bob = await charged(stage, event, "bob", cut)
        assert all(call.usage == call.billed for call in exact)
        assert amy.tokens == billed(exact)
        assert bob.tokens >= billed(cut) > 0
        assert sum(bool(call.json.get("previous_response_id")) for call in exact) > 0
        _log.info("%s: %s, amy %s, bob %s for %s", limits, mixed.statuses, amy, bob, billed(cut))

        assert max(amy.requests, bob.requests) <= limits.get("requests_per_day", 10_000)
        assert max(amy.tokens, bob.tokens) <= limits.get("tokens_per_day", 10_000_000)
        assert amy.tokens + bob.tokens <= limits.get("tokens_total", 10_000_000)
