# /// script
# dependencies = ["openai==0.28.1", "numpy==2.4.1"]
# ///
import json

import openai
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, run, temperature

openai.api_base, openai.api_key = URL, KEY
ASK = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


def chat():
    return openai.ChatCompletion.create(**ASK).choices[0].message.content


def stream():
    chunks = openai.ChatCompletion.create(**ASK, stream=True)
    return "".join(choice.delta.get("content") or "" for chunk in chunks for choice in chunk.choices)


def tools():
    messages = [{"role": "user", "content": TOOL_QUESTION}]
    options = {"model": MODEL, "tools": [{"type": "function", "function": TOOL}]}
    message = openai.ChatCompletion.create(messages=messages, **options).choices[0].message
    [call] = message.tool_calls
    result = temperature(**json.loads(call.function.arguments))
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return openai.ChatCompletion.create(messages=messages, **options).choices[0].message.content


def embeddings():
    return len(openai.Embedding.create(model=EMBEDDING_MODEL, input="a").data[0].embedding)


run(chat, stream, tools, embeddings)
