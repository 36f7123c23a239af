"""A stream and an agent with a tool, with LangChain."""

import os

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(
    model="gpt-4o-mini",
    base_url=os.environ.get("EVENT_ENDPOINT", "http://127.0.0.1:7071/v1"),
    api_key=os.environ.get("EVENT_KEY", "hackathon/gloveboxes"),
)
for chunk in llm.stream("What is a glove box?"):
    print(chunk.text, end="", flush=True)
print()


def count_gloves(box: str) -> str:
    """Count the gloves in a box."""
    return f"The {box} box holds 2 gloves."


agent = create_agent(llm, tools=[count_gloves])
result = agent.invoke({"messages": [("user", "Count the gloves in the blue box.")]})
print(result["messages"][-1].text)
