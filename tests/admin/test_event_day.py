"""A day at an event: 200 users, three models, two instances. `manage.py usage` equals what Azure reported."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import aiohttp
import pytest

from shared.core.counts import Counts
from tests.admin.deployments import adding, delete
from tests.admin.manage import create_event, manage
from tests.conftest import KEY, Stage, serve
from tests.responses import read_body
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Call, Simulator

CODE = "a-day"
MODELS = ("day-small", "day-large", "day-reasoning")
USERS = 200
REQUESTS_EACH = 3
AT_ONCE = 24
PROMPT_PRICE, COMPLETION_PRICE = "0.15", "0.6"

CUT = range(0, 20)
"""Users whose second request is a stream that Azure cuts."""
LEAVING = range(20, 30)
"""Users who disconnect in the middle of a stream."""
GREEDY = range(30, 60)
"""Users who send two requests more than their quota."""
ASTRAY = range(60, 80)
"""Users who name an unknown model. They are refused before a model is chosen."""
UNLUCKY = range(80, 90)
"""Users with one request that Azure fails: it is an error, and free."""

Request = tuple[str, str, bool]
"""The text, the model, and whether it is a stream."""


def requests_of(number: int) -> list[Request]:
    model, other = MODELS[number % 3], MODELS[(number + 1) % 3]
    plain, stream = ("plain", model, False), ("streamed", other, True)
    if number in CUT:
        return [plain, ("sim:cut", other, True), stream]
    if number in LEAVING:
        return [plain, ("leave sim:slow", other, True)]
    if number in GREEDY:
        return [plain, stream, plain, stream, plain]
    if number in ASTRAY:
        return [plain, ("lost", "no-such-model", False), stream]
    if number in UNLUCKY:
        return [("sim:500", model, False), plain, stream]
    return [plain, stream]


@dataclass
class Responses:
    """The responses that attendees got."""

    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    pieces: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Chunks with content of streams that were cut, by user."""


@pytest.fixture
async def azure() -> AsyncIterator[Simulator]:
    async with Simulator(keys={KEY}, keep=5000) as running:
        yield running


@pytest.fixture
async def day(tables: Tables, azurite: Azurite, azure: Simulator) -> AsyncIterator[str]:
    """The event as an organiser creates it, with tested deployments."""
    prices = ("--prompt-price", PROMPT_PRICE, "--completion-price", COMPLETION_PRICE)
    options = ("--key-env", "SIMULATOR_KEY", *prices)
    for model, name in zip(MODELS, ("gpt-4o-mini", "gpt-4o", "o3-mini"), strict=True):
        added = await manage(
            azurite, *adding(azure.url, *options, model=model, deployment=name), SIMULATOR_KEY=KEY
        )
        assert added.status == 0, added.errors
    await create_event(azurite, CODE, "--models", ",".join(MODELS), "--requests-per-day", str(REQUESTS_EACH))
    azure.reset()
    yield CODE
    for model in MODELS:
        await delete(tables, model)
    await tables.delete_event(CODE)


async def test_usage_by_user_model_and_hour_equals_what_azure_reported(
    day: str, tables: Tables, azurite: Azurite, azure: Simulator, environment: dict[str, str]
) -> None:
    responses = Responses()
    async with AsyncExitStack() as stack:
        settings = environment | {"PROXY_CACHE_SECONDS": "30", "PROXY_USAGE_FLUSH_SECONDS": "1"}
        instances = [
            await stack.enter_async_context(serve(tables, azure, settings | {"SIMULATOR_KEY": KEY}))
            for _ in range(2)
        ]
        at_once = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(attend(instances, number, at_once, responses) for number in range(USERS)))
        calls = await azure.until(lambda calls: all(call.ended for call in calls), seconds=30)
        expected = expectation(calls)
        by_user = await settled(azurite, expected)

    assert dict(responses.statuses) == {
        200: sum(len(requests_of(n)) for n in range(USERS)) - len(GREEDY) * 2 - len(ASTRAY) - len(UNLUCKY),
        404: len(ASTRAY),
        429: len(GREEDY) * 2,
        502: len(UNLUCKY),
    }
    await check_users(by_user, expected, calls, responses)
    await check_models(await usage(azurite, "--by", "model"), by_user, calls)
    await check_hours(await usage(azurite, "--by", "hour"), by_user)
    result = await manage(azurite, "usage", CODE, "--by", "model", "--csv")
    finance = list(csv.DictReader(io.StringIO(result.output)))
    assert sum(int(line["total_tokens"]) for line in finance) == by_user["total"]["total_tokens"]
    total = by_user["total"]
    cost = total["prompt_tokens"] * float(PROMPT_PRICE) + total["completion_tokens"] * float(COMPLETION_PRICE)
    assert total["cost"] == pytest.approx(cost / 1_000_000)


async def attend(
    instances: list[Stage], number: int, at_once: asyncio.Semaphore, responses: Responses
) -> None:
    """Send all requests of one user, to the two instances in turn."""
    for turn, (text, model, stream) in enumerate(requests_of(number)):
        async with at_once:
            await send(instances[(number + turn) % 2], f"user-{number}", text, model, stream, responses)


async def send(stage: Stage, user: str, text: str, model: str, stream: bool, responses: Responses) -> None:
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": f"{user}: {text}"}]}
    async with stage.post(headers={"api-key": f"{CODE}/{user}"}, json=body) as response:
        responses.statuses[response.status] += 1
        if "leave" in text:
            await response.content.readuntil(b'"content"')
            response.close()
        elif "sim:cut" in text:
            responses.pieces[user] += await content_chunks(response)
        else:
            await response.read()


async def content_chunks(response: aiohttp.ClientResponse) -> int:
    lines = [line.removeprefix(b"data: ") for line in (await read_body(response))[0].splitlines()]
    return sum(bool(json.loads(line).get("choices")) for line in lines if line.startswith(b"{"))


def user_of(call: Call) -> str:
    return str(call.json["messages"][0]["content"]).partition(":")[0]


def expectation(calls: tuple[Call, ...]) -> dict[str, Counts]:
    """By user, from the requests that Azure received; tokens where it reported them."""
    found: dict[str, Counts] = defaultdict(Counts)
    for call in calls:
        assert call.status is not None
        usage = call.usage
        found[user_of(call)] = found[user_of(call)].plus(
            Counts(
                requests=int(call.status == 200),
                prompt_tokens=usage.prompt_tokens if usage else 0,
                completion_tokens=usage.completion_tokens if usage else 0,
                errors=int(call.status != 200 or (call.finished and not usage)),
            )
        )
    return found


async def usage(azurite: Azurite, *more: str) -> dict[str, Any]:
    fields: dict[str, Any] = (await manage(azurite, "usage", CODE, "--json", *more)).json
    return fields


async def settled(azurite: Azurite, expected: dict[str, Counts]) -> dict[str, Any]:
    """The usage by user, once both instances have written it."""
    total = reduce(Counts.plus, expected.values(), Counts())
    wanted = {
        "requests": total.requests,
        "refusals": len(GREEDY) * 2 + len(ASTRAY),
        "errors": total.errors,
    }
    found: dict[str, Any] = {}
    for _ in range(120):
        found = await usage(azurite)
        if wanted.items() <= found["total"].items():
            return found
        await asyncio.sleep(0.5)
    raise AssertionError((wanted, found["total"]))


async def check_users(
    found: dict[str, Any], expected: dict[str, Counts], calls: tuple[Call, ...], responses: Responses
) -> None:
    lines = {line["user"]: line for line in found["rows"]}
    assert len(lines) == USERS == len(expected)
    estimated = {f"user-{number}" for number in (*CUT, *LEAVING)}
    for number in range(USERS):
        user = f"user-{number}"
        line, counts = lines[user], expected[user]
        assert (line["requests"], line["errors"]) == (counts.requests, counts.errors), user
        assert line["refusals"] == 2 * (number in GREEDY) + (number in ASTRAY), user
        if user not in estimated:
            tokens = (line["prompt_tokens"], line["completion_tokens"])
            assert tokens == (counts.prompt_tokens, counts.completion_tokens), user
    for user in (f"user-{number}" for number in CUT):
        # Azure reports no usage of a stream that it cuts: each byte of its output is charged.
        assert responses.pieces[user] > 0
        assert lines[user]["completion_tokens"] >= expected[user].completion_tokens + responses.pieces[user]
        assert lines[user]["prompt_tokens"] > expected[user].prompt_tokens
    for user in (f"user-{number}" for number in LEAVING):
        assert sum(call.left and user_of(call) == user for call in calls) == 1
        completion = lines[user]["completion_tokens"] - expected[user].completion_tokens
        assert completion >= 1
    assert sum(line["requests"] for line in lines.values()) == found["total"]["requests"]


async def check_models(found: dict[str, Any], by_user: dict[str, Any], calls: tuple[Call, ...]) -> None:
    lines = {line["model"]: line for line in found["rows"]}
    assert found["total"] == by_user["total"]
    assert lines[""] == {
        "model": "",
        "cost": None,
        "tokens_without_price": 0,
        "refusals": len(ASTRAY),
    } | dict.fromkeys(
        ("requests", "prompt_tokens", "completion_tokens", "total_tokens", "errors", "cached_tokens"), 0
    )
    names = dict(zip(MODELS, ("gpt-4o-mini", "gpt-4o", "o3-mini"), strict=True))
    for model, name in names.items():
        assert lines[model]["requests"] == sum(
            call.deployment == name and call.status == 200 for call in calls
        )
        reported = [call.usage for call in calls if call.deployment == name and call.usage]
        unreported = sum(call.deployment == name and call.status == 200 and not call.usage for call in calls)
        rest = lines[model]["completion_tokens"] - sum(one.completion_tokens for one in reported)
        assert (rest > 0) == (unreported > 0)


async def check_hours(found: dict[str, Any], by_user: dict[str, Any]) -> None:
    assert found["total"] == by_user["total"]
    assert 1 <= len(found["rows"]) <= 2
    for name in ("requests", "total_tokens", "refusals", "errors"):
        assert sum(line[name] for line in found["rows"]) == found["total"][name]
