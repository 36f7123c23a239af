"""The simulated Azure OpenAI is honest: its events and refusals have Azure's form, faults happen as ordered."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import openai
import pytest

from tests.responses import WireResponse, response_of
from tools import simulator as sim
from tools.processes import Child
from tools.simulator import Answer, Failure, RateLimited, Usage

KEY = {"api-key": "sim-key"}
DEPLOYMENTS = dict.fromkeys(("gpt-4o", "gpt-4.1", "o3-mini"), sim.Deployment())
DEPLOYMENTS["old"] = sim.Deployment(refuses_max_completion_tokens=True)
WITH_USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
STREAM, JSON = "text/event-stream; charset=utf-8", "application/json"
SAFE = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")}
V1 = "/openai/v1/chat/completions"
DEPLOYMENT_FORM = "/openai/deployments/gpt-4o/chat/completions"
DATED = f"{DEPLOYMENT_FORM}?api-version=2024-10-21"


def chat(model: str = "gpt-4o", content: Any = "tell me about sea otters", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


async def post(url: str, body: Any, headers: Mapping[str, str] = KEY) -> WireResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with aiohttp.ClientSession() as http:
        return await response_of(http.post(url, data=data, headers=headers))


class Upstream(sim.Simulator):
    async def chat(self, **body: Any) -> WireResponse:
        return await post(self.url + V1, chat(**body))

    async def exchange(self, **body: Any) -> tuple[bytes, bytes, bool]:
        """The head and the body of a response as bytes, and whether its connection was reset."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        received, reset, sent = b"", False, json.dumps(chat(**body)).encode()
        lines = [f"POST {V1} HTTP/1.1", "host: x", "connection: close", "api-key: sim-key"]
        writer.write("\r\n".join([*lines, f"content-length: {len(sent)}", "", ""]).encode() + sent)
        try:
            while piece := await reader.read(65536):
                received += piece
        except ConnectionResetError:
            reset = True
        writer.close()
        head, _, content = received.partition(b"\r\n\r\n")
        return head, content, reset


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(deployments=DEPLOYMENTS, bearers={"signed"}, repeatable=True) as upstream:
        yield upstream


def events(body: bytes) -> list[Any]:
    """The data of each event but `[DONE]`."""
    data = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    return [json.loads(each) for each in data if each != b"[DONE]"]


# Requests


async def test_both_openai_clients_get_an_answer_that_says_it_is_simulated(upstream: Upstream) -> None:
    messages: Any = [{"role": "user", "content": "What is a glove box?"}]
    v1 = openai.AsyncOpenAI(base_url=f"{upstream.url}/openai/v1", api_key="sim-key")
    azure = openai.AsyncAzureOpenAI(azure_endpoint=upstream.url, api_key="sim-key", api_version="2024-10-21")
    for client in (v1, azure):
        async with client:
            plain = await client.chat.completions.create(model="gpt-4o", messages=messages)
            stream = await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
            words = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        text = plain.choices[0].message.content or ""
        assert text.startswith("This is a simulated answer")
        assert "You asked: “What is a glove box?”" in text
        assert "".join(words) == text
    assert [call.form for call in upstream.calls] == ["v1", "v1", "deployments", "deployments"]


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (V1, {"authorization": "bearer signed"}, 200, None),
        (V1, {"authorization": "Bearer sim-key"}, 200, None),
        (V1, {"api-key": "wrong"}, 401, "401"),
        (V1, {"authorization": "Basic sim-key"}, 401, "401"),
        (V1, {"accept": "*/*"}, 401, "401"),
        (f"{V1}?api-version=preview", KEY, 200, None),
        (f"{V1}?api-version=2024-10-21", KEY, 400, "BadRequest"),
        (DATED, {"authorization": "Bearer signed"}, 200, None),
        (DATED, {"authorization": "Bearer sim-key"}, 401, "401"),
        (f"{DEPLOYMENT_FORM}?api-version=2024-06-01", KEY, 400, None),  # too old for stream_options
        (f"{DEPLOYMENT_FORM}?api-version=2024-09-01-preview", KEY, 200, None),
        (f"{DATED}-beta", KEY, 404, "404"),
        (DEPLOYMENT_FORM, KEY, 404, "404"),
        (DATED.replace("gpt-4o", "gpt-5"), KEY, 404, "DeploymentNotFound"),
        (DATED.replace("gpt-4o", "a/b"), KEY, 404, "404"),
        ("/openai/v1/unknown", KEY, 404, "404"),
        ("/", KEY, 404, "404"),
    ],
)
async def test_path_version_and_credential_are_checked_as_azure_does(
    upstream: Upstream, path: str, headers: dict[str, str], status: int, code: str | None
) -> None:
    got = await post(upstream.url + path, chat() | WITH_USAGE, headers)
    assert (got.status, code and got.error["code"]) == (status, code)
    assert got.headers["apim-request-id"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
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
        (chat(max_tokens="5"), "max_tokens", "invalid_type"),
        (chat(max_tokens=1.5), "max_tokens", "invalid_type"),
        (chat(max_tokens=True), "max_tokens", "invalid_type"),
        (chat(max_completion_tokens=0), "max_completion_tokens", "integer_below_min_value"),
        (chat(max_tokens=5, max_completion_tokens=5), None, "invalid_parameter_combination"),
        (chat("o3-mini", max_tokens=5), "max_tokens", "unsupported_parameter"),
        (chat("old", max_completion_tokens=5), "max_completion_tokens", "unsupported_parameter"),
        (chat(n=129), "n", "integer_above_max_value"),
        (chat(content="word " * 128_000), "messages", "context_length_exceeded"),
        (chat(stream="yes"), "stream", "invalid_type"),
        (chat(stream_options={}), "stream_options", None),
        (chat(stream=True, stream_options=[]), "stream_options", "invalid_type"),
    ],
)
async def test_a_wrong_body_is_refused_in_the_form_of_openai(
    upstream: Upstream, body: Any, param: str | None, code: str | None
) -> None:
    upstream.behave("gpt-4o", Failure(503))
    got = await post(upstream.url + V1, body)
    assert (got.status, got.error["type"]) == (400, "invalid_request_error")
    assert (got.error["param"], got.error["code"]) == (param, code)
    assert (await upstream.chat()).status == 503  # the refused request did not use it up


# Successful responses


async def test_a_whole_body_is_compact_json_in_the_form_of_azure(upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Answer("Hello — you"))
    got = await upstream.chat(content="one two")
    body = json.loads(got.body)
    assert got.body == json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    (choice,) = body["choices"]
    message: Any = {"annotations": [], "content": "Hello — you", "refusal": None, "role": "assistant"}
    assert (choice["index"], choice["finish_reason"], choice["message"]) == (0, "stop", message)
    assert choice["content_filter_results"] == SAFE
    assert (body["object"], body["created"]) == ("chat.completion", 0)
    assert body["prompt_filter_results"][0]["content_filter_results"].items() >= SAFE.items()
    counts = {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}
    assert body["usage"].items() >= counts.items()
    assert (got.headers["content-type"], got.headers["x-ms-deployment-name"]) == (JSON, "gpt-4o")
    assert "server" not in got.headers


async def test_a_stream_has_the_events_of_azure_in_order(upstream: Upstream) -> None:
    upstream.always("gpt-4o", Answer("Two words"))
    got = await upstream.chat(**WITH_USAGE)
    first, role, one, two, finish, usage = events(got.body)
    assert got.headers["content-type"] == STREAM
    assert (first["choices"], first["id"], "prompt_filter_results" in first) == ([], "", True)
    assert role["choices"][0]["delta"] == {"content": "", "refusal": None, "role": "assistant"}
    assert [each["choices"][0]["delta"] for each in (one, two)] == [{"content": "Two"}, {"content": " words"}]
    assert one["choices"][0]["content_filter_results"] == SAFE
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 2)
    assert "usage" not in first
    assert [each["usage"] for each in (role, one, two, finish)] == [None] * 4
    assert got.body.endswith(b"}\n\ndata: [DONE]\n\n")
    without = await upstream.chat(stream=True)
    kept = [event for event in got.body.split(b"\n\n") if b'"usage":{' not in event]
    assert b"\n\n".join(kept).replace(b',"usage":null', b"") == without.body


@pytest.mark.parametrize("stream", [{}, WITH_USAGE])
@pytest.mark.parametrize("param", ["max_tokens", "max_completion_tokens"])
async def test_choices_are_cut_at_the_limit(upstream: Upstream, param: str, stream: dict[str, Any]) -> None:
    got = await upstream.chat(n=3, **{param: 4}, **stream)
    chunks = events(got.body) if stream else [json.loads(got.body)]
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert [(each["index"], each["finish_reason"]) for each in choices] == [(n, "length") for n in range(3)]
    assert (upstream.calls[0].usage, upstream.calls[0].tokens) == (Usage(5 + 4, 12), 12)


async def test_each_word_message_and_image_of_a_prompt_costs_tokens(upstream: Upstream) -> None:
    text = {"type": "text", "text": "what is \ud800 this"}
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "assistant", "content": None},
    ]
    assert (await post(upstream.url + V1, {"model": "gpt-4o", "messages": messages})).status == 200
    assert upstream.total("gpt-4o").prompt_tokens == 2 + 4 + 85 + 3 * 4


async def test_usage_can_be_overridden_or_left_out(upstream: Upstream) -> None:
    upstream.behave("gpt-4o", Answer(prompt_tokens=0, completion_tokens=500), Answer(report_usage=False))
    await upstream.chat()
    silent = await upstream.chat(**WITH_USAGE)
    assert [call.usage for call in upstream.calls] == [Usage(0, 500), None]
    assert b'"usage":{' not in silent.body


async def test_ids_are_equal_only_if_responses_are_repeatable(upstream: Upstream) -> None:
    async with Upstream() as other:
        ids = [json.loads((await each.chat()).body)["id"] for each in (upstream, upstream, other, other)]
    assert (ids[0][:9], ids[0] == ids[1], len(set(ids))) == ("chatcmpl-", True, 3)


# Faults


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (sim.FilteredPrompt(), 400, "content_filter"),
        (sim.TooLong(), 400, "context_length_exceeded"),
        (Failure(401), 401, "401"),
        (Failure(404), 404, "DeploymentNotFound"),
        (Failure(503), 503, "ServiceUnavailable"),
        (Failure(599), 599, "599"),
        (Failure(503, b'{"error":{"code":"mine"}}', {"retry-after": "1"}), 503, "mine"),
    ],
)
async def test_each_failure_has_the_body_of_azure_or_its_own(
    upstream: Upstream, behaviour: sim.Behaviour, status: int, code: str, stream: bool
) -> None:
    upstream.behave("gpt-4o", behaviour)
    got = await upstream.chat(stream=stream)
    assert (got.status, got.headers["content-type"], got.error["code"]) == (status, JSON, code)
    assert ("retry-after" in got.headers) is (code == "mine")
    if code == "content_filter":
        assert got.error["innererror"]["content_filter_result"]["violence"]["filtered"] is True


@pytest.mark.parametrize(
    ("behaviour", "headers"),
    [
        (RateLimited(), {}),
        (RateLimited(1500, "soon"), {"retry-after-ms": "1500", "retry-after": "soon"}),
        (RateLimited(reset_requests=0), {"x-ratelimit-reset-requests": "0"}),
        (RateLimited(reset_tokens=-1), {"x-ratelimit-reset-tokens": "-1"}),
    ],
)
async def test_429_has_the_given_headers(upstream: Upstream, behaviour: Any, headers: dict[str, str]) -> None:
    upstream.behave("gpt-4o", behaviour)
    got = await upstream.chat()
    assert (got.status, got.error["code"]) == (429, "429")
    sent = {name: value for name, value in got.headers.items() if name.startswith(("retry", "x-ratelimit"))}
    assert sent == headers


@pytest.mark.parametrize(
    ("behaviour", "stream", "type_", "part"),
    [
        (Failure(502), True, "text/html", b"502 Bad Gateway"),
        (sim.WrongType(), True, "text/html; charset=utf-8", b"<title>Sign in"),
        (sim.Garbage(), True, STREAM, b"{not json"),
        (sim.Garbage(), False, JSON, b'"content":"half a'),
        (Answer(filtered_after=2), True, STREAM, b'"finish_reason":"content_filter"'),
        (Answer(filtered_after=2), False, JSON, b'"finish_reason":"content_filter"'),
        (sim.StreamError(after=3, message="Broken."), True, STREAM, b'data: {"error":{"message":"Broken."'),
        (sim.Slow(0.001, 0.001), True, STREAM, b"data: [DONE]"),
    ],
)
async def test_other_faults_have_their_type_and_body(
    upstream: Upstream, behaviour: sim.Behaviour, stream: bool, type_: str, part: bytes
) -> None:
    upstream.behave("gpt-4o", behaviour)
    got = await upstream.chat(stream=stream)
    assert got.headers["content-type"] == type_
    assert part in got.body
    ends_well = stream and isinstance(behaviour, Answer | sim.Slow)
    assert got.body.endswith(b"data: [DONE]\n\n") is ends_well


@pytest.mark.parametrize("ending", ["close", "reset", "clean"])
async def test_a_cut_stream_ends_after_so_many_events(upstream: Upstream, ending: Any) -> None:
    upstream.behave("gpt-4o", sim.CutStream(after=4, cut=ending), sim.CutStream(after=10_000))
    _, body, reset = await upstream.exchange(stream=True)
    assert reset is (ending == "reset")
    assert (body.count(b"data: "), b"[DONE]" in body) == (4, False)
    assert body.endswith(b"0\r\n\r\n") is (ending == "clean")
    assert (upstream.calls[0].chunks, upstream.calls[0].finished) == (4, True)
    _, body, _ = await upstream.exchange(stream=True)
    assert (b'"finish_reason":"stop"' in body, b"[DONE]" in body) == (True, False)


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_connection_ends_before_or_within_a_response(upstream: Upstream, ending: Any) -> None:
    upstream.behave("gpt-4o", sim.ResetBeforeHeaders(ending), sim.CutBody(ending))
    assert await upstream.exchange() == (b"", b"", ending == "reset")
    assert upstream.calls[0].status is None
    head, body, reset = await upstream.exchange()
    promised = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    assert (promised // 2, reset) == (len(body), ending == "reset")


async def test_raw_behaviours_send_exactly_the_given_bytes(upstream: Upstream) -> None:
    pieces = (b"da", b"ta: {}\r", b"\n\r\n", "é".encode()[:1])
    upstream.behave("gpt-4o", sim.Raw(299, {"x-odd": "1"}, b"\x00raw"), sim.RawSocket(b"SSH-2.0\r\n"))
    upstream.behave("gpt-4o", sim.RawStream(pieces), sim.RawStream(pieces, cut="close"))
    head, body, _ = await upstream.exchange()
    names = {line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert (body, names) == (b"\x00raw", {b"connection", b"content-length", b"date", b"x-odd"})
    assert await upstream.exchange() == (b"SSH-2.0\r\n", b"", False)
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    assert (await upstream.exchange())[1] == framed + b"0\r\n\r\n"
    assert (await upstream.exchange())[1] == framed


# Orders, gates and the journal


async def test_queue_permanent_behaviour_and_message_choose_in_this_order(upstream: Upstream) -> None:
    async def statuses(count: int, model: str, content: str) -> list[int]:
        return [(await upstream.chat(model=model, content=content)).status for _ in range(count)]

    upstream.always("gpt-4o", Failure(503))
    upstream.behave("gpt-4o", Failure(500), RateLimited())
    assert await statuses(4, "gpt-4o", "please SIM:429 now") == [500, 429, 503, 503]
    assert await statuses(1, "gpt-4.1", "please SIM:429 now") == [429]
    assert await statuses(1, "gpt-4.1", "sim:418") == [418]
    upstream.always("gpt-4.1", sim.EveryOther(Failure(504)))
    assert await statuses(4, "gpt-4.1", "hi") == [200, 504, 200, 504]
    upstream.reset()
    assert await statuses(1, "gpt-4o", "hi") == [200]
    assert b"sim:NAME" in (await upstream.chat(content="sim:unknown")).body


async def test_a_gate_holds_responses_until_a_test_opens_it(upstream: Upstream) -> None:
    gate = upstream.gate("gpt-4o", Answer("One two three"), calls=2)
    held = [asyncio.create_task(upstream.chat(stream=True)) for _ in range(2)]
    await gate.arrived(2)
    assert (await upstream.chat()).status == 200  # a third request has no gate
    assert [call.status for call in upstream.calls] == [None, None, 200]
    gate.open(0)
    await upstream.until(lambda calls: [call.status for call in calls] == [200] * 3)
    assert [call.chunks for call in upstream.calls] == [0, 0, 1]
    gate.open(3)
    await gate.reached(3)
    assert max(call.chunks for call in upstream.calls) == 3
    gate.open_all()
    assert [(await each).body.endswith(b"[DONE]\n\n") for each in held] == [True, True]


async def test_a_call_is_recorded_as_received(upstream: Upstream) -> None:
    body = json.dumps(chat("o3", "hi"), indent=2).encode()
    await post(f"{upstream.url}{DATED}&x=%26", body, {**KEY, "X-Mixed-Case": "Kept"})
    (call,) = upstream.calls
    assert (call.method, f"{call.path}?{call.query}") == ("POST", f"{DATED}&x=%26")
    assert ("X-Mixed-Case", "Kept") in call.headers
    assert (call.header("api-key"), call.header("cookie")) == ("sim-key", None)
    assert (call.deployment, call.body, call.json["model"]) == ("gpt-4o", body, "o3")
    assert (call.status, call.chunks, call.finished, call.left) == (200, 1, True, False)


async def test_a_client_that_leaves_is_noticed_and_gets_no_usage(upstream: Upstream) -> None:
    gate = upstream.gate("gpt-4o")
    gate.open(4)
    waiting = asyncio.create_task(upstream.chat(**WITH_USAGE))
    await gate.reached(4)
    waiting.cancel()
    (call,) = await upstream.until(lambda calls: calls[0].left)
    assert (call.chunks, call.tokens, call.usage, call.finished) == (4, 2, None, False)
    assert upstream.total("gpt-4o") == sim.Total(1, 0, 0)


async def test_totals_are_the_sums_of_the_reported_usage(upstream: Upstream) -> None:
    upstream.behave("gpt-4o", RateLimited())
    for more in ({}, {}, {"stream": True}, WITH_USAGE, {"n": 0}):
        await upstream.chat(max_tokens=3, **more)
    await upstream.chat(model="gpt-4.1", content="hi", max_tokens=1)
    assert upstream.totals == {"gpt-4o": sim.Total(4, 18, 6), "gpt-4.1": sim.Total(1, 5, 1)}


async def test_waiting_for_calls_that_never_come_shows_the_calls(upstream: Upstream) -> None:
    await upstream.chat()
    with pytest.raises(TimeoutError, match=f"path='{V1}'"):
        await upstream.until(lambda calls: len(calls) > 1, seconds=0.01)


# The program


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_program_serves_until_a_signal(number: signal.Signals) -> None:
    options = ["--key", "sim-key", "--tokens-per-second", "5000"]
    with Child("simulator", [sys.executable, "-m", "tools.simulator", *options]) as child:
        url = child.expect("simulated Azure OpenAI on ", 30).split()[-1] + V1
        waiting = asyncio.create_task(post(url, chat(content="sim:slow")))
        statuses = [(await post(url, chat(stream=stream))).status for stream in (False, True)]
        assert statuses == [200, 200]
        os.kill(child.pid, number)
        child.finish(30)
        with pytest.raises(aiohttp.ClientError):
            await waiting
