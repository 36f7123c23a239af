# /// script
# dependencies = ["openai==3.57.0"]
# ///
import json

from city import City
from openai import OpenAI
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL, TOOL_QUESTION, URL, run, temperature

client = OpenAI(base_url=URL, api_key=KEY)
ASK = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


def chat():
    return client.chat.completions.create(**ASK).choices[0].message.content


def stream():
    chunks = client.chat.completions.create(**ASK, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def tools():
    messages = [{"role": "user", "content": TOOL_QUESTION}]
    options = {"model": MODEL, "tools": [{"type": "function", "function": TOOL}]}
    message = client.chat.completions.create(messages=messages, **options).choices[0].message
    for call in message.tool_calls:
        result = temperature(**json.loads(call.function.arguments))
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return client.chat.completions.create(messages=messages, **options).choices[0].message.content


def structured():
    return client.chat.completions.parse(**ASK, response_format=City).choices[0].message.parsed.city


def embeddings():
    return len(client.embeddings.create(model=EMBEDDING_MODEL, input=["a", "b"]).data[1].embedding)


def other():
    with client.responses.stream(model=MODEL, input=QUESTION) as events:
        first = events.get_final_response()
    return client.responses.create(model=MODEL, input="And?", previous_response_id=first.id).output_text


STEPS = (chat, stream, tools, structured, embeddings, other)
if __name__ == "__main__":
    run(*STEPS)
