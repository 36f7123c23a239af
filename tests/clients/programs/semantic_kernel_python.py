# /// script
# dependencies = ["semantic-kernel==1.45.0"]
# ///
from city import City
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.functions import KernelArguments, kernel_function
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run
from steps import temperature as its_temperature

client = AsyncOpenAI(base_url=URL, api_key=KEY)
service = OpenAIChatCompletion(ai_model_id=MODEL, async_client=client)


class Weather:
    @kernel_function
    def temperature(self, city: str) -> str:
        return its_temperature(city)


async def chat():
    return (await ChatCompletionAgent(service=service).get_response(QUESTION)).content


async def stream():
    parts = ChatCompletionAgent(service=service).invoke_stream(QUESTION)
    return "".join([str(part.content) async for part in parts])


async def tools():
    return (
        await ChatCompletionAgent(service=service, plugins=[Weather()]).get_response(TOOL_QUESTION)
    ).content


async def structured():
    settings = OpenAIChatPromptExecutionSettings(response_format=City)
    agent = ChatCompletionAgent(service=service, arguments=KernelArguments(settings=settings))
    return City.model_validate_json(str(await agent.get_response(QUESTION))).city


async def embeddings():
    embedder = OpenAITextEmbedding(ai_model_id=EMBEDDING_MODEL, async_client=client)
    return len((await embedder.generate_embeddings(["a"]))[0])


run(chat, stream, tools, structured, embeddings)
