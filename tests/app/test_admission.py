"""What happens before a body is read: credential and event come first, and bodies are bounded in sum."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.app.test_bodies import connected
from tests.conftest import MODEL, QUESTION, Stage, nothing_left_in_flight
from tests.responses import parse_response, response_of
from tools.simulator import Answer, FilteredPrompt

BODY = json.dumps(QUESTION).encode()


@pytest.mark.parametrize("credential", ["", "x", "no-such-event/amy"])
async def test_body_of_an_unknown_credential_is_not_awaited(stage: Stage, credential: str) -> None:
    async with connected(stage.url, credential, 7_000_000) as (reader, _):
        assert (parse_response(await reader.read())).status == 401


async def test_body_for_a_closed_event_is_not_awaited(stage: Stage) -> None:
    code = await stage.add_event(active=False)
    async with connected(stage.url, f"{code}/amy", 7_000_000) as (reader, _):
        assert (parse_response(await reader.read())).error["code"] == "event_inactive"


@pytest.fixture
async def small(stage: Stage) -> AsyncIterator[Stage]:
    async with stage.instance(PROXY_MAX_BODIES_BYTES="300000") as instance:
        yield instance


async def test_largest_arriving_body_gives_way_to_others(small: Stage) -> None:
    """Two bodies of 100 and 150 KB have arrived in part. A third one of 100 KB is too much."""
    async with nothing_left_in_flight(), AsyncExitStack() as stack:
        connections = []
        for user, size in (("amy", 100_000), ("bob", 150_000), ("cat", 100_000)):
            reader, writer = await stack.enter_async_context(
                connected(small.url, f"hackathon/{user}", 200_000)
            )
            writer.write(b" " * size)
            await writer.drain()
            await asyncio.sleep(0.1)
            connections.append((reader, writer))
        for _, writer in connections:
            writer.write(b" ")
        (_, bobs, _) = connections
        refused = parse_response(await bobs[0].read())
        assert (refused.status, refused.error["code"]) == (503, "overloaded")
        assert (await small.chat(user="dan")).status == 200


async def test_bodies_of_ended_calls_make_room(small: Stage) -> None:
    code = await small.add_event(parallel=2)
    for stream in (False, True) * 3:
        question = {"messages": [{"role": "user", "content": "word " * 40_000}], "stream": stream}
        response = await response_of(small.post(headers={"api-key": f"{code}/amy"}, json=question))
        assert response.status == 200


async def test_large_bodies_of_running_calls_stop_no_small_call(small: Stage) -> None:
    """One attendee's streams hold nearly all of the memory for bodies."""
    code, gate = await small.add_event(), small.simulator.gate(MODEL, calls=2)
    async with asyncio.TaskGroup() as running:
        for size in (200_000, 99_000):
            question = {"messages": [{"role": "user", "content": "x" * size}], "stream": True}
            running.create_task(response_of(small.post(headers={"api-key": f"{code}/amy"}, json=question)))
        await small.simulator.until(lambda calls: len(calls) == 2)
        small_call = await small.chat(code, "bob", messages=[{"role": "user", "content": "x" * 2000}])
        large = {"messages": [{"role": "user", "content": "x" * 100_000}]}
        large_call = await response_of(small.post(headers={"api-key": f"{code}/bob"}, json=large))
        gate.open_all()
    assert (small_call.status, large_call.status) == (200, 503)


async def test_user_has_at_most_as_many_running_calls_as_the_event_allows(stage: Stage) -> None:
    code = await stage.add_event(parallel=2)
    gate = stage.simulator.gate(MODEL, Answer(), calls=None)
    running = [asyncio.create_task(stage.chat(code, "amy", stream=stream)) for stream in (True, False)]
    await gate.arrived(2)
    refused = await stage.chat(code, "amy")
    assert (refused.status, refused.error["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    other = asyncio.create_task(stage.chat(code, "bob"))
    await gate.arrived(3)
    gate.open_all()
    assert {(await call).status for call in (*running, other)} == {200}
    assert (await stage.chat(code, "amy")).status == 200


async def test_user_whose_prompts_are_refused_again_and_again_has_to_wait(stage: Stage) -> None:
    code = await stage.add_event()
    stage.simulator.always(MODEL, FilteredPrompt())
    statuses = [(await stage.chat(code, "amy")).status for _ in range(22)]
    assert statuses == [400] * 20 + [429] * 2
    assert (await stage.chat(code, "bob")).status == 400
