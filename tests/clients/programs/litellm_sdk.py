# /// script
# dependencies = ["litellm==1.110.2"]
# ///
import json

import litellm
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, SCHEMA, TOOL, TOOL_QUESTION, URL, run, temperature

options = {"model": f"openai/{MODEL}", "api_base": URL, "api_key": KEY}
MESSAGES = [{"role": "user", "content": QUESTION}]


def chat():
    return litellm.completion(messages=MESSAGES, **options).choices[0].message.content


def stream():
    chunks = litellm.completion(messages=MESSAGES, stream=True, **options)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def tools():
    asked = options | {"tools": [{"type": "function", "function": TOOL}]}
    messages = [{"role": "user", "content": TOOL_QUESTION}]
    message = litellm.completion(messages=messages, **asked).choices[0].message
    call = message.tool_calls[0]
    result = temperature(**json.loads(call.function.arguments))
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return litellm.completion(messages=messages, **asked).choices[0].message.content


def structured():
    schema = {"name": "city", "schema": SCHEMA, "strict": True}
    asked = options | {"response_format": {"type": "json_schema", "json_schema": schema}}
    return json.loads(litellm.completion(messages=MESSAGES, **asked).choices[0].message.content)["city"]


def embeddings():
    asked = options | {"model": f"openai/{EMBEDDING_MODEL}"}
    return len(litellm.embedding(input=["a"], **asked).data[0]["embedding"])


def other():
    """The `azure/` form, with the address of the host."""
    asked = options | {
        "model": f"azure/{MODEL}",
        "api_base": URL.removesuffix("/v1"),
        "api_version": "2024-10-21",
    }
    return litellm.completion(messages=MESSAGES, **asked).choices[0].message.content


run(chat, stream, tools, structured, embeddings, other)
