"""Quotas over several processes of the app, on real tables: they stay exact, even when a process is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.core.models import Deployment, Usage
from shared.core.money import Prices
from shared.quota.ledger_row import LedgerRow
from tests.conftest import MODEL, QUESTION, Stage
from tests.quota.helpers import row_key
from tools.processes import Child, attached
from tools.simulator import Answer

pytestmark = pytest.mark.one_python

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


PRICES = Prices(2_345_679, 234_567, 9_876_543)
DEAR = Prices(7_000_001, 700_001, 30_000_007)
EMBEDDING = Prices(13_001, 13_001, 0)


@pytest.fixture(scope="module")
async def priced(running: Stage) -> dict[str, Prices]:
    """The prices of deployments, by name. The first two serve the same model. Written before the app reads them."""
    model = await running.add_deployment(**columns(PRICES))
    dear = Deployment(model, f"{model}-dear", running.simulator.url, f"{model}-dear", auth="SIMULATOR_KEY")
    await running.tables.put_deployment(replace(dear, **columns(DEAR)))
    embedding = await running.add_deployment(
        "text-embedding-3-small", apis=("embeddings",), **columns(EMBEDDING)
    )
    return {model: PRICES, dear.id: DEAR, embedding: EMBEDDING}


def columns(prices: Prices) -> dict[str, Any]:
    return {
        "prompt_price": Decimal(prices.prompt).scaleb(-6),
        "cached_prompt_price": Decimal(prices.cached).scaleb(-6),
        "completion_price": Decimal(prices.completion).scaleb(-6),
    }


@pytest.fixture(scope="module")
async def urls(
    settings: dict[str, str], running: Stage, priced: dict[str, Prices]
) -> AsyncIterator[list[str]]:
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


async def row_when(stage: Stage, code: str, condition: Callable[[LedgerRow], bool]) -> LedgerRow:
    """The row of today, once the condition holds for it."""
    for _ in range(100):
        row = await stage.tables.read_ledger(row_key(code))
        if condition(row):
            return row
        await asyncio.sleep(0.1)
    raise AssertionError(row)


def is_settled(row: LedgerRow) -> bool:
    return row.granted == row.used


async def use_up_the_rest(call: Call, stage: Stage, code: str, url: str) -> Counter[int]:
    """Wait until all instances have given back what they had in hand, and use it, and one request more."""
    row = await row_when(stage, code, is_settled)
    await asyncio.sleep(1.1)  # longer than a refusal is remembered
    return Counter([await call(url) for _ in range(500 - row.used.requests + 1)])


async def test_four_processes_and_64_clients_get_exactly_500(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(parallel=CLIENTS, requests_per_day=500)
    call = caller(http, code)
    statuses = await call_from_all_clients(call, urls, 12)
    at_once = statuses[200]
    statuses += await use_up_the_rest(call, stage, code, urls[0])
    _log.info("%s of 500 at once; with the rest: %s", at_once, dict(statuses))
    assert statuses[200] == 500 and set(statuses) == {200, 429}
    assert len(stage.simulator.calls) == stage.simulator.total(MODEL).calls == 500
    row = await row_when(stage, code, is_settled)
    assert row.granted.requests == row.used.requests == 500


async def test_model_that_charges_more_than_was_held_overshoots_only_by_the_running_calls(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    limit = 60_000
    stage.simulator.always(MODEL, Answer(prompt_tokens=200, completion_tokens=50))
    code = await stage.add_event(parallel=CLIENTS, tokens_per_day=limit, max_output_tokens=CAP)
    statuses = await call_from_all_clients(caller(http, code, stream=True), urls, 8)
    assert set(statuses) == {200, 429}
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert used == 250 * statuses[200]
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    error = 250 - CAP
    _log.info(
        "%s of %s tokens; the running calls could overshoot by %s", row.used.tokens, limit, CLIENTS * error
    )
    # Each instance may keep less of the rest than a call needs.
    assert limit - len(urls) * 300 <= row.used.tokens <= limit + CLIENTS * error


async def test_streams_of_all_processes_stay_within_a_token_quota(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession
) -> None:
    code = await stage.add_event(parallel=CLIENTS, tokens_per_day=20_000, max_output_tokens=CAP)
    statuses = await call_from_all_clients(caller(http, code, stream=True), urls, 8)
    total = stage.simulator.total(MODEL)
    used = total.prompt_tokens + total.completion_tokens
    assert statuses[200] == total.calls and set(statuses) <= {200, 429}
    row = await row_when(stage, code, lambda row: is_settled(row) and row.used.tokens == used)
    assert row.used.tokens <= 20_000


KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chat/completions", QUESTION),
    ("chat/completions", QUESTION | {"stream": True}),
    ("responses", {"input": "Tell me about glove boxes."}),
    ("responses", {"input": "Tell me about glove boxes.", "stream": True}),
    ("embeddings", {"input": "glove boxes"}),
    ("chat/completions", QUESTION | {"stream": True, "n": 2}),
)


def mixed_caller(http: aiohttp.ClientSession, code: str, model: str, embedding: str) -> Call:
    """Calls of all kinds in turn. The clients of the last kind leave in the middle of the stream."""
    turns = count()

    async def call(url: str) -> int:
        turn = next(turns) % len(KINDS)
        path, body = KINDS[turn]
        headers = {"api-key": f"{code}/amy"}
        async with http.post(
            f"{url}/v1/{path}",
            headers=headers,
            json=body | {"model": embedding if path == "embeddings" else model},
        ) as response:
            if turn == len(KINDS) - 1:
                await response.content.readany()
                response.close()
            else:
                await response.read()
            return response.status

    return call


def billed_by(stage: Stage, priced: dict[str, Prices]) -> int:
    """The cost of the work of these deployments, whether it was reported or not."""
    billed = [
        (prices, call.billed)
        for call in stage.simulator.calls
        if (prices := priced.get(call.deployment or ""))
    ]
    return sum(
        prices.cost(Usage(work.prompt_tokens, work.completion_tokens, work.cached_tokens))
        for prices, work in billed
    )


async def test_four_processes_never_spend_more_than_a_budget_and_use_nearly_all_of_it(
    stage: Stage, urls: list[str], http: aiohttp.ClientSession, priced: dict[str, Prices]
) -> None:
    budget, (model, _, embedding) = 200_000, priced
    code = await stage.add_event(
        parallel=CLIENTS, cost_per_day=budget, max_output_tokens=CAP, models=(model, embedding)
    )
    call = mixed_caller(http, code, model, embedding)
    statuses = await call_from_all_clients(call, urls, 6)
    assert set(statuses) == {200, 429}
    await row_when(stage, code, is_settled)
    await asyncio.sleep(1.1)  # longer than a refusal is remembered
    chat = caller(http, code, model=model)
    while (status := await chat(urls[0])) == 200:
        statuses[status] += 1
    row = await row_when(stage, code, is_settled)
    billed = billed_by(stage, priced)
    _log.info("%s of %s millionths are charged, %s billed: %s", row.used.cost, budget, billed, statuses)
    assert billed <= row.used.cost <= budget
    assert row.used.cost >= 0.97 * budget
    served = {call.deployment for call in stage.simulator.calls}
    assert served == priced.keys()
    await until_equal(lambda: recorded_cost(stage, code), row.used.cost)


async def recorded_cost(stage: Stage, code: str) -> int:
    return sum(row.counts.cost for row in await stage.tables.usage(code))


async def until_equal(value: Callable[[], Awaitable[int]], expected: int) -> None:
    for _ in range(100):
        if (found := await value()) == expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(found)


async def test_killed_process_costs_at_most_the_money_that_it_used_lately(
    stage: Stage,
    urls: list[str],
    settings: dict[str, str],
    http: aiohttp.ClientSession,
    priced: dict[str, Prices],
) -> None:
    model = next(iter(priced))
    code = await stage.add_event(
        parallel=CLIENTS, cost_per_day=2_000_000, models=(model,), max_output_tokens=CAP
    )
    call = caller(http, code, model=model)
    async with process(settings | {"PROXY_QUOTA_IDLE_SECONDS": "600"}, "killed app") as (child, url):
        assert [await call(url) for _ in range(20)] == [200] * 20
        child.kill()
    row = await stage.tables.read_ledger(row_key(code))
    used = billed_by(stage, priced)
    assert 0 <= row.granted.cost - used <= used + 2_000_000 // 1000


async def test_killed_process_costs_at_most_what_it_used_lately(
    stage: Stage, urls: list[str], settings: dict[str, str], http: aiohttp.ClientSession
) -> None:
    code, used = await stage.add_event(parallel=CLIENTS, requests_per_day=500), 20
    call = caller(http, code)
    keeps_grants = settings | {"PROXY_QUOTA_IDLE_SECONDS": "600"}
    async with process(keeps_grants, "killed app") as (child, url):
        assert [await call(url) for _ in range(used)] == [200] * used
        child.kill()
    lost = (await stage.tables.read_ledger(row_key(code))).granted.requests - used
    assert 0 <= lost <= used
    statuses = await call_from_all_clients(call, urls, 9)
    row = await row_when(stage, code, lambda row: row.granted.requests - row.used.requests >= lost)
    await asyncio.sleep(1.1)
    statuses += Counter([await call(urls[0]) for _ in range(500 - row.granted.requests + 1)])
    assert set(statuses) == {200, 429}
    assert used + statuses[200] == 500 - lost
    _log.info("a kill cost %s of 500", lost)
    await row_when(stage, code, lambda row: row.granted.requests == 500)
