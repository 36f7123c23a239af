"""The Responses API through the whole app: the openai package, streams that break, quotas and odd requests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from shared.app import stored_responses
from tests.app.sdk import client
from tests.conftest import Stage
from tests.responses import WireResponse, response_of
from tools.simulator import Answer, CutStream, RawStream, Slow, StreamError

WORDS = Answer("One two three four five.")
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ENDS = {"response.completed", "response.incomplete", "response.failed"}
LIMIT = 10_000_000
MODEL_LIMIT = 2000
"""Less than what a call holds that names no limit of its own."""


class Event:
    """An event with one model, and its attendee "ann"."""

    def __init__(self, stage: Stage, code: str, model: str) -> None:
        self.stage, self.code, self.model = stage, code, model
        self.key = f"{code}/ann"

    async def ask(self, stage: Stage | None = None, **body: Any) -> WireResponse:
        body = {"model": self.model, "input": "Tell me about glove boxes."} | body
        data = io.BytesIO(json.dumps(body).encode())
        request = (stage or self.stage).post("/v1/responses", headers={"api-key": self.key}, data=data)
        return await response_of(request)

    async def charged(self) -> int:
        """The tokens that the attendee has used, by this instance."""
        event = await self.stage.get("/v1/event", self.code, "ann")
        return LIMIT - int(event.json["tokens"]["remaining"])

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        return client(self.stage, api_key=self.key, **options)


@pytest.fixture
async def event(stage: Stage) -> Event:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,), default_model=model, tokens_per_day=LIMIT)
    return Event(stage, code, model)


def events(response: WireResponse) -> list[dict[str, Any]]:
    lines = response.body.split(b"\n")
    return [json.loads(line.removeprefix(b"data: ")) for line in lines if line.startswith(b"data: ")]


def kinds(response: WireResponse) -> list[str]:
    return [event["type"] for event in events(response)]


# ---- the openai package


async def test_the_sdk_asks_streams_reads_and_deletes(event: Event) -> None:
    event.stage.simulator.always(event.model, WORDS)
    async with event.sdk() as sdk:
        asked: Any = {"model": event.model, "input": "Tell me about glove boxes."}
        response = await sdk.responses.create(**asked)
        assert response.output_text == "One two three four five."
        async with sdk.responses.stream(**asked, previous_response_id=response.id) as stream:
            texts = [each.delta async for each in stream if each.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert "".join(texts) == final.output_text == response.output_text
        assert final.previous_response_id == response.id
        again = await sdk.responses.retrieve(response.id)
        assert (again.id, again.output) == (response.id, response.output)
        items: Any = await sdk.responses.input_items.list(final.id, order="asc", limit=2)
        assert len([item async for item in items]) == 3
        await sdk.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(response.id)
        with pytest.raises(openai.BadRequestError, match="synchronous"):
            await sdk.responses.cancel(final.id)
    usage = [call.usage.total for call in event.stage.simulator.calls if call.usage]
    assert len(usage) == 2 and await event.charged() == sum(usage)


@pytest.mark.parametrize("keeps", [True, False])
async def test_the_sdk_calls_a_function_and_returns_its_output(event: Event, keeps: bool) -> None:
    """With a stored turn, or with the whole conversation in each request, as frameworks do."""
    async with event.sdk() as sdk:
        question: Any = {"role": "user", "content": "What is the weather in Paris?"}
        options: Any = {"model": event.model, "tools": [WEATHER], "store": keeps}
        first = await sdk.responses.create(input=[question], **options)
        (call,) = first.output
        assert call.type == "function_call" and json.loads(call.arguments)["city"]
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "mild and grey"}
        conversation = [output] if keeps else [question, call.model_dump(exclude_none=True), output]
        previous = {"previous_response_id": first.id} if keeps else {}
        second = await sdk.responses.create(input=conversation, **options, **previous)
        assert "mild and grey" in second.output_text


async def test_the_sdk_parses_structured_output(event: Event) -> None:
    class Trip(BaseModel):
        city: str
        days: int

    async with event.sdk() as sdk:
        parsed = await sdk.responses.parse(model=event.model, input="3 days in Rome", text_format=Trip)
    assert isinstance(parsed.output_parsed, Trip)


# ---- the end of a stream


async def test_a_stream_has_one_proper_end_and_is_charged_as_reported(event: Event) -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (Answer(), {}, "response.completed"),
        (Answer("word " * 99), {"max_output_tokens": 16}, "response.incomplete"),
        (Answer(filtered_after=3), {}, "response.incomplete"),
        (StreamError(after=6, failed=True), {}, "response.failed"),
    ]
    for behaviour, body, end in cases:
        event.stage.simulator.behave(event.model, behaviour)
        response = await event.ask(stream=True, **body)
        got = events(response)
        assert (got[-1]["type"], response.is_cut, "error" in kinds(response)) == (end, False, False)
        assert [each["sequence_number"] for each in got] == list(range(len(got)))
    usage = [call.usage.total for call in event.stage.simulator.calls if call.usage]
    assert len(usage) == 4 and await event.charged() == sum(usage)


async def test_a_response_that_failed_without_usage_is_charged_from_above(event: Event) -> None:
    event.stage.simulator.behave(event.model, StreamError(after=8, failed=True, report_usage=False))
    response = await event.ask(stream=True)
    assert kinds(response)[-1] == "response.failed" and not response.is_cut
    await _is_charged_from_above(event)


async def _is_charged_from_above(event: Event) -> None:
    (call,) = await event.stage.simulator.until(lambda calls: all(call.ended for call in calls))
    charged = await _charged_less_than_was_held(event)
    assert call.usage is None and call.billed.prompt_tokens > 0
    assert charged >= call.billed.total


async def _charged_less_than_was_held(event: Event) -> int:
    for _ in range(100):
        if 0 < (charged := await event.charged()) < MODEL_LIMIT:
            return charged
        await asyncio.sleep(0.02)
    raise AssertionError(charged)


def _whole_stream() -> bytes:
    """Azure's events of a short answer."""
    item = {"id": "msg_" + "0" * 50, "type": "message", "role": "assistant", "content": []}
    response = {"id": "resp_" + "0" * 50, "created_at": 1, "model": "m", "output": []}
    where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    made: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "item": item, "output_index": 0},
        {"type": "response.output_text.delta", **where, "delta": "One"},
        {"type": "response.output_text.delta", **where, "delta": " two"},
        {"type": "response.output_text.done", **where, "text": "One two"},
        {"type": "response.output_item.done", "item": item, "output_index": 0},
    ]
    numbered = ({**one, "sequence_number": number} for number, one in enumerate(made))
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in numbered
    )


STREAM = _whole_stream()
BREAKS: list[Any] = [
    *(CutStream(after, cut) for after in (0, 1, 3, 6, 99) for cut in ("close", "reset", "clean")),
    *(
        RawStream((STREAM[:at],), cut=cut)
        for at in (3, 40, 700, 900, len(STREAM) - 1)
        for cut in ("close", "clean")
    ),
    RawStream((STREAM, b"data: {not json}\n\n")),
    RawStream((STREAM, b'data: {"type":"response.created","response":{"id":"' + b"x" * 2000 + b'"}}\n\n')),
    RawStream((b"",)),
]


def _is_cut_as_promised(response: WireResponse, code: str = "upstream_error") -> None:
    """Two events say so, with the next numbers, and then no last chunk. Nothing looks like a proper end."""
    got = events(response)
    assert response.status == 200 and response.is_cut
    assert [each["type"] for each in got[-2:]] == ["error", "response.failed"]
    assert not ENDS & {each["type"] for each in got[:-1]}
    assert got[-2]["error"]["code"] == got[-1]["response"]["error"]["code"] == got[-2]["code"] == code
    assert [each["sequence_number"] for each in got] == list(range(len(got)))
    assert response.body.endswith(b"}\n\n")
    ids = {each["response"]["id"] for each in got if "response" in each}
    assert len(ids) == 1


async def test_a_stream_that_is_cut_anywhere_ends_with_an_error_and_without_its_last_chunk(
    event: Event,
) -> None:
    event.stage.simulator.behave(event.model, *BREAKS)
    responses = await asyncio.gather(*(event.ask(stream=True, max_output_tokens=100) for _ in BREAKS))
    for response in responses:
        _is_cut_as_promised(response)
    texts = [b"".join(each["delta"].encode() for each in events(one) if "delta" in each) for one in responses]
    assert {b"One", b"One two", b""} <= set(texts)


@pytest.mark.parametrize("after", [0, 3, 99])
async def test_the_sdk_raises_an_error_for_a_stream_that_is_cut(event: Event, after: int) -> None:
    event.stage.simulator.behave(event.model, CutStream(after))
    async with event.sdk() as sdk:
        stream = await sdk.responses.create(model=event.model, input="hi", stream=True)
        with pytest.raises(openai.APIError, match="cut off") as raised:
            assert not [each async for each in stream if each.type in ENDS]
    assert raised.value.code == "upstream_error"
    await _is_charged_from_above(event)


async def test_an_error_event_of_the_upstream_ends_a_stream_and_nothing_follows_it(event: Event) -> None:
    event.stage.simulator.behave(event.model, StreamError(after=6))
    response = await event.ask(stream=True)
    assert (kinds(response)[-1], kinds(response).count("error"), response.is_cut) == ("error", 1, True)
    await _is_charged_from_above(event)


@pytest.fixture(scope="module")
async def impatient(running: Stage) -> AsyncIterator[Stage]:
    async with running.instance(PROXY_UPSTREAM_IDLE_SECONDS="1") as stage:
        yield stage


@pytest.mark.parametrize("sent", [0, 6])
async def test_a_stream_that_is_silent_or_too_long_ends_with_a_timeout(
    event: Event, impatient: Stage, sent: int
) -> None:
    event.stage.simulator.gate(event.model, WORDS).open(sent)
    response = await event.ask(impatient, stream=True)
    _is_cut_as_promised(response, "upstream_timeout")


@pytest.mark.parametrize("sent", [2, 6, 8])
async def test_a_stream_whose_client_leaves_is_closed_and_charged_from_above(event: Event, sent: int) -> None:
    gate = event.stage.simulator.gate(event.model, WORDS)
    gate.open(sent)
    body = {"model": event.model, "input": "hi", "stream": True}
    request = event.stage.post("/v1/responses", headers={"api-key": event.key}, json=body)
    async with request as response:
        for _ in range(sent):
            await response.content.readuntil(b"\n\n")
        response.close()
    await event.stage.simulator.until(lambda calls: calls[-1].left)
    await _is_charged_from_above(event)


async def test_a_reasoning_stream_whose_client_leaves_is_read_on_and_charged_as_reported(
    stage: Stage,
) -> None:
    """What a model has thought is in no event, so only the usage shows it."""
    model = await stage.add_deployment("o4-mini")
    event = Event(stage, await stage.add_event(models=(model,), tokens_per_day=LIMIT), model)
    stage.simulator.behave(model, Slow(between_seconds=0.01))
    body = {"model": model, "input": "hi", "stream": True}
    request = stage.post("/v1/responses", headers={"api-key": event.key}, json=body)
    async with request as response:
        await response.content.readuntil(b"\n\n")
        response.close()
    (call,) = await stage.simulator.until(lambda calls: all(call.ended for call in calls))
    assert call.usage is not None and not call.left
    assert await _charged_less_than_was_held(event) == call.usage.total


@pytest.mark.parametrize("made", ["null", "5", '{"a":1}', '"' + "x" * 2000 + '"'])
async def test_an_odd_id_of_the_upstream_does_not_keep_the_quota(event: Event, made: str) -> None:
    usage = '"usage":{"input_tokens":7,"output_tokens":3}'
    created = f'{{"type":"response.created","response":{{"id":{made}}}}}'
    completed = f'{{"type":"response.completed","response":{{"id":{made},{usage}}}}}'
    sent = f"data: {created}\n\ndata: {completed}\n\n".encode()
    event.stage.simulator.behave(event.model, RawStream((sent,)))
    await event.ask(stream=True)
    await _charged_less_than_was_held(event)


# ---- stored responses


@pytest.mark.parametrize("sent", [None, 0])
async def test_a_stored_response_that_does_not_come_is_a_timeout_and_its_connection_is_closed(
    event: Event, sent: int | None
) -> None:
    """`sent` None: the upstream has not sent the status, else not the body."""
    response_id = (await event.ask()).json["id"]
    gate = event.stage.simulator.gate(event.model)
    if sent is not None:
        gate.open(sent)
    async with event.stage.instance(PROXY_UPSTREAM_TIMEOUT_SECONDS="0.3") as hasty:
        response = await hasty.get(f"/v1/responses/{response_id}", event.code, "ann")
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    await event.stage.simulator.until(lambda calls: calls[-1].left)
    assert (await event.stage.get(f"/v1/responses/{response_id}", event.code, "ann")).status == 200


async def test_one_attendee_cannot_use_up_the_rate_of_all_with_stored_responses(event: Event) -> None:
    path = f"/v1/responses/{(await event.ask()).json['id']}"
    before = len(event.stage.simulator.calls)
    responses: list[WireResponse] = []
    while len(responses) < 200 and not any(response.status == 429 for response in responses):
        responses += await asyncio.gather(*(event.stage.get(path, event.code, "ann") for _ in range(10)))
    refused = [response for response in responses if response.status != 200]
    assert len(responses) - len(refused) >= stored_responses.AT_ONCE
    assert {response.error["code"] for response in refused} == {"rate_limited"}
    assert len(event.stage.simulator.calls) == before + len(responses) - len(refused)
    assert (await event.stage.get(path, event.code, "bob")).status == 404


# ---- quotas


@pytest.mark.parametrize("streams", [(True, False), (True, True)])
@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_total"])
async def test_a_conversation_on_two_instances_uses_its_quota_and_no_more(
    stage: Stage, event: Event, limit: str, streams: tuple[bool, bool]
) -> None:
    """Each request is short, but its prompt is the whole conversation. The id of a stream does not say how long
    that is, and only the instance that served it knows."""
    tokens, previous, refused = 20_000, None, None
    code = await stage.add_event(models=(event.model,), default_model=event.model, **{limit: tokens})
    event = Event(stage, code, event.model)
    async with stage.instance() as second:
        for turn in range(60):
            body: Any = {"input": "go on", "previous_response_id": previous, "stream": streams[turn % 2]}
            response = await event.ask((stage, second)[turn % 2], **body)
            if response.status != 200:
                refused = response
                break
            previous = events(response)[-1]["response"]["id"] if body["stream"] else response.json["id"]
    assert refused and (refused.status, refused.error["code"][-14:]) == (429, "quota_exceeded")
    assert tokens / 2 < sum(call.billed.total for call in stage.simulator.calls) <= tokens


# ---- odd requests


@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_with_too_many_parts_is_refused(event: Event, stream: bool) -> None:
    many: list[tuple[dict[str, Any], str]] = [
        ({"input": [1] * 1_000_000}, "parts"),
        ({"input": [{"role": "user", "content": [{"id": ""}] * 60_000}]}, "parts"),
        ({"tools": [{"type": "function", "name": "f"}] * 10_001}, "tools"),
    ]
    for body, what in many:
        response = await event.ask(stream=stream, **body)
        assert (response.status, response.error["code"]) == (400, "invalid_request"), response.body
        assert what in response.error["message"] and "Send " in response.error["message"]
    assert not event.stage.simulator.calls


async def test_ten_thousand_items_with_ids_are_served(event: Event) -> None:
    first = (await event.ask()).json
    (message,) = first["output"]
    many = [message | {"content": [{"type": "output_text", "text": "hello"}]}] * 10_000
    assert (await event.ask(input=many, max_output_tokens=16)).status == 200
    assert len(event.stage.simulator.calls[-1].json["input"]) == 10_000


async def test_codex_shows_why_a_stream_was_cut_and_why_a_total_is_used(event: Event) -> None:
    """It keeps `response.failed` back until the response ends properly."""
    event.stage.simulator.behave(event.model, CutStream(5))
    body = json.dumps({"model": event.model, "input": "Hello", "stream": True}).encode()
    headers = {"api-key": event.key, "originator": "codex_cli_rs"}
    response = await response_of(event.stage.post("/v1/responses", headers=headers, data=body))
    assert not response.is_cut and b"event: response.failed" in response.body
    organizer = "Z\u00f6e\r\nx-evil: 1"
    code = await event.stage.add_event(models=(event.model,), requests_total=0, organizer=organizer)
    headers["api-key"] = f"{code}/ann"
    refused = await response_of(event.stage.post("/v1/responses", headers=headers, data=body))
    assert (refused.status, refused.error["type"]) == (429, "usage_limit_reached")
    message = refused.error["message"].replace(organizer, "Z?e??x-evil: 1")
    assert refused.headers["x-codex-promo-message"] == message and "x-evil" not in refused.headers
