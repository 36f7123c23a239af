# /// script
# dependencies = ["agent-framework-openai==1.17.0"]
# ///
from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient, OpenAIEmbeddingClient
from city import City
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

client = OpenAIChatClient(model=MODEL, base_url=URL, api_key=KEY)


async def chat():
    agent = Agent(client=client)
    session = agent.create_session()
    await agent.run(QUESTION, session=session)
    return (await agent.run(QUESTION, session=session)).text


async def stream():
    return "".join([update.text async for update in Agent(client=client).run(QUESTION, stream=True)])


async def tools():
    return (await Agent(client=client, tools=[temperature]).run(TOOL_QUESTION)).text


async def structured():
    return (await Agent(client=client).run(QUESTION, options={"response_format": City})).value.city


async def embeddings():
    embedder = OpenAIEmbeddingClient(model=EMBEDDING_MODEL, base_url=URL, api_key=KEY)
    return len((await embedder.get_embeddings(["a"]))[0].vector)


async def other():
    completions = OpenAIChatCompletionClient(model=MODEL, base_url=URL, api_key=KEY)
    return (await Agent(client=completions).run(QUESTION)).text


run(chat, stream, tools, structured, embeddings, other)
