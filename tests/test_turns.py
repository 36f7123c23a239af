"""What waits for the end of a turn of the loop, so that it goes out beside that of other calls."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.types import Message

from shared import web


async def test_answers_that_are_ready_together_are_sent_after_all_of_them() -> None:
    seen: list[str] = []

    async def call() -> None:
        async def send(message: Message) -> None:
            seen.append(message["type"].removeprefix("http.response."))

        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/healthz", "headers": []}
        response = await web.alive(Request(scope))
        seen.append("ready")
        await response(scope, Request(scope).receive, send)

    await asyncio.gather(call(), call(), call())
    assert seen == ["ready"] * 3 + ["start", "body"] * 3
