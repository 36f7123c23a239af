"""Requests to the upstream and responses to the client: bytes, headers, output limits, failures and the cache."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import aiohttp
import pytest

from shared.core.models import Deployment
from shared.tables.service import open_service
from tests.conftest import CREDENTIAL, EVENT, KEY, MODEL, QUESTION, Stage, serve
from tests.responses import WireResponse, response_of
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.ports import free
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    EveryOther,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    Raw,
    RawSocket,
    ResetBeforeHeaders,
    Simulator,
    StreamError,
    TooLong,
    WrongType,
)
from tools.tap import TableTap

REQUEST = (
    b'{ "model" : "gpt-4o-mini",\r\n\t"messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\/ \\ud83d\\ude00"}],'
    b'"temperature":1.00, "seed":123456789012345678901234567890,"a_future_field":{"b":[1,2.50,1e2,null]} , '
    b'"user" : "x" }\n'
)
FORWARDED = (
    b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\/ \\ud83d\\ude00"}],'
    b'"temperature":1.00,"seed":123456789012345678901234567890,"a_future_field":{"b":[1,2.50,1e2,null]},'
    b'"user":"x"}'
)
"""The same members without the space between them. Each value keeps every byte."""
TO_UPSTREAM = {"host", "content-type", "content-length", "accept", "accept-encoding", "api-key"}
TO_CLIENT = {"date", "server", "content-type", "content-length", "x-request-id", "apim-request-id"}


async def chat_with_limit(stage: Stage, limit: int, **body: Any) -> WireResponse:
    return await stage.chat(await stage.add_event(max_output_tokens=limit), **body)


# ---- the request body


async def test_every_member_is_forwarded_unchanged(stage: Stage) -> None:
    response = await response_of(stage.post(data=REQUEST))
    assert response.status == 200
    assert stage.simulator.calls[-1].body == FORWARDED


async def test_only_the_model_changes_if_the_deployment_has_another_name(stage: Stage) -> None:
    model = await stage.add_deployment(deployment_name="prod-east")
    code = await stage.add_event(models=(model,))
    body = REQUEST.replace(b"gpt-4o-mini", model.encode())
    response = await response_of(stage.post(headers={"api-key": f"{code}/ann"}, data=body))
    assert response.status == 200
    assert stage.simulator.calls[-1].body == FORWARDED.replace(b"gpt-4o-mini", b"prod-east")


async def test_a_missing_model_is_added(stage: Stage) -> None:
    body = b'{"messages":[{"role":"user", "content":"hi"}],"x":1.0}'
    assert (await response_of(stage.post(data=body))).status == 200
    assert stage.simulator.calls[-1].body == body[:-1] + b',"model":"gpt-4o-mini"}'


@pytest.mark.parametrize("model", ["null", '""'])
async def test_an_empty_model_means_the_default(stage: Stage, model: str) -> None:
    body = b'{"model":%s,"messages":[{"role":"user","content":"hi"}]}' % model.encode()
    assert (await response_of(stage.post(data=body))).status == 200
    assert stage.simulator.calls[-1].body == body.replace(model.encode(), b'"gpt-4o-mini"', 1)


async def test_the_dated_form_uses_its_own_api_version_and_leaves_the_body_unchanged(
    stage: Stage,
) -> None:
    model = await stage.add_deployment(api_version="2024-10-21", deployment_name="prod")
    code = await stage.add_event(models=(model,), default_model=model)
    path = "/v1/chat/completions?api-version=2023-09-01-preview"
    body = json.dumps(QUESTION, separators=(",", ":")).encode()
    response = await response_of(stage.post(path, headers={"api-key": f"{code}/ann"}, data=body))
    assert response.status == 200
    call = stage.simulator.calls[-1]
    assert (call.form, call.path) == ("deployments", "/openai/deployments/prod/chat/completions")
    assert (call.query, call.body) == ("api-version=2024-10-21", body)


async def test_an_endpoint_may_end_with_a_slash(stage: Stage) -> None:
    model = await stage.add_deployment(endpoint=stage.simulator.url + "/")
    code = await stage.add_event(models=(model,), default_model=model)
    assert (await stage.chat(code)).status == 200
    assert stage.simulator.calls[-1].path == "/openai/v1/chat/completions"


async def test_a_large_body_is_forwarded_completely(stage: Stage) -> None:
    words = "word " * 100_000
    body = json.dumps({"messages": [{"role": "user", "content": words}]}).encode()
    response = await response_of(stage.post("/v1/deployments/gpt-4o/chat/completions", data=body))
    assert response.status == 200
    assert stage.simulator.calls[-1].json["messages"][0]["content"] == words


async def test_a_body_above_a_mebibyte_is_forwarded_without_a_warning(stage: Stage) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        yield b'{"messages":[{"role":"user","content":"hi"}],"metadata":{"blob":"'
        for _ in range(20):
            yield b"x" * 100_000
        yield b'"}}'

    response = await response_of(stage.post(data=in_pieces()))
    assert response.status == 200
    assert len(stage.simulator.calls[-1].body) > 2_000_000


# ---- headers


async def test_only_listed_headers_are_forwarded(stage: Stage) -> None:
    sent = {
        "openai-event-code": CREDENTIAL,
        "authorization": f"Bearer {CREDENTIAL}",
        "cookie": "session=1",
        "user-agent": "attendee/1",
        "x-forwarded-for": "203.0.113.9",
        "x-real-ip": "203.0.113.9",
        "openai-organization": "org",
        "openai-project": "proj",
        "x-stainless-lang": "python",
        "x-ms-useragent": "x",
        "x-functions-key": "secret",
        "ocp-apim-subscription-key": "another",
        "accept": "application/json",
        "accept-encoding": "gzip, br",
        "referer": "https://example.test/",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=1",
        "x-ms-client-request-id": "mine-1",
    }
    for header in ("api-key", "openai-event-code"):
        assert (await response_of(stage.post(headers=sent | {header: CREDENTIAL}))).status == 200
        call = stage.simulator.calls[-1]
        names = {name.lower() for name, _ in call.headers}
        assert names == TO_UPSTREAM | {"traceparent", "tracestate", "x-ms-client-request-id"}
        assert call.header("traceparent") == sent["traceparent"]
        assert call.header("x-ms-client-request-id") == "mine-1"
        assert (call.header("api-key"), call.header("accept-encoding")) == (KEY, "identity")


@pytest.mark.parametrize("header", ["api-key", "openai-event-code", "authorization"])
async def test_the_credential_is_never_forwarded(stage: Stage, header: str) -> None:
    value = f"Bearer {CREDENTIAL}" if header == "authorization" else CREDENTIAL
    for path in ("/v1/chat/completions", "/api/v1/deployments/gpt-4o/chat/completions"):
        response = await response_of(stage.post(f"{path}?code={CREDENTIAL}", headers={header: value}))
        assert response.status == 200
    for call in stage.simulator.calls:
        request = repr((call.path, call.query, call.headers, call.body))
        assert "gloveboxes" not in request
        assert "hackathon" not in request


async def test_only_listed_headers_are_returned(stage: Stage) -> None:
    private = {
        "server": "azure-host-17",
        "set-cookie": "a=b",
        "x-ms-region": "East US 2",
        "x-ms-deployment-name": "prod-east",
        "azureml-model-session": "d1",
        "x-ratelimit-remaining-tokens": "5",
        "x-ratelimit-limit-requests": "100",
        "retry-after": "3",
        "www-authenticate": "Bearer",
        "location": "https://private.openai.azure.com",
        "x-envoy-upstream-service-time": "4",
        "via": "1.1 gateway",
        "cache-control": "no-store",
        "strict-transport-security": "max-age=1",
    }
    public = {
        "content-type": "application/json",
        "apim-request-id": "a-1",
        "x-request-id": "r-1",
        "x-ms-client-request-id": "c-1",
        "openai-processing-ms": "42",
    }
    for status in (200, 400):
        stage.simulator.behave(MODEL, Raw(status, private | public, b'{"choices":[]}'))
        response = await stage.chat()
        assert response.status == status
        assert response.headers.keys() <= TO_CLIENT | public.keys()
        assert public.items() <= response.headers.items()
        assert "azure-host" not in repr(response.headers)


async def test_a_response_without_an_upstream_id_gets_an_id_of_the_proxy(stage: Stage) -> None:
    stage.simulator.behave(MODEL, *[Raw(200, {"content-type": "application/json"}, b"{}")] * 2)
    ids = {(await stage.chat()).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


BEHAVIOURS: list[Behaviour] = [
    Answer(),
    FilteredPrompt(),
    Answer(filtered_after=3),
    TooLong(),
    RateLimited(retry_after=1),
    *[Failure(status) for status in (401, 403, 404, 408, 409, 422, 500, 502, 503, 504)],
    ResetBeforeHeaders(),
    CutBody(),
    StreamError(),
    Garbage(),
    WrongType(),
    RawSocket(),
]


@pytest.mark.parametrize("stream", [False, True])
async def test_no_response_shows_a_key_an_endpoint_a_host_or_a_region(stage: Stage, stream: bool) -> None:
    host = stage.simulator.url.removeprefix("http://")
    secrets = [KEY, "SIMULATOR_KEY", host, host.split(":")[1], "East US", "azureml", "gateway", "Gateway"]
    for behaviour in BEHAVIOURS:
        stage.simulator.behave(MODEL, behaviour)
        response = await stage.chat(stream=stream)
        await stage.end_cool_downs()
        # The ids in a completion can contain the digits of the port, so only errors are searched for it.
        shown = repr(response.headers) + response.body.decode("utf-8", "replace")
        for secret in secrets if response.status != 200 else [*secrets[:3], "East US", "azureml"]:
            assert secret not in shown, (behaviour, secret)


# ---- output limits


async def test_a_missing_output_limit_is_added_in_the_field_that_the_deployment_accepts(stage: Stage) -> None:
    response = await chat_with_limit(stage, 50)
    assert (response.status, response.headers["x-event-max-output-tokens"]) == (200, "50")
    sent = stage.simulator.calls[-1].json
    assert sent["max_completion_tokens"] == 50
    assert "max_tokens" not in sent
    model = await stage.add_deployment(output_field="max_tokens")
    code = await stage.add_event(models=(model,), default_model=model, max_output_tokens=50)
    response = await stage.chat(code)
    assert (response.status, stage.simulator.calls[-1].json["max_tokens"]) == (200, 50)
    assert "max_completion_tokens" not in stage.simulator.calls[-1].json


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("requested", "choices", "sent"),
    [(500, 1, 100), (101, 1, 100), (100, 1, None), (7, 1, None), (100, 4, 25), (25, 4, None), (10, 100, 1)],
)
async def test_a_higher_limit_is_lowered_in_the_field_that_the_client_used(
    stage: Stage, field: str, requested: int, choices: int, sent: int | None
) -> None:
    response = await chat_with_limit(stage, 100, n=choices, **{field: requested})
    assert response.status == 200
    assert stage.simulator.calls[-1].json[field] == (sent or requested)
    assert response.headers.get("x-event-max-output-tokens") == (str(sent) if sent else None)
    assert len({"max_tokens", "max_completion_tokens"} & stage.simulator.calls[-1].json.keys()) == 1
    assert json.loads(response.body)["usage"]["completion_tokens"] <= 100


async def test_the_limit_and_its_header_apply_to_streams(stage: Stage) -> None:
    response = await chat_with_limit(stage, 3, stream=True)
    assert (response.status, response.headers["x-event-max-output-tokens"]) == (200, "3")
    assert stage.simulator.calls[-1].tokens == 3


async def test_both_fields_are_lowered_if_both_are_sent(stage: Stage) -> None:
    await chat_with_limit(stage, 10, max_tokens=500, max_completion_tokens=5)
    sent = stage.simulator.calls[-1].json
    assert (sent["max_tokens"], sent["max_completion_tokens"]) == (10, 5)


async def test_a_null_limit_counts_as_missing(stage: Stage) -> None:
    response = await chat_with_limit(stage, 10, max_tokens=None, max_completion_tokens=None)
    assert response.headers["x-event-max-output-tokens"] == "10"
    assert stage.simulator.calls[-1].json["max_completion_tokens"] == 10


async def test_more_choices_than_output_tokens_are_refused(stage: Stage) -> None:
    response = await chat_with_limit(stage, 3, n=4)
    assert (response.status, response.error["code"], response.error["param"]) == (400, "invalid_request", "n")
    assert "3" in response.error["message"]
    assert not stage.simulator.calls


async def test_an_event_without_a_limit_leaves_the_request_unchanged(stage: Stage) -> None:
    response = await stage.chat(model=MODEL, max_tokens=100_000)
    assert "x-event-max-output-tokens" not in response.headers
    assert stage.simulator.calls[-1].json["max_tokens"] == 100_000


# ---- responses that are passed on unchanged


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "behaviour", [FilteredPrompt(), TooLong(), Failure(409), Failure(422), Failure(415, b"\xff not json")]
)
async def test_an_upstream_refusal_of_the_request_is_passed_on_unchanged(
    stage: Stage, behaviour: Behaviour, stream: bool
) -> None:
    body = QUESTION | {"model": MODEL, "stream": stream}
    stage.simulator.behave(MODEL, behaviour, behaviour)
    url = stage.simulator.url + "/openai/v1/chat/completions"
    direct = await response_of(stage.http.post(url, json=body, headers={"api-key": KEY}))
    response = await response_of(stage.post(json=body))
    assert (response.status, response.body) == (direct.status, direct.body)
    assert response.headers["content-type"] == direct.headers["content-type"]
    assert response.headers["apim-request-id"]


async def test_a_plain_response_is_passed_on_unchanged(stage: Stage) -> None:
    body = b'{ "id":"x","choices":[],\n"usage":{"prompt_tokens":1,"completion_tokens":2},"future":1.0}\n'
    for status in (200, 201):
        stage.simulator.behave(MODEL, Raw(status, body=body))
        response = await stage.chat()
        assert (response.status, response.body) == (status, body)


# ---- failures of the upstream


FAULTS: dict[str, Behaviour] = {
    "599": Failure(599),
    "301": Raw(301, {"location": "http://127.0.0.1:1/elsewhere"}),
    "binary": RawSocket(b"\x00\xff" * 500),
    "a-list": Raw(body=b"[]"),
    "not-utf-8": Raw(body=b"\xff\xfe"),
}
"""The others are in `test_failover.py`."""


@pytest.mark.parametrize("behaviour", FAULTS.values(), ids=FAULTS)
async def test_an_upstream_failure_is_an_upstream_error(stage: Stage, behaviour: Behaviour) -> None:
    stage.simulator.behave(MODEL, behaviour)
    response = await stage.chat()
    assert (response.status, response.error["code"]) == (502, "upstream_error")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert len(stage.simulator.calls) == 1


async def test_an_upstream_that_refuses_connections_is_an_upstream_error(stage: Stage) -> None:
    for endpoint in (f"http://127.0.0.1:{free()}", "http://unknown.invalid", "https://127.0.0.1:1"):
        model = await stage.add_deployment(endpoint=endpoint)
        code = await stage.add_event(models=(model,), default_model=model)
        response = await stage.chat(code)
        assert (response.status, response.error["code"]) == (502, "upstream_error")
        assert "invalid" not in response.error["message"]


async def test_a_deployment_without_its_key_is_an_upstream_error_and_is_not_called(
    stage: Stage,
) -> None:
    model = await stage.add_deployment(auth="NO_SUCH_SETTING")
    code = await stage.add_event(models=(model,), default_model=model)
    response = await stage.chat(code)
    assert (response.status, response.error["code"]) == (502, "upstream_error")
    assert "NO_SUCH_SETTING" not in response.error["message"]
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    ("busy", "milliseconds"),
    [
        (RateLimited(retry_after_ms=1500), 1500),
        (RateLimited(retry_after_ms=2500, retry_after=9), 2_500),
        (RateLimited(retry_after=7), 7_000),
        (RateLimited(retry_after="soon", reset_requests=4), 4_000),
        (RateLimited(reset_tokens=3), 3_000),
        (RateLimited(), 10_000),
        (RateLimited(retry_after=86400), 60_000),
        (RateLimited(retry_after=0), 1_000),
        (RateLimited(retry_after_ms=0, retry_after=7), 7_000),
        (RateLimited(retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), 1_000),
        (RateLimited(retry_after="Wed, 21 Oct 2099 07:28:00 GMT"), 60_000),
        (RateLimited(retry_after="Wednesday, 21-Oct-99 07:28:00 GMT"), 1_000),
        (RateLimited(retry_after="Wed, 99 Oct 2099 99:99:99 GMT"), 10_000),
        (RateLimited(retry_after="Wed, 21 Oct 99999999999 07:28:00 GMT"), 10_000),
        (RateLimited(retry_after=-5), 10_000),
        (RateLimited(retry_after="9" * 5000), 60_000),
        (RateLimited(retry_after="nan"), 10_000),
        (RateLimited(retry_after="inf"), 60_000),
        (Failure(429, headers={"x-ms-retry-after-ms": "1500"}), 1_500),
    ],
)
async def test_a_busy_upstream_gives_a_retry_time(
    stage: Stage, busy: RateLimited | Failure, milliseconds: int
) -> None:
    for stream in (False, True):
        stage.simulator.behave(MODEL, busy)
        started = monotonic()
        response = await stage.chat(stream=stream)
        passed = (monotonic() - started) * 1000
        await stage.end_cool_downs()
        assert (response.status, response.error["code"]) == (429, "upstream_busy")
        retry_after_ms = int(response.headers["retry-after-ms"])
        assert milliseconds - passed - 1 < retry_after_ms <= milliseconds
        assert int(response.headers["retry-after"]) == max(1, math.ceil(retry_after_ms / 1000))
        assert "x-should-retry" not in response.headers


async def test_an_upstream_that_fails_every_other_time_is_used_again(stage: Stage) -> None:
    stage.simulator.always(MODEL, EveryOther(ResetBeforeHeaders()))
    statuses = [(await stage.chat()).status for _ in range(6)]
    assert sorted(statuses) == [200, 200, 200, 502, 502, 502]


@pytest.fixture(scope="module")
async def hasty(running: Stage) -> AsyncIterator[Stage]:
    """An instance with short time limits for the upstream."""
    async with running.instance(
        PROXY_UPSTREAM_TIMEOUT_SECONDS="1", PROXY_UPSTREAM_FIRST_BYTE_SECONDS="1"
    ) as stage:
        yield stage


@pytest.mark.parametrize("stream", [False, True])
async def test_a_silent_upstream_is_a_timeout_and_its_call_is_closed(
    stage: Stage, hasty: Stage, stream: bool
) -> None:
    stage.simulator.gate(MODEL)
    response = await hasty.chat(stream=stream)
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    await stage.simulator.until(lambda calls: calls[-1].left)


async def test_an_upstream_that_is_silent_after_its_status_is_a_timeout(stage: Stage, hasty: Stage) -> None:
    stage.simulator.gate(MODEL).open(0)
    response = await hasty.chat()
    assert (response.status, response.error["code"]) == (504, "upstream_timeout")
    await stage.simulator.until(lambda calls: calls[-1].left)


async def test_calls_run_concurrently(stage: Stage) -> None:
    gate = stage.simulator.gate(MODEL, calls=None)
    waiting = [asyncio.create_task(stage.chat()) for _ in range(60)]
    await gate.arrived(60)
    gate.open_all()
    assert [response.status for response in await asyncio.gather(*waiting)] == [200] * 60


# ---- the cache of the tables


@pytest.fixture
async def tap(azurite: Azurite) -> AsyncIterator[TableTap]:
    """A tap before the shared tables."""
    async with TableTap(azurite.port).open() as tap:
        yield tap


async def test_cached_rows_are_used_while_the_tables_are_unavailable(stage: Stage) -> None:
    with Azurite(None) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        await tables.create_tables()
        await tables.put_event(EVENT)
        await tables.put_deployment(
            Deployment(MODEL, MODEL, stage.simulator.url, MODEL, auth="SIMULATOR_KEY")
        )
        settings = stage.environment | {
            "PROXY_TABLES": azurite.connection_string,
            "PROXY_CACHE_SECONDS": "0.05",
        }
        async with serve(tables, stage.simulator, settings) as own:
            assert (await own.chat()).status == 200
            assert (await own.get("/readyz")).status == 200
            azurite.kill()
            for _ in range(3):
                assert (await own.chat()).status == 200
            for path in ("/v1/models", "/v1/event"):
                assert (await own.get(path)).status == 200
            unknown = await own.chat("another")
            assert (unknown.status, unknown.error["code"]) == (503, "store_unavailable")
            assert (await own.get("/readyz")).status == 503
            azurite.start()  # without tables: an event is unavailable then, not unknown
            assert (await own.get("/readyz")).status == 503
            await tables.create_tables()
            assert (await own.get("/readyz")).status == 200
            assert (await own.chat("another")).status == 401
        await tables.close()


async def test_an_event_is_read_once_while_it_is_cached(stage: Stage, tap: TableTap) -> None:
    async with stage.instance(
        PROXY_TABLES=tap.connection_string,
        PROXY_CACHE_SECONDS="600",
        PROXY_USAGE_FLUSH_SECONDS="600",
    ) as own:
        for user in ("ann", "bob", "eve") * 5:
            assert (await own.chat(user=user)).status == 200
        assert tap.reads_of("events(PartitionKey='hackathon'") == 1
        reads = [request for request in tap.requests if request.startswith("GET")]
        assert len(reads) == 2  # the second reads all deployments
        # After the first response, the health of its deployment is written in the background.
        assert len(tap.requests) - len(reads) <= 1


async def test_a_missing_event_is_cached(stage: Stage, tap: TableTap) -> None:
    async with stage.instance(PROXY_TABLES=tap.connection_string, PROXY_CACHE_SECONDS="600") as own:
        for _ in range(5):
            assert (await own.chat("unknown")).status == 401
        assert tap.reads_of("events(PartitionKey='unknown'") == 1


async def test_concurrent_callers_share_one_read(stage: Stage, tap: TableTap) -> None:
    async with stage.instance(PROXY_TABLES=tap.connection_string, PROXY_CACHE_SECONDS="600") as own:
        tap.passing.clear()
        calls = [asyncio.create_task(own.chat()) for _ in range(20)]
        await tap.request_arrived.wait()
        for _ in range(5):  # meanwhile, the other calls arrive
            assert (await own.get("/healthz")).status == 200
        tap.passing.set()
        assert {response.status for response in await asyncio.gather(*calls)} == {200}
        assert tap.reads_of("events(") == 1
        assert tap.reads_of("deployments()") == 1


async def test_other_callers_are_served_if_the_one_that_started_the_read_disconnects(
    stage: Stage, tap: TableTap
) -> None:
    async with stage.instance(PROXY_TABLES=tap.connection_string) as own:
        tap.passing.clear()
        async with aiohttp.ClientSession() as http:
            url = f"{own.url}/v1/chat/completions"
            request = http.post(url, json=QUESTION, headers={"api-key": CREDENTIAL})
            first = asyncio.create_task(response_of(request))
            await tap.request_arrived.wait()
            second = asyncio.create_task(own.chat())
            assert (await own.get("/healthz")).status == 200
            first.cancel()
            tap.passing.set()
            assert (await second).status == 200


async def test_a_deployment_can_move_to_another_upstream(stage: Stage) -> None:
    async with Simulator(keys={"another-key"}) as other:
        model = await stage.add_deployment(endpoint=other.url)
        code = await stage.add_event(models=(model,), default_model=model)
        response = await stage.chat(code)
        assert (response.status, response.error["code"]) == (502, "upstream_error")
        assert (other.calls[-1].status, stage.simulator.calls) == (401, ())
