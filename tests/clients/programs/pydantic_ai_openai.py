# /// script
# dependencies = ["pydantic-ai-slim[openai]==2.68.0"]
# ///
from city import City
from pydantic_ai import Agent, Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

provider = OpenAIProvider(base_url=URL, api_key=KEY)
model = OpenAIResponsesModel(MODEL, provider=provider)


async def chat():
    return (await Agent(model).run(QUESTION)).output


async def stream():
    async with Agent(model).run_stream(QUESTION) as result:
        return "".join([text async for text in result.stream_text(delta=True)])


async def tools():
    return (await Agent(model, tools=[temperature]).run(TOOL_QUESTION)).output


async def structured():
    return (await Agent(model, output_type=City).run(QUESTION)).output.city


async def embeddings():
    embedder = Embedder(OpenAIEmbeddingModel(EMBEDDING_MODEL, provider=provider))
    return len((await embedder.embed_query("a")).embeddings[0])


async def other():
    return (await Agent(OpenAIChatModel(MODEL, provider=provider)).run(QUESTION)).output


run(chat, stream, tools, structured, embeddings, other)
