"""The simulated Azure OpenAI answers agent frameworks, embeds texts and draws pictures."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tools.simulator import CutStream, Deployment, Simulator, Usage

SMALL = "text-embedding-3-small"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "getWeather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture
async def upstream() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def client(upstream: Simulator) -> AsyncIterator[openai.AsyncAzureOpenAI]:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=upstream.url, api_key="sim-key", api_version="2025-04-01-preview", max_retries=0
    ) as client:
        yield client


async def chat(client: openai.AsyncOpenAI, messages: Any, **more: Any) -> Any:
    return await client.chat.completions.create(model="gpt-4o", messages=messages, **more)


async def test_chat_calls_a_function_and_reads_its_output(client: openai.AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "How is the weather in Oslo?"}]
    choice = (await chat(client, messages, tools=[WEATHER])).choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.function.name, json.loads(call.function.arguments)) == ("getWeather", {"city": "Oslo"})
    deltas = [
        chunk.choices[0].delta
        async for chunk in await chat(client, messages, tools=[WEATHER], stream=True)
        if chunk.choices
    ]
    parts = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert "".join(part.function.arguments for part in parts) == call.function.arguments
    assert [bool(part.id) for part in parts] == [True, *[False] * (len(parts) - 1)]
    output = {"role": "tool", "tool_call_id": call.id, "content": "snow"}
    last = (await chat(client, [*messages, choice.message, output], tools=[WEATHER])).choices[0]
    assert "snow" in last.message.content and last.finish_reason == "stop"
    for more in ({}, {"tool_choice": "none", "tools": [WEATHER]}):
        assert (await chat(client, messages, **more)).choices[0].message.tool_calls is None


async def test_chat_answers_with_json_that_fits_a_schema(client: openai.AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"score": {"type": "integer", "minimum": 7}},
        "required": ["score"],
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = (await chat(client, [{"role": "user", "content": "hi"}], response_format=wanted)).choices[0]
    assert json.loads(answer.message.content) == {"score": 7}


async def embed(client: openai.AsyncOpenAI, given: Any, model: str = SMALL, **more: Any) -> list[list[float]]:
    response = await client.embeddings.create(model=model, input=given, **more)
    return [each.embedding for each in response.data]


async def test_texts_that_share_words_are_near(upstream: Simulator, client: openai.AsyncOpenAI) -> None:
    texts = ["How do I grow tomatoes?", "Growing tomatoes in a garden", "The train leaves at nine"]
    ask, near, far = await embed(client, texts)
    assert len(ask) == 1536
    assert sum(map(float.__mul__, ask, near)) > 0.3 > 0.15 > sum(map(float.__mul__, ask, far))
    assert upstream.calls[0].usage == upstream.calls[0].billed == Usage(15, 0)
    (floats,) = await embed(client, texts[0], encoding_format="float")
    assert floats == pytest.approx(ask, abs=1e-6)


async def test_embeddings_take_tokens_and_dimensions(upstream: Simulator, client: openai.AsyncOpenAI) -> None:
    assert [len(each) for each in await embed(client, [[1, 2, 3], [4]], dimensions=256)] == [256, 256]
    assert await embed(client, [1, 2, 3], "text-embedding-3-large") != await embed(client, [1, 2])
    assert [call.billed.prompt_tokens for call in upstream.calls] == [4, 3, 2]


@pytest.mark.parametrize(
    ("given", "more", "code"),
    [
        (["x"] * 2049, {}, "array_above_max_length"),
        ([[1] * 8193], {}, None),
        ("", {}, None),
        ([True], {}, None),
        ("x", {"dimensions": 1537}, "integer_above_max_value"),
        ("x", {"dimensions": 8, "model": "text-embedding-ada-002"}, None),
        ("x", {"model": "gpt-4o"}, "OperationNotSupported"),
    ],
)
async def test_bad_embeddings_are_refused(
    upstream: Simulator, client: openai.AsyncOpenAI, given: Any, more: dict[str, Any], code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await embed(client, given, **more)
    assert raised.value.code == code
    assert upstream.calls[0].billed == Usage(0, 0)


def size_of(picture: str) -> tuple[int, int]:
    data = base64.b64decode(picture)
    assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


async def test_pictures_are_real_and_cost_tokens(upstream: Simulator, client: openai.AsyncOpenAI) -> None:
    made: Any = await client.images.generate(model="gpt-image-1", prompt="an otter", n=2, quality="low")
    assert [size_of(each.b64_json) for each in made.data] == [(1024, 1024)] * 2
    assert (made.usage.input_tokens, made.usage.output_tokens) == (2, 544)
    stream: Any = await client.images.generate(
        model="gpt-image-1", prompt="an otter", size="1024x1536", stream=True, partial_images=2
    )
    events = [event async for event in stream]
    assert [event.type[17:] for event in events] == ["partial_image", "partial_image", "completed"]
    assert (size_of(events[-1].b64_json), events[-1].usage.total_tokens) == ((1024, 1536), 2 + 1584 + 200)
    assert [call.billed for call in upstream.calls] == [call.usage for call in upstream.calls]
    upstream.behave("gpt-image-1", CutStream(after=1))
    cut: Any = await client.images.generate(model="gpt-image-1", prompt="x", stream=True, partial_images=2)
    with pytest.raises(openai.APIConnectionError):
        await anext(cut), await anext(cut)
    assert upstream.calls[-1].billed == Usage(1, 100)


async def test_deployment_serves_the_apis_of_its_settings() -> None:
    deployments = {"mine": Deployment(apis=frozenset({"embeddings"}))}
    async with (
        Simulator(deployments=deployments) as upstream,
        openai.AsyncOpenAI(base_url=f"{upstream.url}/openai/v1", api_key="sim-key") as client,
    ):
        assert len(await embed(client, "hi", "mine")) == 1
        with pytest.raises(openai.BadRequestError, match="chatCompletion"):
            await client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "hi"}])
