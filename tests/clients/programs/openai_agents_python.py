# /// script
# dependencies = ["openai-agents==0.24.0"]
# ///
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)
from city import City
from openai import AsyncOpenAI
from steps import KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

client = AsyncOpenAI(base_url=URL, api_key=KEY)
set_default_openai_client(client)
set_tracing_disabled(True)


async def chat():
    return (await Runner.run(Agent(name="a", model=MODEL), QUESTION)).final_output


async def stream():
    result = Runner.run_streamed(Agent(name="a", model=MODEL), QUESTION)
    deltas = [event.data async for event in result.stream_events() if event.type == "raw_response_event"]
    return "".join(data.delta for data in deltas if data.type == "response.output_text.delta")


async def tools():
    agent = Agent(name="a", model=MODEL, tools=[function_tool(temperature)])
    return (await Runner.run(agent, TOOL_QUESTION)).final_output


async def structured():
    return (await Runner.run(Agent(name="a", model=MODEL, output_type=City), QUESTION)).final_output.city


async def other():
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
    return (await Runner.run(Agent(name="a", model=model), QUESTION)).final_output


run(chat, stream, tools, structured, other)
