# /// script
# dependencies = ["crewai==1.15.30"]
# ///
from city import City
from crewai import LLM, Agent
from crewai.tools import tool
from steps import KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run
from steps import temperature as its_temperature

options = {"model": f"openai/{MODEL}", "base_url": URL, "api_key": KEY}


@tool("temperature")
def temperature(city: str) -> str:
    """Return the temperature in a city."""
    return its_temperature(city)


def agent(**more):
    return Agent(role="a", goal="answer", backstory="none", llm=LLM(**options), **more)


def chat():
    return LLM(**options).call(QUESTION)


def stream():
    return LLM(stream=True, **options).call(QUESTION)


def tools():
    return agent(tools=[temperature]).kickoff(TOOL_QUESTION).raw


def structured():
    return LLM(**options).call(QUESTION, response_model=City)


def other():
    return LLM(api="responses", **options).call(QUESTION)


run(chat, stream, tools, structured, other)
