# /// script
# dependencies = ["azure-ai-inference==1.0.0b9"]
# ///
import json

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient
from azure.ai.inference.models import (
    AssistantMessage,
    ChatCompletionsToolDefinition,
    FunctionDefinition,
    JsonSchemaFormat,
    ToolMessage,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential
from steps import EMBEDDING_MODEL, KEY, MODEL, QUESTION, SCHEMA, TOOL, TOOL_QUESTION, URL, run, temperature

client = ChatCompletionsClient(URL, AzureKeyCredential(KEY), model=MODEL)
MESSAGES = [UserMessage(QUESTION)]


def chat():
    return client.complete(messages=MESSAGES).choices[0].message.content


def stream():
    chunks = client.complete(messages=MESSAGES, stream=True)
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def tools():
    options = {"tools": [ChatCompletionsToolDefinition(function=FunctionDefinition(**TOOL))]}
    messages = [UserMessage(TOOL_QUESTION)]
    calls = client.complete(messages=messages, **options).choices[0].message.tool_calls
    results = [
        ToolMessage(temperature(**json.loads(call.function.arguments)), tool_call_id=call.id)
        for call in calls
    ]
    messages += [AssistantMessage(tool_calls=calls), *results]
    return client.complete(messages=messages, **options).choices[0].message.content


def structured():
    schema = JsonSchemaFormat(name="city", schema=SCHEMA, strict=True)
    answer = client.complete(messages=MESSAGES, response_format=schema).choices[0].message.content
    return json.loads(answer)["city"]


def embeddings(url=URL):
    embedder = EmbeddingsClient(url, AzureKeyCredential(KEY), model=EMBEDDING_MODEL)
    return len(embedder.embed(input=["a"]).data[0].embedding)


def other():
    """The address of the host, as with Azure."""
    url = f"{URL.removesuffix('/v1')}/models"
    azure = ChatCompletionsClient(url, AzureKeyCredential(KEY), model=MODEL)
    return azure.complete(messages=MESSAGES).choices[0].message.content, embeddings(url)


run(chat, stream, tools, structured, embeddings, other)
