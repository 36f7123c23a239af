# /// script
# dependencies = ["haystack-ai==3.4.1"]
# ///
from city import City
from haystack.components.agents import Agent
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

options = {"api_base_url": URL, "api_key": Secret.from_token(KEY)}
MESSAGES = [ChatMessage.from_user(QUESTION)]


def generate(kind=OpenAIChatGenerator, **more):
    return kind(model=MODEL, **options, **more).run(MESSAGES)["replies"][0].text


def chat():
    return generate()


def stream():
    parts = []
    generate(streaming_callback=lambda chunk: parts.append(chunk.content))
    return "".join(parts)


def tools():
    generator = OpenAIChatGenerator(model=MODEL, **options)
    agent = Agent(chat_generator=generator, tools=[create_tool_from_function(temperature)])
    return agent.run(messages=[ChatMessage.from_user(TOOL_QUESTION)])["messages"][-1].text


def structured():
    return City.model_validate_json(generate(generation_kwargs={"response_format": City})).city


def embeddings():
    return len(OpenAITextEmbedder(model=EMBEDDING_MODEL, **options).run("a")["embedding"])


def other():
    return generate(OpenAIResponsesChatGenerator)


run(chat, stream, tools, structured, embeddings, other)
