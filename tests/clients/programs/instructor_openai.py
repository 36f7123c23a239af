# /// script
# dependencies = ["instructor==1.17.0"]
# ///
import instructor
from city import City
from openai import OpenAI
from steps import KEY, MODEL, QUESTION, URL, run

ASK = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}


def client(mode):
    return instructor.from_openai(OpenAI(base_url=URL, api_key=KEY), mode=mode)


def chat():
    return client(instructor.Mode.TOOLS).create(**ASK, response_model=City).city


def stream():
    parts = client(instructor.Mode.TOOLS).create_partial(**ASK, response_model=City)
    return list(parts)[-1].city


def structured():
    return client(instructor.Mode.JSON_SCHEMA).create(**ASK, response_model=City).city


def other():
    return client(instructor.Mode.RESPONSES_TOOLS).create(**ASK, response_model=City).city


run(chat, stream, structured, other)
