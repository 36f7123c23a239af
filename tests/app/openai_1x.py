"""Calls the proxy with openai 1.x: `python openai_1x.py URL KEY MODEL`.

It runs in a separate virtual environment, so it imports nothing of this project. It prints the result of each call.
"""

import asyncio
import json
import sys
from collections.abc import Callable

import openai
from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about glove boxes."}]


def clients(url: str, key: str) -> dict[str, openai.OpenAI]:
    version = "2023-09-01-preview"
    return {
        "azure_endpoint": openai.AzureOpenAI(
            azure_endpoint=f"{url}/v1", api_version=version, api_key=key, max_retries=0
        ),
        "azure_base_url": openai.AzureOpenAI(
            base_url=f"{url}/api/v1", api_version=version, api_key=key, max_retries=0
        ),
        "base_url": openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0),
        "base_url_azure_v1": openai.OpenAI(base_url=f"{url}/v1/openai/v1", api_key=key, max_retries=0),
    }


def plain(client: openai.OpenAI, model: str) -> object:
    completion = client.chat.completions.create(model=model, messages=MESSAGES)
    return bool(completion.choices[0].message.content) and bool(completion.usage)


def streamed(client: openai.OpenAI, model: str) -> object:
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return bool(text) and all(chunk.usage is None for chunk in chunks)


def models(client: openai.OpenAI, model: str) -> object:
    return model in {one.id for one in client.models.list()}


def refused(call: Callable[[], object]) -> list[object]:
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, bool(error.request_id)]
    return ["nothing"]


async def asynchronous(url: str, key: str, model: str) -> object:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=f"{url}/v1", api_version="2024-10-21", api_key=key
    ) as client:
        stream = await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        return bool([chunk async for chunk in stream])


def main(url: str, key: str, model: str) -> None:
    results: dict[str, object] = {"version": openai.__version__}
    for name, client in clients(url, key).items():
        results[name] = [plain(client, model), streamed(client, model), models(client, model)]
    for name, client in clients(url, "unknown/ann").items():
        results[f"{name} refused"] = refused(lambda client=client: plain(client, model))  # type: ignore[misc]
    client = clients(url, key)["base_url"]
    results["no model"] = refused(lambda: plain(client, "no-such-model"))
    results["async"] = asyncio.run(asynchronous(url, key, model))
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
