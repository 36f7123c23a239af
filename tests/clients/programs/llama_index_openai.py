# /// script
# dependencies = ["llama-index-llms-openai==0.8.3", "llama-index-embeddings-openai==0.7.0"]
# ///
from city import City
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI, OpenAIResponses
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

options = {"api_base": URL, "api_key": KEY}
llm = OpenAI(model=MODEL, **options)


def chat():
    return llm.complete(QUESTION).text


def stream():
    return "".join(part.delta for part in llm.stream_complete(QUESTION))


async def tools():
    return await FunctionAgent(tools=[temperature], llm=llm).run(TOOL_QUESTION)


def structured():
    return llm.as_structured_llm(City).complete(QUESTION).raw.city


def embeddings():
    return len(OpenAIEmbedding(model_name=EMBEDDING_MODEL, **options).get_text_embedding("a"))


def other():
    return OpenAIResponses(model=MODEL, **options).complete(QUESTION).text


run(chat, stream, tools, structured, embeddings, other)
