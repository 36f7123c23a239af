# /// script
# dependencies = ["autogen-ext[openai]==0.7.5", "autogen-agentchat==0.7.5"]
# ///
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from city import City
from steps import KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

info = {
    "vision": True,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": ModelFamily.GPT_4O,
}
client = OpenAIChatCompletionClient(model=MODEL, base_url=URL, api_key=KEY, model_info=info)
MESSAGES = [UserMessage(content=QUESTION, source="user")]


async def chat():
    return (await client.create(MESSAGES)).content


async def stream():
    return "".join([part async for part in client.create_stream(MESSAGES) if isinstance(part, str)])


async def tools():
    agent = AssistantAgent("a", client, tools=[temperature], reflect_on_tool_use=True)
    return (await agent.run(task=TOOL_QUESTION)).messages[-1].content


async def structured():
    agent = AssistantAgent("a", client, output_content_type=City)
    return (await agent.run(task=QUESTION)).messages[-1].content.city


run(chat, stream, tools, structured)
