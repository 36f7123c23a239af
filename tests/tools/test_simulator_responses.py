"""The simulated Responses API is Azure's as the openai package reads it: streams, stored turns, tools, JSON."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tools.simulator import Answer, FilteredPrompt, Simulator, StreamError, Usage

Client = openai.AsyncOpenAI
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}, "note": {}},
        "required": ["city", "unit"],
    },
}
KEEP_REASONING: Any = {"include": ["reasoning.encrypted_content"], "store": False}


@pytest.fixture
async def upstream() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def client(upstream: Simulator) -> AsyncIterator[Client]:
    async with Client(base_url=f"{upstream.url}/openai/v1", api_key="sim-key", max_retries=0) as client:
        yield client


async def ask(
    client: Client, said: Any = "tell me about sea otters", model: str = "gpt-4o", **more: Any
) -> Response:
    response: Response = await client.responses.create(model=model, input=said, **more)
    return response


async def refusal(client: Client, said: Any = "hi", **more: Any) -> tuple[int, str | None]:
    with pytest.raises(openai.APIStatusError) as raised:
        await ask(client, said, **more)
    return raised.value.status_code, raised.value.code


async def events(client: Client, said: Any = "hi", model: str = "gpt-4o", **more: Any) -> list[Any]:
    stream = await client.responses.create(model=model, input=said, stream=True, **more)
    return [event async for event in stream]


async def test_plain_response_and_its_usage(upstream: Simulator, client: Client) -> None:
    upstream.behave("o4-mini", Answer("one two three", reasoning_tokens=5, cached_tokens=4))
    response = await ask(client, model="o4-mini")
    assert (response.status, response.output_text) == ("completed", "one two three")
    assert [str(item.id)[:3] for item in response.output] == ["rs_", "msg"]
    assert response.id[5:21] in str(response.output[1].id)
    usage = response.usage
    assert usage and (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9, 8, 17)
    assert usage.output_tokens_details.reasoning_tokens == 5
    assert usage.input_tokens_details.cached_tokens == 4
    assert upstream.calls[0].usage == upstream.calls[0].billed == Usage(9, 8, 4)


async def test_stream_has_azures_events_and_the_same_response(upstream: Simulator, client: Client) -> None:
    upstream.always("gpt-4o", Answer("one two"))
    got = await events(client)
    assert [event.type.removeprefix("response.") for event in got] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event.sequence_number for event in got] == list(range(10))
    assert got[-1].response == await client.responses.retrieve(got[0].response.id)
    assert upstream.calls[0].usage == upstream.calls[0].billed == Usage(5, 2)


async def test_azures_own_form_of_the_path(upstream: Simulator) -> None:
    version = "2025-04-01-preview"
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=upstream.url, api_key="sim-key", api_version=version
    ) as client:
        assert (await ask(client)).output_text.startswith("This is a simulated answer")
    assert (upstream.calls[0].path, upstream.calls[0].form) == ("/openai/responses", "resource")


async def test_stored_turn_is_continued_read_and_deleted(upstream: Simulator, client: Client) -> None:
    first = await ask(client, "one")
    second = await ask(client, "two three", previous_response_id=first.id)
    assert first.usage and second.usage
    assert second.usage.input_tokens == 5 + 4 + len(first.output_text.split()) + 6
    listed = await client.responses.input_items.list(second.id, order="asc", limit=2)
    assert [item.id async for item in listed][1] == first.output[0].id
    again = await ask(client, [{"type": "item_reference", "id": first.output[0].id}])
    assert again.usage and again.usage.input_tokens == second.usage.input_tokens - 11
    await client.responses.delete(first.id)
    assert await refusal(client, previous_response_id=first.id) == (400, "previous_response_not_found")
    unstored = await ask(client, store=False)
    for missing in (first.id, unstored.id):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(missing)
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        await client.responses.cancel(second.id)
    assert upstream.calls[-1].deployment == "gpt-4o"


async def test_encrypted_reasoning_belongs_to_its_deployment(client: Client) -> None:
    first = await ask(client, model="o4-mini", **KEEP_REASONING)
    said: Any = [
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": "go on"},
    ]
    assert (await ask(client, said, "o4-mini", **KEEP_REASONING)).status == "completed"
    assert await refusal(client, said, model="o3") == (400, "invalid_encrypted_content")
    del said[0]["encrypted_content"]
    assert (await refusal(client, said, model="o4-mini"))[0] == 400


async def test_function_is_called_and_its_output_is_read(upstream: Simulator, client: Client) -> None:
    first = await ask(client, "What is the weather in Paris?", tools=[WEATHER])
    (call,) = first.output
    assert call.type == "function_call" and call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris", "unit": "celsius"}
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "mild and grey"}]
    second = await ask(client, output, previous_response_id=first.id, tools=[WEATHER])
    assert "mild and grey" in second.output_text
    assert (await refusal(client, output))[0] == 400
    got = await events(client, "hi", tools=[WEATHER], tool_choice="required")
    assert "".join(event.delta for event in got if event.type.endswith("delta")) == got[-3].arguments
    assert upstream.calls[-1].billed == upstream.calls[-1].usage


async def test_structured_output_fits_its_schema(client: Client) -> None:
    class Trip(BaseModel):
        city: str
        days: int
        stops: list["Trip"] | None

    parsed = await client.responses.parse(model="gpt-4o", input="Plan 3 days in Rome", text_format=Trip)
    trip = parsed.output_parsed
    assert trip and trip.stops and (trip.city, trip.days, trip.stops[0].city) == ("Rome", 3, "Rome")
    loose = await ask(client, text={"format": {"type": "json_object"}})
    assert json.loads(loose.output_text)["answer"]


async def test_hosted_tool_leaves_an_item_and_costs_extra(upstream: Simulator, client: Client) -> None:
    tools = [{"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}}]
    response = await ask(client, tools=tools)
    assert [item.type for item in response.output] == ["web_search_call", "code_interpreter_call", "message"]
    assert response.usage and response.usage.input_tokens == 1009
    got = await events(client, tools=[{"type": "image_generation"}])
    assert got[-1].response.output[0].result.startswith("iVBOR")
    assert upstream.calls[1].usage == upstream.calls[1].billed


async def test_response_that_ends_early(upstream: Simulator, client: Client) -> None:
    cut = await ask(client, max_output_tokens=16)
    assert cut.status == "incomplete" and cut.usage and cut.usage.output_tokens == 16
    assert (await events(client, max_output_tokens=16))[-1].type == "response.incomplete"
    assert await refusal(client, max_output_tokens=15) == (400, "integer_below_min_value")
    upstream.always("o4-mini", StreamError(after=8, failed=True))
    failed = (await events(client, model="o4-mini"))[-1]
    assert (failed.type, failed.sequence_number) == ("response.failed", 8)
    assert (failed.response.error.code, failed.response.usage.output_tokens) == ("server_error", 64 + 2)
    assert upstream.calls[-1].usage == upstream.calls[-1].billed == Usage(5, 66)
    upstream.always("o4-mini", StreamError(after=8))
    with pytest.raises(openai.APIError, match="had an error"):
        await events(client, model="o4-mini")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"extra_body": {"n": 2}}, "unknown_parameter"),
        ({"extra_body": {"max_tokens": 9}}, "unsupported_parameter"),
        ({"extra_body": {"stream_options": {"include_usage": True}}}, "unknown_parameter"),
        ({"said": 5}, "invalid_type"),
        ({"said": []}, "missing_required_parameter"),
        ({"said": "hi " * 130_000}, "context_length_exceeded"),
        ({"model": "text-embedding-3-small"}, "OperationNotSupported"),
    ],
)
async def test_bad_request_is_refused_as_azure_does(client: Client, more: dict[str, Any], code: str) -> None:
    assert await refusal(client, **more) == (400, code)


async def test_filtered_prompt_has_its_results(upstream: Simulator, client: Client) -> None:
    upstream.behave("gpt-4o", FilteredPrompt())
    with pytest.raises(openai.BadRequestError) as raised:
        await ask(client)
    body: Any = raised.value.body
    assert (body["code"], body["content_filters"][0]["blocked"]) == ("content_filter", True)
