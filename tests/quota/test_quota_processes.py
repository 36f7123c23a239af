"""Quotas over several processes of the app, on real tables: exact, and still so when one is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from shared.quota.blocks import SHARE
from shared.quota.estimate import prompt_tokens
from shared.quota.ledger_row import Key, Row
from tests.conftest import MODEL, QUESTION, Stage
from tools.processes import Child, attached
from tools.simulator import Answer

_log = logging.getLogger(__name__)

CLIENTS = 64
CAP = 100
IDLE_SECONDS = 0.3


@asynccontextmanager
async def process(environment: dict[str, str], name: str) -> AsyncIterator[tuple[Child, str]]:
    """One process of the app, and its address."""
    command = attached(Path(sys.executable), "tools.functions_host", "--port", "0")
    child = Child(name, command, env={**os.environ, **environment})
    try:
        line = await asyncio.to_thread(child.expect, "Functions host on ", 60)
        yield child, line.split()[-1]
    finally:
        await asyncio.to_thread(child.end)


@pytest.fixture(scope="module")
def settings(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PROXY_CACHE_SECONDS": "30", "PROXY_QUOTA_IDLE_SECONDS": str(IDLE_SECONDS)}


@pytest.fixture(scope="module")
async def urls(settings: dict[str, str], running: Stage) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:
        started = [stack.enter_async_context(process(settings, f"app {n}")) for n in range(4)]
        yield [url for _, url in [await one for one in started]]


Ask = Callable[[str], Awaitable[int]]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def asking(http: aiohttp.ClientSession, code: str, **body: object) -> Ask:
    async def ask(url: str) -> int:
        headers = {"api-key": f"{code}/amy"}
        async with http.post(f"{url}/v1/chat/completions", headers=headers, json=QUESTION | body) as answer:
            await answer.read()
            return answer.status

    return ask


async def hammer(ask: Ask, urls: list[str], calls: int) -> Counter[int]:
    """All clients at once, each going from instance to instance."""

    async def client(number: int) -> list[int]:
        return [await ask(urls[(number + turn) % len(urls)]) for turn in range(calls)]

    batches = await asyncio.gather(*map(client, range(CLIENTS)))
    return Counter(status for batch in batches for status in batch)


async def row_when(stage: Stage, code: str, true: Callable[[Row], bool]) -> Row:
    """The row of the day, as soon as it is so: within a bounded number of looks."""
    key = Key(code, f"amy:{datetime.now(UTC).date().isoformat()}")
    for _ in range(100):
        row = await stage.tables.read(key)
        if true(row):
            return row
        await asyncio.sleep(0.1)
    raise AssertionError(row)


def is_settled(row: Row) -> bool:
    return row.granted == row.used


async def the_rest(ask: Ask, stage: Stage, code: str, urls: list[str]) -> Counter[int]:
    """What an instance had in hand at the end is back in the row now, and can be asked for."""
    row = await row_when(stage, code, is_settled)
    await asyncio.sleep(1.1)  # longer than a refusal is remembered
    return Counter([await ask(urls[0]) for _ in range(500 - row.used.requests + 1)])


async def test_four_processes_and_64_clients_get_exactly_500(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(requests_per_day=500)
    ask = asking(http, code)
    statuses = await hammer(ask, urls, 12)
    at_once = statuses[200]
    statuses += await the_rest(ask, stage, code, urls)
    _log.info("%s of 500 at once; after what was left was given back: %s", at_once, dict(statuses))
    assert statuses[200] == 500 and set(statuses) == {200, 429}
    assert len(stage.simulator.calls) == stage.simulator.total(MODEL).calls == 500
    row = await row_when(stage, code, is_settled)
    assert row.granted.requests == row.used.requests == 500


async def test_streams_overshoot_a_token_quota_by_the_error_of_the_estimate_at_most(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    limit = 60_000
    stage.simulator.always(MODEL, Answer(prompt_tokens=200, completion_tokens=50))
    code = await stage.add_event(tokens_per_day=limit, max_output_tokens=CAP)
    statuses = await hammer(asking(http, code, stream=True), urls, 8)
    assert set(statuses) == {200, 429}
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert used == 250 * statuses[200]
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    error = 250 - (prompt_tokens(str(QUESTION).encode()) + CAP)
    _log.info("%s of %s tokens; the calls in flight could err by %s", row.used.tokens, limit, CLIENTS * error)
    # Of what is left, each instance may keep less than a call needs.
    assert limit - len(urls) * 300 <= row.used.tokens <= limit + CLIENTS * error


async def test_an_estimate_from_above_keeps_streams_within_a_token_quota(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(tokens_per_day=20_000, max_output_tokens=CAP)
    statuses = await hammer(asking(http, code, stream=True), urls, 8)
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert statuses[200] == total.calls and set(statuses) <= {200, 429}
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    assert row.used.tokens <= 20_000


async def test_a_process_that_is_killed_costs_one_block_at_most(
    stage: Stage, urls: list[str], settings: dict[str, str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(requests_per_day=500)
    ask = asking(http, code)
    never = settings | {"PROXY_QUOTA_IDLE_SECONDS": "600"}
    async with process(never, "the victim") as (child, url):
        assert await ask(url) == 200
        child.kill()
    block = 500 // SHARE
    key = Key(code, f"amy:{datetime.now(UTC).date().isoformat()}")
    assert (await stage.tables.read(key)).granted.requests == block
    statuses = await hammer(ask, urls, 9)
    lost = block - 1
    row = await row_when(stage, code, lambda row: row.granted.requests - row.used.requests == block)
    await asyncio.sleep(1.1)
    statuses += Counter([await ask(urls[0]) for _ in range(500 - row.granted.requests + 1)])
    assert set(statuses) == {200, 429}
    assert 1 + statuses[200] == 500 - lost
    _log.info("a kill cost %s of 500", lost)
    await row_when(stage, code, lambda row: row.granted.requests == 500)
