# /// script
# dependencies = ["smolagents[openai]==1.26.0"]
# ///
from smolagents import ChatMessage, MessageRole, OpenAIModel, ToolCallingAgent, tool
from steps import KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run
from steps import temperature as its_temperature

model = OpenAIModel(model_id=MODEL, api_base=URL, api_key=KEY)
MESSAGES = [ChatMessage(role=MessageRole.USER, content=QUESTION)]


@tool
def temperature(city: str) -> str:
    """Return the temperature in a city.

    Args:
        city: the name of the city
    """
    return its_temperature(city)


def chat():
    return model.generate(MESSAGES).content


def stream():
    return "".join(part.content or "" for part in model.generate_stream(MESSAGES))


def tools():
    return ToolCallingAgent(tools=[temperature], model=model, max_steps=3, verbosity_level=0).run(
        TOOL_QUESTION
    )


run(chat, stream, tools)
