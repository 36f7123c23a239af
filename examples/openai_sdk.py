"""A chat completion with the OpenAI SDK."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
)
completion = client.chat.completions.create(
    model="gpt-4o-mini",
    messages=[{"role": "user", "content": "What is a glove box?"}],
)
print(completion.choices[0].message.content)
