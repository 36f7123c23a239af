"""Calls the proxy with the SDK's own retries: `python openai_retries.py URL KEY MODEL...`.

It runs with any version of openai, so it imports nothing of this project. It prints the result for each model.
"""

import json
import sys
import time

import openai
from openai.types.chat import ChatCompletionMessageParam

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me about glove boxes."}]


def plain(client: openai.OpenAI, model: str) -> bool:
    completion = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=50)
    return bool(completion.choices[0].message.content)


def streamed(client: openai.OpenAI, model: str) -> bool:
    chunks = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=50, stream=True)
    return any(choice.delta.content for chunk in chunks for choice in chunk.choices)


def main(url: str, key: str, *models: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
    results: dict[str, object] = {"version": openai.__version__}
    for model in models:
        started = time.monotonic()
        results[model] = [plain(client, model), streamed(client, model), time.monotonic() - started]
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
