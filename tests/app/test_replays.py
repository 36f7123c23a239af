"""A call that its client sends again gets the response that is already being paid for."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp
import pytest

from shared.app.replays import MOST_BYTES, MOST_BYTES_FOR_USER, MOST_FOR_USER, Destination, Replays
from shared.core.models import Credential
from shared.functions.http import Response
from tests.app.test_bodies import connected
from tests.clock import until
from tests.conftest import QUESTION, Stage
from tests.quota.helpers import AMY, row_key, sweep
from tests.responses import WireResponse, response_of
from tools.simulator import CutBody, Failure

BODY = json.dumps(QUESTION).encode()
PATH: Destination = ("chat", None)


def send(stage: Stage, key: str, model: str, body: bytes = BODY) -> aiohttp.client._RequestContextManager:
    path = f"/v1/openai/deployments/{model}/chat/completions"
    return stage.post(path, headers={"api-key": key, "content-type": "application/json"}, data=body)


async def leave(stage: Stage, key: str, model: str, body: bytes = BODY) -> None:
    """Send a call, and close the connection when the upstream has it and the proxy watches the client."""
    before = len(stage.simulator.calls)
    call = asyncio.ensure_future(response_of(send(stage, key, model, body)))
    await stage.simulator.until(lambda calls: len(calls) > before and calls[-1].behaviour is not None)
    await asyncio.sleep(0.3)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    await asyncio.sleep(0.2)


def is_replayed(response: WireResponse) -> bool:
    return response.headers.get("x-event-replayed") == "true"


def calls_of(stage: Stage, model: str) -> int:
    return sum(call.deployment == model for call in stage.simulator.calls)


async def test_two_repeated_calls_wait_for_the_running_one_and_are_charged_once(stage: Stage) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,), requests_per_day=10)
    gate = stage.simulator.gate(model)
    await leave(stage, f"{code}/amy", model)
    again = [asyncio.ensure_future(response_of(send(stage, f"{code}/amy", model))) for _ in range(2)]
    await asyncio.sleep(0.3)
    gate.open_all()
    first, second = await asyncio.gather(*again)
    assert (first.status, first.body) == (200, second.body)
    assert is_replayed(first) and is_replayed(second)
    assert first.headers["x-ratelimit-remaining-requests"] == "9"
    assert calls_of(stage, model) == 1
    await sweep(stage)
    assert (await stage.tables.read_ledger(row_key(code, "amy"))).used.requests == 1


async def test_a_call_repeated_after_the_end_is_replayed(stage: Stage) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,))
    gate = stage.simulator.gate(model)
    await leave(stage, f"{code}/amy", model)
    gate.open_all()
    await stage.simulator.until(lambda calls: calls[-1].finished)
    assert is_replayed(await response_of(send(stage, f"{code}/amy", model)))


@pytest.mark.parametrize("size", [50_000, 80_000, 100_000])
async def test_client_that_leaves_after_a_large_body_is_noticed(stage: Stage, size: int) -> None:
    """While the server has more than 64 KB for the application, it does not read on."""
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,), default_model=model)
    gate = stage.simulator.gate(model)
    body = json.dumps({"messages": [{"role": "user", "content": "hello " * (size // 6)}]}).encode()
    async with connected(stage.url, f"{code}/amy", len(body)) as (_, writer):
        await asyncio.sleep(0.1)  # the application waits for the body
        writer.write(body)
        await stage.simulator.until(lambda calls: bool(calls) and calls[-1].behaviour is not None)
    await asyncio.sleep(0.3)
    again = asyncio.ensure_future(response_of(stage.post(headers={"api-key": f"{code}/amy"}, data=body)))
    await asyncio.sleep(0.3)
    gate.open_all()
    assert is_replayed(await again)
    assert calls_of(stage, model) == 1


@pytest.mark.parametrize("change", ["user", "event", "path", "byte", "finished"])
async def test_no_other_call_is_replayed(stage: Stage, change: str) -> None:
    model = await stage.add_deployment()
    other = await stage.add_deployment()
    codes = [await stage.add_event(models=(model, other)) for _ in range(2)]
    gate = stage.simulator.gate(model)
    if change == "finished":  # a client that has its response gets a new one
        gate.open_all()
        assert (await response_of(send(stage, f"{codes[0]}/amy", model))).status == 200
    else:
        await leave(stage, f"{codes[0]}/amy", model)
        gate.open_all()
    code, user = codes[change == "event"], "bob" if change == "user" else "amy"
    body = BODY + b" " if change == "byte" else BODY
    response = await response_of(send(stage, f"{code}/{user}", other if change == "path" else model, body))
    assert response.status == 200 and not is_replayed(response)


@pytest.mark.parametrize("fault", [Failure(500), CutBody(), Failure(400)])
async def test_a_failed_call_is_made_anew(stage: Stage, fault: Failure | CutBody) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,))
    gate = stage.simulator.gate(model, fault)
    await leave(stage, f"{code}/amy", model)
    again = asyncio.ensure_future(response_of(send(stage, f"{code}/amy", model)))
    await asyncio.sleep(0.3)
    gate.open_all()
    await stage.end_cool_downs()
    response = await again
    assert not is_replayed(response) and calls_of(stage, model) == 2 - (response.status == 502)


def keep(replays: Replays, *users: str, size: int = 1) -> list[bool]:
    """Calls of these users, whose clients leave and whose responses come after that. Returns which are kept."""
    calls = [(Credential("hackathon", user), str(number)) for number, user in enumerate(users)]
    response = Response(200, {}, bytes(size))
    for user, call in calls:
        replays.begin(call, user, PATH, call.encode())
    for _, call in calls:
        replays.end(call, response)
    return [replays.find(user, PATH, call.encode()) is not None for user, call in calls]


async def test_a_response_is_kept_for_a_time() -> None:
    replays = Replays(kept_seconds=0.05)
    assert keep(replays, "amy") == [True]
    await until(lambda: replays.find(AMY, PATH, b"0") is None)


async def test_responses_are_kept_within_bounds() -> None:
    assert keep(Replays(), "amy", "amy", "bob", size=MOST_BYTES_FOR_USER // 2 + 1) == [True, False, True]
    most = MOST_BYTES // MOST_BYTES_FOR_USER
    users = map(str, range(most + 1))
    assert keep(Replays(), *users, size=MOST_BYTES_FOR_USER) == [False] + [True] * most
    replays, most = Replays(), MOST_FOR_USER
    assert keep(replays, *["amy"] * (most + 1)) == [True] * most + [False]
    replays.begin("later", AMY, PATH, b"later")
    assert replays.find(AMY, PATH, b"later") and not replays.find(AMY, PATH, b"0"), "the oldest makes room"
