"""Quotas over several processes of the app, on real tables: they stay exact, even when a process is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from shared.quota.blocks import SHARE
from shared.quota.estimate import prompt_tokens
from shared.quota.ledger_row import Row
from tests.conftest import MODEL, QUESTION, Stage
from tests.quota.helpers import row_key
from tools.processes import Child, attached
from tools.simulator import Answer

_log = logging.getLogger(__name__)

CLIENTS = 64
CAP = 100
IDLE_SECONDS = 0.3


@asynccontextmanager
async def process(environment: dict[str, str], name: str) -> AsyncIterator[tuple[Child, str]]:
    """A process of the app, and its address."""
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


Call = Callable[[str], Awaitable[int]]
"""Makes a call to the instance at an address; returns the status."""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def caller(http: aiohttp.ClientSession, code: str, **body: object) -> Call:
    async def call(url: str) -> int:
        headers = {"api-key": f"{code}/amy"}
        async with http.post(f"{url}/v1/chat/completions", headers=headers, json=QUESTION | body) as response:
            await response.read()
            return response.status

    return call


async def call_from_all_clients(call: Call, urls: list[str], calls: int) -> Counter[int]:
    """Make `calls` from each client, all at once. Each client goes from instance to instance."""

    async def client(number: int) -> list[int]:
        return [await call(urls[(number + turn) % len(urls)]) for turn in range(calls)]

    batches = await asyncio.gather(*map(client, range(CLIENTS)))
    return Counter(status for batch in batches for status in batch)


async def row_when(stage: Stage, code: str, condition: Callable[[Row], bool]) -> Row:
    """The row of today, once the condition holds for it."""
    for _ in range(100):
        row = await stage.tables.read(row_key(code))
        if condition(row):
            return row
        await asyncio.sleep(0.1)
    raise AssertionError(row)


def is_settled(row: Row) -> bool:
    return row.granted == row.used


async def use_up_the_rest(call: Call, stage: Stage, code: str, url: str) -> Counter[int]:
    """Wait until all instances have given back what they had in hand, and use it, and one request more."""
    row = await row_when(stage, code, is_settled)
    await asyncio.sleep(1.1)  # longer than a refusal is remembered
    return Counter([await call(url) for _ in range(500 - row.used.requests + 1)])


async def test_four_processes_and_64_clients_get_exactly_500(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(requests_per_day=500)
    call = caller(http, code)
    statuses = await call_from_all_clients(call, urls, 12)
    at_once = statuses[200]
    statuses += await use_up_the_rest(call, stage, code, urls[0])
    _log.info("%s of 500 at once; with the rest: %s", at_once, dict(statuses))
    assert statuses[200] == 500 and set(statuses) == {200, 429}
    assert len(stage.simulator.calls) == stage.simulator.total(MODEL).calls == 500
    row = await row_when(stage, code, is_settled)
    assert row.granted.requests == row.used.requests == 500


async def test_streams_overshoot_a_token_quota_at_most_by_the_error_of_the_estimate(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    limit = 60_000
    stage.simulator.always(MODEL, Answer(prompt_tokens=200, completion_tokens=50))
    code = await stage.add_event(tokens_per_day=limit, max_output_tokens=CAP)
    statuses = await call_from_all_clients(caller(http, code, stream=True), urls, 8)
    assert set(statuses) == {200, 429}
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert used == 250 * statuses[200]
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    error = 250 - (prompt_tokens(str(QUESTION).encode()) + CAP)
    _log.info(
        "%s of %s tokens; the running calls could overshoot by %s", row.used.tokens, limit, CLIENTS * error
    )
    # Each instance may keep less of the rest than a call needs.
    assert limit - len(urls) * 300 <= row.used.tokens <= limit + CLIENTS * error


async def test_estimate_that_is_not_too_low_keeps_streams_within_a_token_quota(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(tokens_per_day=20_000, max_output_tokens=CAP)
    statuses = await call_from_all_clients(caller(http, code, stream=True), urls, 8)
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert statuses[200] == total.calls and set(statuses) <= {200, 429}
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    assert row.used.tokens <= 20_000


async def test_killed_process_costs_at_most_one_block(
    stage: Stage, urls: list[str], settings: dict[str, str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(requests_per_day=500)
    call = caller(http, code)
    keeps_grants = settings | {"PROXY_QUOTA_IDLE_SECONDS": "600"}
    async with process(keeps_grants, "killed app") as (child, url):
        assert await call(url) == 200
        child.kill()
    block = 500 // SHARE
    assert (await stage.tables.read(row_key(code))).granted.requests == block
    statuses = await call_from_all_clients(call, urls, 9)
    lost = block - 1
    row = await row_when(stage, code, lambda row: row.granted.requests - row.used.requests == block)
    await asyncio.sleep(1.1)
    statuses += Counter([await call(urls[0]) for _ in range(500 - row.granted.requests + 1)])
    assert set(statuses) == {200, 429}
    assert 1 + statuses[200] == 500 - lost
    _log.info("a kill cost %s of 500", lost)
    await row_when(stage, code, lambda row: row.granted.requests == 500)
