"""An agent with a tool, with the OpenAI Agents SDK."""

import os

from agents import Agent, Runner, function_tool, set_default_openai_client, set_tracing_disabled
from openai import AsyncOpenAI

# The SDK sends traces to OpenAI, with the API key of this client. Your key of the event must not go there.
set_tracing_disabled(True)
set_default_openai_client(
    AsyncOpenAI(
        base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
        api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
    )
)


@function_tool
def count_gloves(box: str) -> str:
    """Count the gloves in a box."""
    return f"The {box} box holds 2 gloves."


agent = Agent(
    name="Assistant",
    instructions="Answer in one sentence.",
    model="gpt-4o-mini",
    tools=[count_gloves],
)
print(Runner.run_sync(agent, "Count the gloves in the blue box.").final_output)
