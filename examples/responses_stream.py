"""A streamed response with the Responses API."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
)
stream = client.responses.create(
    model="gpt-4o-mini",
    input="What is a glove box?",
    stream=True,
)
for event in stream:
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
print()
