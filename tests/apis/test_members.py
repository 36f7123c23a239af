"""The number of members in a body is bounded, and counting them does not stop the event loop."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

import pytest

from shared.apis.members import MANY_COLONS, MAX_MEMBERS, TOKENS_PER_TURN, check_members
from shared.core.errors import InvalidRequest
from shared.core.turns import Turns

QUESTION = '"messages":[{"role":"user","content":"Hello"}]'
MANY = MANY_COLONS + 1


def members(count: int) -> str:
    return ",".join(f'"{number}":1' for number in range(count))


def body_of(*parts: str) -> bytes:
    return b"{" + ",".join([*parts, QUESTION]).encode() + b"}"


@pytest.mark.parametrize("body", [body_of(members(MANY)), b" \n" + body_of(' "a" : [{}]\n', members(MANY))])
async def test_body_with_too_many_members_is_refused(body: bytes) -> None:
    json.loads(body)
    with pytest.raises(InvalidRequest, match="more than 1,000 members"):
        await check_members(body)


@pytest.mark.parametrize(
    "body",
    [
        body_of(members(MAX_MEMBERS - 1)),
        body_of('"a":{' + members(MANY) + "}"),
        body_of('"a":[' + ",".join(['{"b":[1,2]}'] * MANY) + "]"),
        body_of('"a":' + json.dumps('{"a": [1, 2], "b\\": ' * MANY)),
    ],
    ids=["just-few-enough", "one-large-object", "many-objects", "json-in-a-string"],
)
async def test_other_bodies_are_accepted(body: bytes) -> None:
    json.loads(body)
    await check_members(body)


@pytest.mark.parametrize("bodies", [1, 4])
async def test_counting_lets_other_tasks_run(bodies: int) -> None:
    """However many bodies are counted at the same time."""
    passed, turns = 0, Turns()

    async def count_turns() -> None:
        nonlocal passed
        while True:
            await asyncio.sleep(0)
            passed += 1

    counting = asyncio.create_task(count_turns())
    body = b'{"a":[' + b",".join([b'{"b":1}'] * 100_000) + b"]}"
    await asyncio.gather(*(check_members(body, turn=turns.wait) for _ in range(bodies)))
    counting.cancel()
    assert passed >= bodies * (300_000 // TOKENS_PER_TURN)


async def test_a_long_text_of_escapes_takes_no_memory_to_pass_over() -> None:
    """An expression that can go back notes each escape: 200 MB and half a second on the event loop."""
    body = body_of('"a":[' + ",".join(['{"b":1}'] * MANY) + "]", '"c":"' + "\\n" * 1_000_000 + '"')
    tracemalloc.start()
    try:
        await check_members(body)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
