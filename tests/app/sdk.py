"""The OpenAI SDK as the tests of the app use it."""

from __future__ import annotations

from typing import Any

import openai

from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage

MESSAGES: Any = QUESTION["messages"]


def client(stage: Stage, **options: Any) -> openai.AsyncOpenAI:
    """A client without retries."""
    settings: dict[str, Any] = {"api_key": CREDENTIAL, "max_retries": 0} | options
    return openai.AsyncOpenAI(base_url=f"{stage.url}/v1", **settings)


async def complete(stage: Stage, **options: Any) -> Any:
    """A plain completion, from a client with these options."""
    async with client(stage, **options) as sdk:
        return await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)


async def open_stream(sdk: openai.AsyncOpenAI, **options: Any) -> Any:
    return await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, **options)
