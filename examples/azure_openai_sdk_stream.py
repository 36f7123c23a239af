"""A streamed chat completion with the AzureOpenAI SDK."""

import os

from openai import AzureOpenAI

client = AzureOpenAI(
    azure_endpoint=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
    api_version="2023-09-01-preview",
)
stream = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "What is a glove box?"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
