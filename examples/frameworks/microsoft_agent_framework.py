"""An agent with a tool and a session, with Microsoft Agent Framework."""

import asyncio
import os

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient


def count_gloves(box: str) -> str:
    """Count the gloves in a box."""
    return f"The {box} box holds 2 gloves."


async def main() -> None:
    client = OpenAIChatClient(
        model="gpt-4o-mini",
        base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
        api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
    )
    agent = Agent(client=client, instructions="Answer in one sentence.", tools=[count_gloves])
    session = agent.create_session()
    print(await agent.run("Count the gloves in the blue box.", session=session))
    print(await agent.run("Is that a pair of gloves?", session=session))


asyncio.run(main())
