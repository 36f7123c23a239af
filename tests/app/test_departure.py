"""A client that leaves while its call is served."""

import asyncio

import pytest

from shared.app.departure import ClientLeft, Departure
from shared.functions.http import Client


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_call_whose_client_has_left_takes_no_further_step(leaves_first: bool) -> None:
    """Also if what it waits for comes at the same moment: its prompt must not be sent any more."""
    client, waiting = Client(), asyncio.Event()
    steps: list[str] = []

    async def call() -> None:
        with Departure(client):
            await waiting.wait()
            steps.append("sent")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            steps.append("answered")

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    if leaves_first:
        client.leave()
    waiting.set()
    if not leaves_first:
        client.leave()
    with pytest.raises(ClientLeft):
        await task
    assert steps == []
    assert task.cancelling() == 0


async def test_call_whose_client_has_left_before_takes_no_step() -> None:
    """Its prompt could be sent before it first waits for something."""
    client = Client()
    client.leave()
    steps: list[str] = []
    with pytest.raises(ClientLeft), Departure(client):
        steps.append("sent")
    assert steps == []
