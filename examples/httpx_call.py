"""A chat completion with httpx. Without a model, the default of the event is used."""

import os

import httpx

endpoint = os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1").rstrip("/")
response = httpx.post(
    f"{endpoint}/chat/completions",
    headers={"openai-event-code": os.environ.get("EVENT_KEY", "hackathon/gloveboxes")},
    json={
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is a glove box?"},
        ],
        "max_tokens": 200,
        "temperature": 1.0,
    },
    timeout=60,
)
if response.is_error:  # the message says what is wrong and what to do
    raise SystemExit(response.json()["error"]["message"])
print(response.json()["choices"][0]["message"]["content"])
