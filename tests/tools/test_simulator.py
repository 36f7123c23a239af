"""The simulated Azure OpenAI, on real sockets: with the real SDK, and byte by byte where the bytes matter."""

import asyncio
import contextlib
import gzip
import json
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import openai
import pytest

from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    Deployment,
    EveryOther,
    Failure,
    FilteredAnswer,
    FilteredPrompt,
    Garbage,
    RateLimited,
    Raw,
    RawSocket,
    RawStream,
    ResetBeforeHeaders,
    Simulator,
    Slow,
    StreamError,
    TooLong,
    Total,
    Usage,
    WrongType,
    catalogue,
    prose,
)

KEY = "sim-key"
CREATED = datetime(2026, 5, 1, 12, tzinfo=UTC)
OLD_VERSION, NEW_VERSION = "2024-06-01", "2024-10-21"
USAGE = {"include_usage": True}
SAFE = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7, clock=lambda: CREATED) as simulator:
        yield simulator


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


class Answered:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def question(model: str = "gpt-4o", content: Any = "tell me about sea otters", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def v1(simulator: Simulator) -> str:
    return f"{simulator.url}/openai/v1/chat/completions"


def dated(simulator: Simulator, deployment: str = "gpt-4o", version: str = NEW_VERSION) -> str:
    return f"{simulator.url}/openai/deployments/{deployment}/chat/completions?api-version={version}"


async def post(http: aiohttp.ClientSession, url: str, body: Any, **headers: str) -> Answered:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with http.post(url, data=data, headers=headers or {"api-key": KEY}) as response:
        return Answered(response.status, response.headers, await response.read())


async def ask(simulator: Simulator, http: aiohttp.ClientSession, **question_: Any) -> Answered:
    return await post(http, v1(simulator), question(**question_))


def events(body: bytes) -> list[Any]:
    """The data of each event but `[DONE]`, parsed."""
    data = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    return [json.loads(each) for each in data if each != b"[DONE]"]


async def exchange(simulator: Simulator, body: Any) -> tuple[bytes, bool]:
    """All bytes that come back, head included, until the connection ends; and whether it ended in a reset."""
    data = json.dumps(body).encode()
    head = f"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\nconnection: close\r\n"
    return await talk(simulator, head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)


async def talk(simulator: Simulator, sent: bytes) -> tuple[bytes, bool]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.url.rpartition(":")[2]))
    received, reset = b"", False
    try:
        writer.write(sent)
        while piece := await reader.read(65536):
            received += piece
    except ConnectionResetError:
        reset = True
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return received, reset


# Both forms, by the real SDK


async def test_openai_client_is_answered_on_the_v1_form(simulator: Simulator) -> None:
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key=KEY) as client:
        answer = await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "tell me about sea otters"}]
        )
    assert answer.choices[0].message.content == prose.answer("tell me about sea otters")
    assert answer.model == "gpt-4o-mini-2024-07-18"
    assert simulator.calls[0].form == "v1"


async def test_azure_client_is_answered_on_the_deployments_form(simulator: Simulator) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=simulator.url, api_key=KEY, api_version=NEW_VERSION
    ) as client:
        answer = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}]
        )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 1 + 4
    assert (simulator.calls[0].form, simulator.calls[0].query) == (
        "deployments",
        f"api-version={NEW_VERSION}",
    )


async def test_azure_client_streams_the_words_one_by_one(simulator: Simulator) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=simulator.url, api_key=KEY, api_version=NEW_VERSION
    ) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    assert "".join(word or "" for word in words) == prose.answer("hi")


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (FilteredPrompt(), openai.BadRequestError),
        (TooLong(), openai.BadRequestError),
        (RateLimited(), openai.RateLimitError),
        (Failure(403), openai.PermissionDeniedError),
        (Failure(500), openai.InternalServerError),
        (ResetBeforeHeaders(), openai.APIConnectionError),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, type) else "",
)
async def test_openai_client_knows_each_failure(
    simulator: Simulator, behaviour: Behaviour, error: type[Exception]
) -> None:
    simulator.behave("gpt-4o", behaviour)
    async with openai.AsyncOpenAI(
        base_url=f"{simulator.url}/openai/v1", api_key=KEY, max_retries=0
    ) as client:
        with pytest.raises(error):
            await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])


async def test_openai_client_raises_on_an_error_event(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", StreamError(after=3, message="it broke"))
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key=KEY) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        with pytest.raises(openai.APIError, match="it broke"):
            async for _ in stream:
                pass


async def test_openai_client_retries_as_retry_after_ms_says(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", RateLimited(retry_after_ms=1))
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key=KEY) as client:
        await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert [call.status for call in simulator.calls] == [429, 200]


# Keys, paths and deployments


@pytest.mark.parametrize(
    "headers", [{"api-key": "wrong"}, {"accept": "*/*"}, {"authorization": f"Basic {KEY}"}]
)
async def test_a_wrong_or_missing_key_is_azures_401(
    simulator: Simulator, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    answered = await post(http, dated(simulator), question(), **headers)
    assert answered.status == 401
    assert answered.error["code"] == "401"
    assert answered.error["message"].startswith("Access denied due to invalid subscription key or wrong API")
    assert answered.headers["apim-request-id"]


async def test_a_bearer_is_accepted_when_it_is_configured(http: aiohttp.ClientSession) -> None:
    async with Simulator(bearers={"signed"}) as simulator:
        right = await post(http, dated(simulator), question(), authorization="bearer signed")
        wrong = await post(http, dated(simulator), question(), authorization="Bearer forged")
    assert (right.status, wrong.status) == (200, 401)
    assert wrong.error["message"].startswith("Unauthorized. Access token is missing, invalid")


async def test_a_key_as_bearer_is_accepted_on_the_v1_form_alone(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    assert (await post(http, v1(simulator), question(), authorization=f"Bearer {KEY}")).status == 200
    assert (await post(http, dated(simulator), question(), authorization=f"Bearer {KEY}")).status == 401


@pytest.mark.parametrize(
    "query", ["", "?api-version=", "?api-version=latest", "?api-version=2024-10-21-beta"]
)
async def test_the_deployments_form_needs_an_api_version(
    simulator: Simulator, http: aiohttp.ClientSession, query: str
) -> None:
    url = dated(simulator).partition("?")[0] + query
    answered = await post(http, url, question())
    assert (answered.status, answered.error) == (404, {"code": "404", "message": "Resource not found"})


async def test_the_v1_form_refuses_a_dated_api_version(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    assert (await post(http, f"{v1(simulator)}?api-version=preview", question())).status == 200
    assert (await post(http, f"{v1(simulator)}?api-version={NEW_VERSION}", question())).status == 400


@pytest.mark.parametrize(
    "path", ["/", "/openai/v1/embeddings", "/openai/deployments/a/b/chat/completions", "/%ff"]
)
async def test_another_path_is_not_found_and_recorded(
    simulator: Simulator, http: aiohttp.ClientSession, path: str
) -> None:
    assert (await post(http, simulator.url + path, question())).status == 404
    assert simulator.calls[0].form is None


async def test_an_unknown_deployment_is_azures_404(http: aiohttp.ClientSession) -> None:
    async with Simulator(deployments=["gpt-4o"]) as simulator:
        for answered in (
            await post(http, dated(simulator, "gpt-5"), question()),
            await post(http, v1(simulator), question("gpt-5")),
        ):
            assert (answered.status, answered.error["code"]) == (404, "DeploymentNotFound")
        assert (await ask(simulator, http, model="sim-503")).status == 503


async def test_behaviours_for_an_unknown_deployment_are_an_error_of_the_test() -> None:
    async with Simulator(deployments=["gpt-4o"]) as simulator:
        with pytest.raises(ValueError, match=r"no deployment 'gpt-4'; there are \['gpt-4o'\]"):
            simulator.behave("gpt-4", RateLimited())


# The body


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"", None, None),
        (b"{", None, None),
        (b"[]", None, None),
        (b'{"model":"gpt-4o","messages":' + b"[" * 100_000, None, None),
        (b'{"model":"gpt-4o","n":' + b"1" * 5000 + b"}", None, None),
        (b"\xff\xfe", None, None),
        ({"messages": [{"role": "user", "content": "hi"}]}, None, None),
        ({"model": 4, "messages": []}, "model", "invalid_type"),
        ({"model": "gpt-4o"}, "messages", "missing_required_parameter"),
        ({"model": "gpt-4o", "messages": "hi"}, "messages", "invalid_type"),
        ({"model": "gpt-4o", "messages": []}, "messages", "empty_array"),
        ({"model": "gpt-4o", "messages": ["hi"]}, "messages[0]", "invalid_type"),
        (question(max_tokens="5"), "max_tokens", "invalid_type"),
        (question(max_tokens=1.5), "max_tokens", "invalid_type"),
        (question(max_tokens=True), "max_tokens", "invalid_type"),
        (question(max_tokens=0), "max_tokens", "integer_below_min_value"),
        (question(max_completion_tokens=-1), "max_completion_tokens", "integer_below_min_value"),
        (question(max_tokens=5, max_completion_tokens=5), None, "invalid_parameter_combination"),
        (question(n=129), "n", "integer_above_max_value"),
        (question(stream="yes"), "stream", "invalid_type"),
        (question(stream_options=USAGE), "stream_options", None),
        (question(stream=True, stream_options=[]), "stream_options", "invalid_type"),
    ],
)
async def test_a_bad_body_is_a_400_in_openais_shape(
    simulator: Simulator, http: aiohttp.ClientSession, body: Any, param: str | None, code: str | None
) -> None:
    answered = await post(http, v1(simulator), body)
    assert answered.status == 400
    assert answered.error["type"] == "invalid_request_error"
    assert (answered.error["param"], answered.error["code"]) == (param, code)


async def test_unknown_fields_are_accepted_and_recorded(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    body = json.dumps(question(tomorrow={"new": [1]}, max_tokens=None), indent=1).encode()
    assert (await post(http, v1(simulator), body)).status == 200
    assert simulator.calls[0].body == body
    assert simulator.calls[0].json["tomorrow"] == {"new": [1]}


@pytest.mark.parametrize("name", ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5-nano"])
async def test_a_reasoning_deployment_refuses_max_tokens(
    simulator: Simulator, http: aiohttp.ClientSession, name: str
) -> None:
    refused = await ask(simulator, http, model=name, max_tokens=5)
    assert refused.status == 400
    assert refused.error == {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    assert (await ask(simulator, http, model=name, max_completion_tokens=5)).status == 200


async def test_which_cap_a_deployment_refuses_can_be_set(http: aiohttp.ClientSession) -> None:
    deployments = {
        "team-chat": Deployment(refuses_max_tokens=True),
        "gpt-5-old": Deployment(refuses_max_tokens=False, refuses_max_completion_tokens=True),
    }
    async with Simulator(deployments=deployments) as simulator:
        assert (await ask(simulator, http, model="team-chat", max_tokens=5)).status == 400
        assert (await ask(simulator, http, model="gpt-5-old", max_tokens=5)).status == 200
        assert (await ask(simulator, http, model="gpt-5-old", max_completion_tokens=5)).status == 400


async def test_stream_options_are_refused_by_old_api_versions(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    body = question(stream=True, stream_options=USAGE)
    refused = await post(http, dated(simulator, version=OLD_VERSION), body)
    assert (refused.status, refused.error["type"]) == (400, "invalid_request_error")
    assert "stream_options" in refused.error["message"]
    assert (await post(http, dated(simulator, version="2024-09-01-preview"), body)).status == 200


async def test_a_prompt_above_the_context_of_the_deployment_is_refused(http: aiohttp.ClientSession) -> None:
    async with Simulator(deployments={"small": Deployment(context_tokens=7)}) as simulator:
        assert (await ask(simulator, http, model="small", content="one two three")).status == 200
        refused = await ask(simulator, http, model="small", content="one two three four")
    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")


async def test_a_compressed_body_is_read(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    body = gzip.compress(json.dumps(question()).encode())
    headers = {"api-key": KEY, "content-encoding": "gzip"}
    assert (await post(http, v1(simulator), body, **headers)).status == 200
    assert (await post(http, v1(simulator), b"not gzip", **headers)).status == 400


# Right answers


async def test_a_plain_answer_is_compact_json_in_azures_shape(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", Answer(text="Hello — you"))
    answered = await ask(simulator, http, content="one two")
    prompt_results = dict(sorted({**SAFE, "jailbreak": {"detected": False, "filtered": False}}.items()))
    expected = {
        "choices": [
            {
                "content_filter_results": SAFE,
                "finish_reason": "stop",
                "index": 0,
                "logprobs": None,
                "message": {
                    "annotations": [],
                    "content": "Hello — you",
                    "refusal": None,
                    "role": "assistant",
                },
            }
        ],
        "created": int(CREATED.timestamp()),
        "id": json.loads(answered.body)["id"],
        "model": "gpt-4o-2024-11-20",
        "object": "chat.completion",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": prompt_results}],
        "system_fingerprint": "fp_5154047bf2",
        "usage": {
            "completion_tokens": 3,
            "completion_tokens_details": {
                "accepted_prediction_tokens": 0,
                "audio_tokens": 0,
                "reasoning_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "prompt_tokens": 6,
            "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 0},
            "total_tokens": 9,
        },
    }
    assert answered.body == json.dumps(expected, separators=(",", ":"), ensure_ascii=False).encode()
    assert expected["id"].startswith("chatcmpl-")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_carries_azures_headers(
    simulator: Simulator, http: aiohttp.ClientSession, stream: bool
) -> None:
    headers = (await ask(simulator, http, stream=stream)).headers
    assert headers["content-type"] == ("text/event-stream; charset=utf-8" if stream else "application/json")
    assert headers["x-ms-deployment-name"] == "gpt-4o"
    assert headers["x-ratelimit-remaining-requests"] == "999"
    assert headers["x-ratelimit-limit-tokens"] == "1000000"
    for name in ("apim-request-id", "x-request-id", "x-ms-region", "azureml-model-session"):
        assert headers[name]
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


async def test_a_stream_is_in_azures_order_and_ends_in_done(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", Answer(text="Two words"))
    answered = await ask(simulator, http, stream=True, stream_options=USAGE)
    first, role, one, two, finish, usage = events(answered.body)
    assert (first["choices"], first["id"], first["model"], first["object"]) == ([], "", "", "")
    assert first["prompt_filter_results"][0]["prompt_index"] == 0
    assert role["choices"][0]["delta"] == {"content": "", "refusal": None, "role": "assistant"}
    assert [each["choices"][0]["delta"] for each in (one, two)] == [{"content": "Two"}, {"content": " words"}]
    assert one["choices"][0]["content_filter_results"] == SAFE
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert [chunk.get("usage", "absent") for chunk in (first, role, one, two, finish)] == [
        "absent",
        *[None] * 4,
    ]
    assert answered.body.endswith(b"}\n\ndata: [DONE]\n\n")


async def test_asking_for_usage_changes_nothing_but_usage(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    without = await ask(simulator, http, stream=True)
    with_usage = await ask(simulator, http, stream=True, stream_options=USAGE)
    kept = [event for event in with_usage.body.split(b"\n\n") if b'"usage":{' not in event]
    assert b"\n\n".join(kept).replace(b',"usage":null', b"") == without.body
    assert b"usage" not in without.body


async def test_without_a_seed_no_two_ids_are_equal(http: aiohttp.ClientSession) -> None:
    async with Simulator() as simulator:
        ids = {json.loads((await ask(simulator, http)).body)["id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize("param", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_output_cap_is_honoured(
    simulator: Simulator, http: aiohttp.ClientSession, param: str, stream: bool
) -> None:
    more: dict[str, Any] = {"stream_options": USAGE} if stream else {}
    answered = await ask(simulator, http, stream=stream, **{param: 4}, **more)
    last = events(answered.body)[-2] if stream else json.loads(answered.body)
    assert last["choices"][0]["finish_reason"] == "length"
    assert simulator.calls[0].usage == Usage(prompt_tokens=5 + 4, completion_tokens=4)
    assert simulator.calls[0].tokens == 4


@pytest.mark.parametrize("stream", [False, True])
async def test_each_of_n_choices_is_answered_and_counted(
    simulator: Simulator, http: aiohttp.ClientSession, stream: bool
) -> None:
    more: dict[str, Any] = {"stream_options": USAGE} if stream else {}
    answered = await ask(simulator, http, n=3, stream=stream, max_tokens=5, **more)
    chunks = events(answered.body) if stream else [json.loads(answered.body)]
    finished = {
        choice["index"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["finish_reason"] is not None
    }
    assert finished == {0, 1, 2}
    assert simulator.calls[0].usage == Usage(9, 15)


async def test_prompt_tokens_are_words_plus_four_for_each_message(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "what is this"}, image]},
        {"role": "assistant", "content": None},
    ]
    await post(http, v1(simulator), {"model": "gpt-4o", "messages": messages})
    assert simulator.total("gpt-4o").prompt_tokens == 2 + 3 + 85 + 3 * 4


async def test_counts_of_an_answer_can_be_overridden_or_left_out(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave(
        "gpt-4o", Answer("a b", prompt_tokens=0, completion_tokens=500), Answer(report_usage=False)
    )
    await ask(simulator, http)
    assert simulator.calls[0].usage == Usage(0, 500)
    silent = await ask(simulator, http, stream=True, stream_options=USAGE)
    assert simulator.calls[1].usage is None
    assert b'"usage":{' not in silent.body


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("hello", "event code"),
        ("tell me about sea otters", "otters"),
        ("write a haiku about rain", "Rain"),
        ("write a python function about otters", "```python"),
        ("", "Ask me"),
        ("tell me about {0} {topic!r} and %s", "{"),
        ("what is 日本 like", "日本"),
    ],
)
async def test_the_text_is_about_the_prompt(
    simulator: Simulator, http: aiohttp.ClientSession, prompt: str, part: str
) -> None:
    text = json.loads((await ask(simulator, http, content=prompt)).body)["choices"][0]["message"]["content"]
    assert (part in text) is (part != "{")
    assert len(text.split()) >= 10


async def test_a_lone_surrogate_in_the_prompt_is_survived(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    assert (await ask(simulator, http, content="about \ud800 otters\ud801")).status == 200


# Misbehaviour


async def test_a_filtered_prompt_is_azures_whole_body(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", FilteredPrompt())
    answered = await ask(simulator, http)
    assert answered.status == 400
    error = answered.error
    assert (error["code"], error["param"], error["status"], error["type"]) == (
        "content_filter",
        "prompt",
        400,
        None,
    )
    assert error["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    assert error["innererror"]["content_filter_result"]["violence"] == {
        "filtered": True,
        "severity": "medium",
    }


async def test_a_filtered_answer_stops_with_content_filter(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", FilteredAnswer(after=2), FilteredAnswer(after=2))
    plain = json.loads((await ask(simulator, http)).body)
    streamed = events((await ask(simulator, http, stream=True)).body)
    assert plain["choices"][0]["finish_reason"] == "content_filter"
    assert plain["usage"]["completion_tokens"] == 2
    assert streamed[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_context_length_names_the_limit(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    simulator.behave("gpt-4o", TooLong(limit=16))
    answered = await ask(simulator, http)
    assert (answered.status, answered.error["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is 16 tokens" in answered.error["message"]


@pytest.mark.parametrize(
    ("behaviour", "headers"),
    [
        (RateLimited(), {}),
        (RateLimited(retry_after_ms=1500), {"retry-after-ms": "1500"}),
        (RateLimited(retry_after=86400), {"retry-after": "86400"}),
        (
            RateLimited(reset_requests=0, reset_tokens="-1"),
            dict.fromkeys(("x-ratelimit-reset-requests",), "0"),
        ),
        (
            RateLimited(retry_after="Fri, 01 May 2026 12:00:00 GMT"),
            {"retry-after": "Fri, 01 May 2026 12:00:00 GMT"},
        ),
    ],
)
async def test_429_carries_exactly_the_headers_given(
    simulator: Simulator, http: aiohttp.ClientSession, behaviour: RateLimited, headers: dict[str, str]
) -> None:
    simulator.behave("gpt-4o", behaviour)
    answered = await ask(simulator, http)
    assert (answered.status, answered.error["code"]) == (429, "429")
    retry = {
        name.lower(): value
        for name, value in answered.headers.items()
        if name.lower().startswith(("retry", "x-ratelimit"))
    }
    if behaviour.reset_tokens is not None:
        assert retry.pop("x-ratelimit-reset-tokens") == "-1"
    assert retry == headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504, 599])
async def test_any_failure_has_azures_body_for_it(
    simulator: Simulator, http: aiohttp.ClientSession, status: int
) -> None:
    simulator.behave("gpt-4o", Failure(status, headers={"X-Should-Retry": "false"}))
    answered = await ask(simulator, http)
    assert answered.status == status
    assert answered.headers["x-should-retry"] == "false"
    if status == 502:
        assert answered.body.startswith(b"<html>")
        assert answered.headers["content-type"] == "text/html"
    else:
        assert answered.error["message"]


async def test_the_body_and_type_of_a_failure_can_be_given(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", Failure(503, b"busy", {"Content-Type": "text/plain"}))
    answered = await ask(simulator, http)
    assert (answered.body, answered.headers.getall("content-type")) == (b"busy", ["text/plain"])


async def test_a_reset_before_headers_says_nothing(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", ResetBeforeHeaders(), ResetBeforeHeaders(cut="close"))
    assert await exchange(simulator, question()) == (b"", True)
    assert await exchange(simulator, question()) == (b"", False)
    assert [(call.status, call.finished, call.left) for call in simulator.calls] == [(None, True, False)] * 2


@pytest.mark.parametrize("cut", ["close", "reset"])
async def test_a_cut_body_is_half_of_what_was_promised(simulator: Simulator, cut: Any) -> None:
    simulator.behave("gpt-4o", CutBody(cut))
    received, reset = await exchange(simulator, question())
    head, _, body = received.partition(b"\r\n\r\n")
    assert reset is (cut == "reset")
    assert b"200 OK" in head
    assert (
        f"Content-Length: {len(body) * 2}".encode() in head
        or f"Content-Length: {len(body) * 2 + 1}".encode() in head
    )


@pytest.mark.parametrize("cut", ["close", "reset", "clean"])
async def test_a_cut_stream_ends_after_so_many_events(simulator: Simulator, cut: Any) -> None:
    simulator.behave("gpt-4o", CutStream(after=4, cut=cut))
    received, reset = await exchange(simulator, question(stream=True))
    assert reset is (cut == "reset")
    assert received.count(b"data: ") == 4
    assert b"[DONE]" not in received
    assert received.endswith(b"0\r\n\r\n") is (cut == "clean")
    assert simulator.calls[0].chunks == 4


async def test_a_cut_stream_never_reaches_done(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", Answer("a"), CutStream(after=10_000))
    whole, _ = await exchange(simulator, question(stream=True))
    cut, _ = await exchange(simulator, question(stream=True))
    assert b"[DONE]" in whole
    assert b"[DONE]" not in cut


async def test_a_stream_error_is_an_event_and_an_orderly_end(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", StreamError(after=3, code="boom", message="it broke"))
    answered = await ask(simulator, http, stream=True)
    assert events(answered.body)[3:] == [
        {"error": {"message": "it broke", "type": "server_error", "param": None, "code": "boom"}}
    ]
    assert b"[DONE]" not in answered.body


async def test_garbage_is_200_and_no_json(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    simulator.behave("gpt-4o", Garbage(), Garbage())
    plain, streamed = await ask(simulator, http), await ask(simulator, http, stream=True)
    assert (plain.status, plain.headers["content-type"]) == (200, "application/json")
    assert (streamed.status, streamed.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    for body in (plain.body, streamed.body.split(b"\n\n")[0].removeprefix(b"data: ")):
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(body)


async def test_a_wrong_type_is_200_html(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    simulator.behave("gpt-4o", WrongType())
    answered = await ask(simulator, http, stream=True)
    assert (answered.status, answered.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_every_other_call_is_refused(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    simulator.always("gpt-4o", EveryOther(RateLimited(retry_after=1)))
    assert [(await ask(simulator, http)).status for _ in range(4)] == [200, 429, 200, 429]


async def test_raw_is_exact(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", Raw(299, {"x-odd": "1"}, b"\x00raw"), Raw(204, {}, b""))
    received, _ = await exchange(simulator, question())
    head, _, body = received.partition(b"\r\n\r\n")
    assert body == b"\x00raw"
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == [b"connection", b"content-length", b"date", b"x-odd"]
    empty, _ = await exchange(simulator, question())
    assert empty.startswith(b"HTTP/1.1 204 ")
    assert empty.endswith(b"\r\n\r\n")


async def test_a_raw_stream_sends_each_piece_in_a_chunk_of_its_own(simulator: Simulator) -> None:
    pieces = (b"da", b"ta: {}\r", b"\n\r\n", "é".encode()[:1], "é".encode()[1:])
    simulator.behave("gpt-4o", RawStream(pieces), RawStream(pieces, cut="close"))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    whole, _ = await exchange(simulator, question())
    assert whole.partition(b"\r\n\r\n")[2] == framed + b"0\r\n\r\n"
    cut, _ = await exchange(simulator, question())
    assert cut.partition(b"\r\n\r\n")[2] == framed


async def test_raw_socket_is_not_http(simulator: Simulator) -> None:
    simulator.behave("gpt-4o", RawSocket(b"SSH-2.0-no\r\n"))
    assert await exchange(simulator, question()) == (b"SSH-2.0-no\r\n", False)


async def test_slow_changes_no_byte(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    slow = Slow(headers_seconds=0.001, between_seconds=0.001, pause_after=2, pause_seconds=0.001)
    simulator.behave("gpt-4o", Answer(), slow, Slow(0.001, then=Failure(500)))
    quick, slowly = await ask(simulator, http, stream=True), await ask(simulator, http, stream=True)
    assert quick.body == slowly.body
    assert (await ask(simulator, http)).status == 500


async def test_a_pace_changes_no_byte(http: aiohttp.ClientSession) -> None:
    bodies = []
    for pace in (0.0, 5000.0):
        async with Simulator(seed=1, clock=lambda: CREATED, tokens_per_second=pace) as simulator:
            bodies.append([(await ask(simulator, http, stream=stream)).body for stream in (False, True)])
    assert bodies[0] == bodies[1]


# Which behaviour a call gets


async def test_queued_behaviours_come_before_the_permanent_one(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.always("gpt-4o", Failure(503))
    simulator.behave("gpt-4o", Failure(500), RateLimited())
    assert [(await ask(simulator, http)).status for _ in range(4)] == [500, 429, 503, 503]
    assert (await ask(simulator, http, model="gpt-4.1")).status == 200
    simulator.calm("gpt-4o")
    assert (await ask(simulator, http)).status == 200


async def test_a_refused_body_uses_no_behaviour_up(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    simulator.behave("gpt-4o", Failure(503))
    assert (await ask(simulator, http, n=0)).status == 400
    assert simulator.calls[0].behaviour is None
    assert (await ask(simulator, http)).status == 503
    assert simulator.calls[1].behaviour == Failure(503)


@pytest.mark.parametrize("name", [*catalogue.NAMED, "503"])
async def test_deployment_and_message_choose_the_same_behaviour(
    simulator: Simulator, http: aiohttp.ClientSession, name: str
) -> None:
    expected = catalogue.find(name)
    assert expected is not None
    for asked in (question(f"sim-{name}"), question(content=f"please SIM:{name} now")):
        if not isinstance(expected, Slow):
            await exchange(simulator, asked)
            assert simulator.calls[-1].behaviour == expected


async def test_an_unknown_name_in_a_message_is_answered_with_the_known_ones(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    text = json.loads((await ask(simulator, http, content="sim:nonsense")).body)["choices"][0]["message"][
        "content"
    ]
    assert all(name in text for name in catalogue.NAMED)


async def test_a_deployment_can_be_born_misbehaving(http: aiohttp.ClientSession) -> None:
    async with Simulator(deployments={"flaky": Deployment(behaviour=Failure(500))}) as simulator:
        assert (await ask(simulator, http, model="flaky")).status == 500


# Gates


async def test_a_gate_holds_a_stream_where_the_test_wants_it(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    gate = simulator.gate("gpt-4o", Answer("One two three"))
    asking = asyncio.create_task(
        http.post(v1(simulator), json=question(stream=True), headers={"api-key": KEY})
    )
    await gate.arrived()
    assert simulator.calls[0].status is None
    gate.open(0)
    async with await asking as response:
        assert response.status == 200
        await gate.reached(0)
        assert simulator.calls[0].chunks == 0
        gate.open(3)
        await gate.reached(3)
        assert simulator.calls[0].chunks == 3
        gate.open_all()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


async def test_a_gate_holds_several_calls_and_plain_answers(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    gate = simulator.gate("gpt-4o", calls=2)
    held = [asyncio.create_task(ask(simulator, http)) for _ in range(2)]
    await gate.arrived(calls=2)
    assert (await ask(simulator, http)).status == 200  # the third is not held
    gate.open(1)
    assert [answered.status for answered in await asyncio.gather(*held)] == [200, 200]
    await gate.reached(1, calls=2)


async def test_a_gate_for_all_calls_stays_open_once_opened(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    gate = simulator.gate("gpt-4o", then=Failure(503), calls=None)
    gate.open_all()
    assert [(await ask(simulator, http)).status for _ in range(3)] == [503] * 3


async def test_waiting_at_a_gate_for_what_never_comes_is_a_clear_error(simulator: Simulator) -> None:
    with pytest.raises(TimeoutError, match="no 1 calls with 3 pieces sent"):
        await simulator.gate("gpt-4o").reached(3, timeout=0.01)


# What was received


async def test_a_call_is_recorded_as_it_was_received(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    body = json.dumps(question("o3", "hi"), indent=2).encode()
    await post(http, dated(simulator, "gpt-4o") + "&x=%26", body, **{"api-key": KEY, "X-Mixed-Case": "Kept"})
    call = simulator.calls[0]
    assert (call.number, call.at, call.method, call.deployment) == (1, CREATED, "POST", "gpt-4o")
    assert call.path == "/openai/deployments/gpt-4o/chat/completions"
    assert call.query == f"api-version={NEW_VERSION}&x=%26"
    assert ("X-Mixed-Case", "Kept") in call.headers
    assert (call.header("API-KEY"), call.header("cookie")) == (KEY, None)
    assert (call.body, call.json["model"]) == (body, "o3")
    assert (call.status, call.chunks, call.finished, call.left) == (200, 1, True, False)


async def test_a_client_that_leaves_is_noticed_and_its_usage_is_not_reported(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    gate = simulator.gate("gpt-4o")
    gate.open(4)
    body = question(stream=True, stream_options=USAGE)
    async with http.post(v1(simulator), json=body, headers={"api-key": KEY}) as response:
        await gate.reached(4)
        response.close()
        calls = await simulator.until(lambda calls: calls[0].left)
    assert (calls[0].chunks, calls[0].tokens, calls[0].usage) == (4, 2, None)
    assert (calls[0].ended, calls[0].finished) == (True, False)
    assert simulator.total("gpt-4o") == Total(calls=1)


async def test_totals_are_the_sums_of_what_was_reported(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    simulator.behave("gpt-4o", RateLimited())
    for more in ({}, {}, {"stream": True}, {"stream": True, "stream_options": USAGE}):
        await ask(simulator, http, max_tokens=3, **more)
    await ask(simulator, http, model="gpt-4.1", content="hi", max_tokens=1)
    assert simulator.totals == {
        "gpt-4o": Total(calls=4, answered=2, prompt_tokens=18, completion_tokens=6),
        "gpt-4.1": Total(calls=1, answered=1, prompt_tokens=5, completion_tokens=1),
    }


async def test_only_the_last_calls_are_kept_and_all_are_summed(http: aiohttp.ClientSession) -> None:
    async with Simulator(keep=2) as simulator:
        for _ in range(5):
            await ask(simulator, http)
        assert [call.number for call in simulator.calls] == [4, 5]
        assert simulator.total("gpt-4o").answered == 5
        simulator.reset()
        assert (simulator.calls, simulator.totals) == ((), {})


async def test_waiting_for_what_never_comes_tells_the_calls(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    await ask(simulator, http)
    with pytest.raises(TimeoutError, match=r"path='/openai/v1/chat/completions'"):
        await simulator.until(lambda calls: len(calls) > 1, timeout=0.01)


async def test_closing_ends_what_hangs_and_frees_the_port(http: aiohttp.ClientSession) -> None:
    async with Simulator() as simulator:
        gate = simulator.gate("gpt-4o")
        asking = asyncio.create_task(ask(simulator, http))
        await gate.arrived()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert (simulator.calls[0].finished, simulator.calls[0].left) == (False, False)
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(simulator, http)
    async with simulator:  # comes back at the same address
        assert (await ask(simulator, http)).status == 200


async def test_several_simulators_run_side_by_side(http: aiohttp.ClientSession) -> None:
    async with Simulator(keys={"a"}) as one, Simulator(keys={"b"}) as two:
        assert one.url != two.url
        assert (await post(http, v1(one), question(), **{"api-key": "a"})).status == 200
        assert (await post(http, v1(two), question(), **{"api-key": "a"})).status == 401


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 TLS hello\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /openai/v1/chat/completions HTTP/1.0\r\n\r\n",
        b"HEAD /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET http://[::bad HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_hostile_bytes_get_a_4xx_and_no_traceback(
    simulator: Simulator,
    http: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
) -> None:
    received, _ = await talk(simulator, sent)
    assert received.split(b" ")[1].startswith(b"4")
    assert (await ask(simulator, http)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_an_http_1_0_client_gets_its_stream_without_chunks(simulator: Simulator) -> None:
    body = json.dumps(question(stream=True)).encode()
    head = (
        f"POST /openai/v1/chat/completions HTTP/1.0\r\napi-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    received, _ = await talk(simulator, head.encode() + body)
    assert received.endswith(b"data: [DONE]\n\n")


# As a program


@contextlib.asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tools.simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        creationflags=flags,
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def polite_signals() -> list[signal.Signals]:
    if sys.platform == "win32":
        return [signal.CTRL_BREAK_EVENT]
    return [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("how", polite_signals())
async def test_the_program_serves_and_ends_in_order(http: aiohttp.ClientSession, how: signal.Signals) -> None:
    async with program("--key", "k", "--tokens-per-second", "0", "--deployment", "gpt-4o") as (process, line):
        before, url = line.split(" on ")
        assert before == "simulated Azure OpenAI"
        assert url.startswith("http://127.0.0.1:")
        hanging = asyncio.create_task(
            post(http, f"{url}/openai/v1/chat/completions", question("sim-hang"), **{"api-key": "k"})
        )
        answered = await post(http, f"{url}/openai/v1/chat/completions", question(), **{"api-key": "k"})
        assert answered.status == 200
        process.send_signal(how)
        assert await process.wait() == 0
        with pytest.raises(aiohttp.ClientError):
            await hanging


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "--key"),
        (("--key", "k", "--port", "70000"), "'70000' is not a port"),
        (("--key", "k", "--tokens-per-second", "nan"), "'nan' is not a number of 0 or more"),
    ],
)
async def test_wrong_arguments_are_a_clear_error(arguments: tuple[str, ...], reason: str) -> None:
    async with program(*arguments) as (process, _):
        _, error = await process.communicate()
        assert process.returncode == 2
        assert reason in error.decode()


async def test_a_taken_port_is_a_clear_error(simulator: Simulator) -> None:
    async with program("--key", "k", "--port", simulator.url.rpartition(":")[2]) as (process, _):
        _, error = await process.communicate()
        assert process.returncode == 2
        assert error.decode().startswith("cannot listen on port")
        assert "Traceback" not in error.decode()


async def test_received_tells_the_calls_without_the_keys(http: aiohttp.ClientSession) -> None:
    async with Simulator(control=True, keys={"secret-key"}) as simulator:
        await post(http, v1(simulator), question(max_tokens=2), **{"api-key": "secret-key"})
        await post(http, v1(simulator), question(), authorization="Bearer secret-key")
        await post(http, v1(simulator), b'{"deep":' + b"[" * 600 + b"]" * 600 + b"}")
        async with http.get(f"{simulator.url}/_received") as response:
            text = await response.text()
    received = json.loads(text)
    assert "secret-key" not in text
    assert received["calls"][0]["body"] == question(max_tokens=2)
    assert received["calls"][0]["usage"] == {"prompt_tokens": 9, "completion_tokens": 2}
    assert received["totals"]["gpt-4o"]["answered"] == 2


async def test_behave_orders_by_name(http: aiohttp.ClientSession) -> None:
    async with Simulator(control=True) as simulator:
        order = {"deployment": "gpt-4o", "behaviour": "503", "times": 2}
        assert (await post(http, f"{simulator.url}/_behave", order)).status == 200
        assert [(await ask(simulator, http)).status for _ in range(3)] == [503, 503, 200]
        always = {"deployment": "gpt-4o", "behaviour": "content-filter"}
        assert (await post(http, f"{simulator.url}/_behave", always)).status == 200
        assert [(await ask(simulator, http)).status for _ in range(2)] == [400, 400]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (b"{", "not JSON"),
        ([], "not an object"),
        ({"behaviour": "429"}, "deployment"),
        ({"deployment": "other", "behaviour": "429"}, "deployment"),
        ({"deployment": "gpt-4o", "behaviour": "dance"}, "content-filter"),
        ({"deployment": "gpt-4o", "behaviour": "429", "times": 0}, "times"),
        ({"deployment": "gpt-4o", "behaviour": "429", "times": True}, "times"),
    ],
)
async def test_a_wrong_order_is_a_clear_error(http: aiohttp.ClientSession, order: Any, reason: str) -> None:
    async with Simulator(control=True, deployments=["gpt-4o"]) as simulator:
        answered = await post(http, f"{simulator.url}/_behave", order)
    assert answered.status == 400
    assert reason in answered.error["message"]


async def test_control_answers_neither_other_names_of_this_machine_nor_other_methods(
    http: aiohttp.ClientSession,
) -> None:
    async with Simulator(control=True) as simulator:
        assert (await post(http, f"{simulator.url}/_behave", {}, host="evil.example")).status == 403
        assert (await post(http, f"{simulator.url}/_received", {})).status == 405


async def test_control_is_absent_unless_it_is_wanted(
    simulator: Simulator, http: aiohttp.ClientSession
) -> None:
    assert (await post(http, f"{simulator.url}/_behave", {})).status == 404
