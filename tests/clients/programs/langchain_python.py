# /// script
# dependencies = ["langchain-openai==1.7.4", "langchain==1.3.9"]
# ///
from city import City
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, TOOL_QUESTION, URL, run, temperature

llm = ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY)


def chat():
    return llm.invoke(QUESTION).text


def stream():
    return "".join(chunk.text for chunk in llm.stream(QUESTION))


def tools():
    agent = create_agent(llm, [temperature])
    return agent.invoke({"messages": [("user", TOOL_QUESTION)]})["messages"][-1].text


def structured():
    return llm.with_structured_output(City).invoke(QUESTION).city


def embeddings():
    """As text: for its token arrays, tiktoken first downloads a vocabulary."""
    options = {"base_url": URL, "api_key": KEY, "check_embedding_ctx_length": False}
    return len(OpenAIEmbeddings(model=EMBEDDING_MODEL, **options).embed_query("a"))


def other():
    return ChatOpenAI(model=MODEL, base_url=URL, api_key=KEY, use_responses_api=True).invoke(QUESTION).text


run(chat, stream, tools, structured, embeddings, other)
