"""Every refusal of the contract as a client meets it, and everything that clients send wrongly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from yarl import URL

from shared.core.errors import every_refusal
from shared.functions.http import Message, Request
from tests.conftest import (
    CREDENTIAL,
    MODEL,
    QUESTION,
    Answered,
    Stage,
    TableTap,
    answered,
    on_the_wire,
    serve,
)
from tools.ports import free
from tools.simulator import Failure, RateLimited, Simulator

CHAT = b"POST /v1/chat/completions HTTP/1.1"
NOT_YET = {"request_quota_exceeded", "token_quota_exceeded", "event_quota_exceeded", "rate_limited"}
NEVER_MEANT = {"internal_error"}


@pytest.fixture(scope="module")
async def cut_off(
    shared_simulator: Simulator, running: Stage, environment: dict[str, str]
) -> AsyncIterator[tuple[Stage, TableTap]]:
    """An instance whose tables hang up, and how often they were called."""
    async with TableTap().open() as tap:
        settings = environment | {"PROXY_TABLES": tap.connection_string}
        async with serve(running.tables, shared_simulator, settings) as stage:
            yield stage, tap


@pytest.fixture(scope="module")
async def hasty(
    shared_simulator: Simulator, running: Stage, environment: dict[str, str]
) -> AsyncIterator[Stage]:
    """An instance that waits for its upstream no longer than a moment."""
    short = dict.fromkeys(("PROXY_UPSTREAM_TIMEOUT_SECONDS", "PROXY_UPSTREAM_FIRST_BYTE_SECONDS"), "0.1")
    async with serve(running.tables, shared_simulator, environment | short) as stage:
        yield stage


@dataclass(frozen=True)
class Stages:
    """What a scene may need."""

    usual: Stage
    hasty: Stage
    cut_off: Stage


Scene = Callable[[Stages], Awaitable[Answered]]


@dataclass(frozen=True)
class Row:
    """One row of the contract: the scene, and the response."""

    status: int
    code: str
    scene: Scene
    says: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)
    type: str = "invalid_request_error"
    param: str | None = None


def sends(body: bytes) -> Scene:
    return lambda stages: answered(stages.usual.post(data=BytesIO(body)))


async def unknown_event(stages: Stages) -> Answered:
    return await answered(stages.usual.post(headers={"api-key": "no-such-event/ann"}))


async def no_credential(stages: Stages) -> Answered:
    return await answered(stages.usual.post(headers={}))


async def _to_event(stage: Stage, code: str) -> Answered:
    return await answered(stage.post(headers={"api-key": f"{code}/ann"}))


async def before_it_opens(stages: Stages) -> Answered:
    starts = datetime(2090, 5, 4, 18, 30, tzinfo=UTC)
    ends = datetime(2091, 1, 1, tzinfo=UTC)
    zone = ZoneInfo("Europe/Berlin")
    code = await stages.usual.add_event(starts_at=starts, ends_at=ends, time_zone=zone)
    return await _to_event(stages.usual, code)


async def after_its_end(stages: Stages) -> Answered:
    times = {"starts_at": datetime(2020, 1, 1, tzinfo=UTC), "ends_at": datetime(2020, 1, 2, 3, 4, tzinfo=UTC)}
    return await _to_event(stages.usual, await stages.usual.add_event(organizer="Ada", **times))


async def stopped(stages: Stages) -> Answered:
    return await _to_event(stages.usual, await stages.usual.add_event(active=False, organizer="Ada"))


async def not_its_model(stages: Stages) -> Answered:
    code = await stages.usual.add_event(models=(MODEL,))
    headers = {"api-key": f"{code}/ann"}
    return await answered(stages.usual.post(headers=headers, json=QUESTION | {"model": "gpt-4o"}))


async def nowhere(stages: Stages) -> Answered:
    return await answered(stages.usual.post("/v1/embeddings"))


async def wrong_method(stages: Stages) -> Answered:
    return await answered(stages.usual.http.get(stages.usual.url + "/v1/chat/completions"))


async def busy(stages: Stages) -> Answered:
    stages.usual.simulator.behave(MODEL, RateLimited(retry_after_ms=1500))
    return await answered(stages.usual.post())


async def refuses_our_key(stages: Stages) -> Answered:
    stages.usual.simulator.behave(MODEL, Failure(401))
    return await answered(stages.usual.post())


async def unreachable(stages: Stages) -> Answered:
    model = await stages.usual.add_deployment(endpoint=f"http://127.0.0.1:{free()}")
    code = await stages.usual.add_event(models=(model,), default_model=model)
    return await _to_event(stages.usual, code)


async def tables_are_gone(stages: Stages) -> Answered:
    return await answered(stages.cut_off.post())


async def upstream_is_silent(stages: Stages) -> Answered:
    stages.hasty.simulator.gate(MODEL)
    return await answered(stages.hasty.post())


ROWS = {
    "not-json": Row(400, "invalid_json", sends(b"{not"), ("not valid JSON at byte 1", "double quotes")),
    "not-an-object": Row(400, "invalid_request", sends(b"[1]"), ("must be an object",)),
    "wrong-type": Row(
        400, "invalid_request", sends(b'{"stream":"yes"}'), ("'stream'", "true or false"), param="stream"
    ),
    "no-credential": Row(
        401,
        "invalid_event_token",
        no_credential,
        ("API key", "EVENT-CODE/YOUR-NAME", "organiser"),
        {"www-authenticate": 'Bearer realm="event"'},
        "authentication_error",
    ),
    "unknown-event": Row(
        401, "invalid_event_token", unknown_event, ("organiser",), type="authentication_error"
    ),
    "not-started": Row(
        403,
        "event_not_started",
        before_it_opens,
        ("4 May 2090, 20:30 Europe/Berlin (18:30 UTC)", "Try again then"),
        type="permission_error",
    ),
    "ended": Row(
        403, "event_ended", after_its_end, ("2 Jan 2020, 03:04 UTC", "Ada"), type="permission_error"
    ),
    "inactive": Row(403, "event_inactive", stopped, ("stopped", "Ada"), type="permission_error"),
    "not-its-model": Row(
        404, "model_not_found", not_its_model, ("'gpt-4o'", f"Use one of: {MODEL}."), param="model"
    ),
    "no-such-path": Row(404, "not_found", nowhere, ("/v1/embeddings", "chat completions only")),
    "wrong-method": Row(
        405, "method_not_allowed", wrong_method, ("does not accept GET. Use POST.",), {"allow": "POST"}
    ),
    "too-large": Row(
        413, "request_too_large", sends(b"x" * 7_500_001), ("larger than 7.5 MB", "smaller image")
    ),
    "busy": Row(
        429,
        "upstream_busy",
        busy,
        ("busy", "again"),
        {"retry-after": "2"},
        "rate_limit_error",
    ),
    "our-key-refused": Row(502, "upstream_error", refuses_our_key, ("organiser",), type="server_error"),
    "unreachable": Row(502, "upstream_error", unreachable, ("again",), type="server_error"),
    "tables-gone": Row(
        503, "store_unavailable", tables_are_gone, ("again",), {"retry-after": "5"}, "server_error"
    ),
    "silent-upstream": Row(
        504, "upstream_timeout", upstream_is_silent, ("0.1 seconds", '"stream": true'), type="server_error"
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_refusal_is_as_documented(
    row: Row, stage: Stage, hasty: Stage, cut_off: tuple[Stage, TableTap]
) -> None:
    got = await row.scene(Stages(stage, hasty, cut_off[0]))
    assert (got.status, got.error["code"]) == (row.status, row.code)
    assert got.error.keys() == {"message", "type", "param", "code"}
    assert (got.error["type"], got.error["param"]) == (row.type, row.param)
    for words in row.says:
        assert words in got.error["message"]
    assert row.headers.items() <= got.headers.items()
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-request-id"]


async def test_every_error_code_has_a_test() -> None:
    tested = {row.code for row in ROWS.values()}
    assert tested == {kind.code for kind in every_refusal()} - NOT_YET - NEVER_MEANT


async def test_unknown_and_malformed_credentials_get_the_same_response(stage: Stage) -> None:
    bodies = {
        (await answered(stage.post(headers=headers))).body
        for headers in ({}, {"api-key": "x"}, {"api-key": "unknown/ann"}, {"openai-event-code": "a/b/c"})
    }
    assert len(bodies) == 1


# ---- bad input: credentials

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"   ",
    "slash-less": b"hackathon",
    "only-a-slash": b"/",
    "no-user": b"hackathon/",
    "no-code": b"/gloveboxes",
    "two-slashes": b"hackathon/glove/boxes",
    "double-slash": b"hackathon//gloveboxes",
    "overlong-code": b"h" * 65 + b"/gloveboxes",
    "overlong-user": b"hackathon/" + b"g" * 65,
    "very-long": b"hackathon/" + b"g" * 20_000,
    "long-spaces": b"hackathon" + b" " * 600 + b"/gloveboxes",
    "quote": b"o'brien/ann",
    "odata": b"hackathon' or PartitionKey ne '/ann",
    "odata-words": b"hackathon or true/ann",
    "odata-user": b"hackathon/ann' or '1' eq '1",
    "table-key-characters": b"hack#athon?/ann",
    "backslash": b"hack\\athon/ann",
    "percent-encoded-slash": b"hackathon%2fann",
    "space-within": b"hack athon/ann",
    "tab-within": b"hackathon/a\tnn",
    "code-with-at": b"hack@thon/ann",
    "json": b'{"code": "hackathon"}',
    "newline-escape": b"hackathon\\n/ann",
}
BEYOND_ASCII: dict[str, bytes] = {
    "utf-8": "häckathon/gloveboxes".encode(),
    "latin-1": "häckathon/gloveboxes".encode("latin-1"),
    "lower-cases-to-ascii": "hac\u212aathon/gloveboxes".encode(),
    "full-width-slash": "hackathon\uff0fgloveboxes".encode(),
    "invalid-utf-8": b"hackathon/\xff\xfe",
}
"""The host never forwards these."""


@pytest.mark.parametrize("header", [b"api-key: ", b"openai-event-code: ", b"authorization: Bearer "])
@pytest.mark.parametrize("written", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_credential_is_refused_before_any_table_is_touched(
    cut_off: tuple[Stage, TableTap], header: bytes, written: bytes
) -> None:
    stage, tap = cut_off
    before, calls = tap.connections, len(stage.simulator.calls)
    for request in (CHAT, b"GET /v1/models HTTP/1.1", b"GET /v1/event HTTP/1.1"):
        got = await on_the_wire(stage.url, [request, header + written], json.dumps(QUESTION).encode())
        assert (got.status, got.error["code"]) == (401, "invalid_event_token")
    assert (tap.connections, len(stage.simulator.calls)) == (before, calls)


@pytest.mark.parametrize("header", [b"api-key: ", b"openai-event-code: ", b"authorization: Bearer "])
@pytest.mark.parametrize("written", BEYOND_ASCII.values(), ids=BEYOND_ASCII)
async def test_a_credential_beyond_ascii_is_refused_before_any_table_is_touched(
    cut_off: tuple[Stage, TableTap], header: bytes, written: bytes
) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(QUESTION).encode(), "more_body": False}

    stage, tap = cut_off
    before, calls = tap.connections, len(stage.simulator.calls)
    name, _, scheme = header.partition(b": ")
    for handler in (stage.web.chat, stage.web.models, stage.web.event):
        request = Request({"method": "POST", "path": "/", "headers": [(name, scheme + written)]}, receive)
        got = await handler(request)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (401, "invalid_event_token")
    assert (tap.connections, len(stage.simulator.calls)) == (before, calls)


@pytest.mark.parametrize(
    "written", [b"Basic aGFja2F0aG9uL2Fubg==", b"Bearer", b"Bearerhackathon/ann", b"hackathon/ann"]
)
async def test_another_authorization_scheme_is_no_credential(
    cut_off: tuple[Stage, TableTap], written: bytes
) -> None:
    stage, tap = cut_off
    before = tap.connections
    got = await on_the_wire(stage.url, [CHAT, b"authorization: " + written])
    assert got.status == 401
    assert tap.connections == before


async def test_a_well_formed_credential_does_reach_the_tables(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    assert (await answered(stage.post())).status == 503
    assert tap.connections > before


@pytest.mark.parametrize("code", ["c" * 64, "a-b_c.d", "0", ".", "..", "-"])
async def test_any_well_formed_code_is_a_plain_key_of_the_table(stage: Stage, code: str) -> None:
    got = await answered(stage.post(headers={"api-key": f"{code}/{'u' * 64}"}))
    assert (got.status, got.error["code"]) == (401, "invalid_event_token")


@pytest.mark.parametrize("user", ["a@b.c", "a+b", "u" * 64, "0", "GloveBoxes", "a.b-c_d"])
async def test_every_documented_user_name_is_accepted(stage: Stage, user: str) -> None:
    assert (await answered(stage.post(headers={"api-key": f"hackathon/{user}"}))).status == 200


# ---- bad input: bodies

INVALID_JSON: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"  \r\n",
    "words": b"tell me a story",
    "form": b"model=gpt-4o&messages=hi",
    "truncated": b'{"messages":[{"role":"user","content":"hi"}',
    "trailing-garbage": b'{"messages":[]} {}',
    "trailing-comma": b'{"messages":[],}',
    "single-quotes": b"{'messages':[]}",
    "nan": b'{"messages":[],"temperature":NaN}',
    "bare-control-character": b'{"messages":"\x00"}',
    "invalid-utf-8": b'{"messages":[{"role":"user","content":"\xff\xfe"}]}',
    "invalid-utf-8-in-a-policy-member": b'{"model":"\xc3("}',
    "utf-16": '{"messages":[]}'.encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + b'{"messages":[]}',
    "deep-nesting": b'{"messages":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep-nesting-in-an-unknown-member": b'{"model":"gpt-4o","x":'
    + b'{"a":' * 100_000
    + b"1"
    + b"}" * 100_001,
    "lone-surrogate": b'{"model":"\\ud800","messages":[]}',
}

INVALID_REQUEST: dict[str, tuple[bytes, str | None]] = {
    "array": (b'[{"role":"user"}]', None),
    "deeply-nested-array": (b"[" * 1_000_000, None),
    "string": (b'"hello"', None),
    "null": (b"null", None),
    "number": (b"42", None),
    "true": (b"true", None),
    "stream-yes": (b'{"stream":"yes"}', "stream"),
    "stream-1": (b'{"stream":1}', "stream"),
    "stream-object": (b'{"stream":{}}', "stream"),
    "max-tokens-negative": (b'{"max_tokens":-1}', "max_tokens"),
    "max-tokens-string": (b'{"max_tokens":"100"}', "max_tokens"),
    "max-tokens-zero": (b'{"max_tokens":0}', "max_tokens"),
    "max-tokens-fraction": (b'{"max_tokens":1.5}', "max_tokens"),
    "max-tokens-true": (b'{"max_tokens":true}', "max_tokens"),
    "max-tokens-list": (b'{"max_tokens":[1]}', "max_tokens"),
    "max-completion-tokens-negative": (b'{"max_completion_tokens":-5}', "max_completion_tokens"),
    "max-completion-tokens-zero": (b'{"max_completion_tokens":0}', "max_completion_tokens"),
    "max-completion-tokens-string": (b'{"max_completion_tokens":"9"}', "max_completion_tokens"),
    "n-zero": (b'{"n":0}', "n"),
    "n-negative": (b'{"n":-3}', "n"),
    "n-huge": (b'{"n":129}', "n"),
    "n-beyond-64-bits": (b'{"n":99999999999999999999999}', "n"),
    "n-string": (b'{"n":"2"}', "n"),
    "model-number": (b'{"model":5}', "model"),
    "model-object": (b'{"model":{"a":1}}', "model"),
    "stream-options-string": (b'{"stream":true,"stream_options":"usage"}', "stream_options"),
    "stream-options-list": (b'{"stream":true,"stream_options":[]}', "stream_options"),
}


@pytest.mark.parametrize("body", INVALID_JSON.values(), ids=INVALID_JSON)
async def test_a_body_that_is_not_json_is_refused_by_the_proxy(stage: Stage, body: bytes) -> None:
    got = await answered(stage.post(data=body))
    assert (got.status, got.error["code"]) == (400, "invalid_json")
    assert not stage.simulator.calls


@pytest.mark.parametrize(("body", "param"), INVALID_REQUEST.values(), ids=INVALID_REQUEST)
async def test_an_invalid_policy_member_is_refused_by_the_proxy(
    stage: Stage, body: bytes, param: str | None
) -> None:
    got = await answered(stage.post(data=body))
    assert (got.status, got.error["code"], got.error["param"]) == (400, "invalid_request", param)
    if param is not None:
        assert f"'{param}'" in got.error["message"]
    assert not stage.simulator.calls


@pytest.mark.parametrize("requested", [10**6, 2**31, 2**63, 10**30])
async def test_a_huge_output_cap_never_fails_here(stage: Stage, requested: int) -> None:
    capped = await stage.add_event(max_output_tokens=100)
    got = await answered(
        stage.post(headers={"api-key": f"{capped}/ann"}, json=QUESTION | {"max_tokens": requested})
    )
    assert got.status in {200, 400}
    if got.status == 200:
        assert stage.simulator.calls[-1].json["max_tokens"] == 100
    else:
        assert got.error["param"] == "max_tokens"
        assert not stage.simulator.calls


@pytest.mark.parametrize("field", ["messages", "temperature", "tools", "response_format"])
async def test_other_invalid_members_are_refused_by_the_upstream(stage: Stage, field: str) -> None:
    body: dict[str, object] = {name: value for name, value in QUESTION.items() if name != field}
    if field != "messages":
        body[field] = {"nonsense": True}
    await answered(stage.post(json=body))
    assert len(stage.simulator.calls) == 1


async def test_missing_messages_are_refused_in_the_upstreams_own_words(stage: Stage) -> None:
    got = await answered(stage.post(json={"model": MODEL}))
    assert (got.status, got.error["code"]) == (400, "missing_required_parameter")
    assert got.error["param"] == "messages"


async def test_eight_megabytes_are_too_large_in_every_form(stage: Stage) -> None:
    body = b'{"messages":"' + b"x" * 8_000_000 + b'"}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    for data in (BytesIO(body), in_chunks()):
        got = await answered(stage.post(data=data))
        assert (got.status, got.error["code"]) == (413, "request_too_large")
    assert not stage.simulator.calls


async def test_a_body_just_within_the_limit_goes_through(stage: Stage) -> None:
    frame = json.dumps({"messages": [{"role": "user", "content": ""}]}).encode()
    body = frame.replace(b'""', b'"' + b"x " * ((7_500_000 - len(frame)) // 2) + b'"')
    got = await answered(stage.post(data=BytesIO(body)))
    assert got.status == 400  # the context length, which is the upstream's to tell
    assert len(stage.simulator.calls) == 1


async def test_the_limit_can_be_set(stage: Stage, environment: dict[str, str]) -> None:
    settings = environment | {"PROXY_MAX_BODY_BYTES": "2000"}
    async with serve(stage.tables, stage.simulator, settings) as small:
        got = await answered(small.post(data=b" " * 2001))
        assert (got.status, got.error["code"]) == (413, "request_too_large")
        assert (await answered(small.post())).status == 200


async def test_a_large_body_costs_nothing_before_the_credential_is_known(
    cut_off: tuple[Stage, TableTap],
) -> None:
    stage, tap = cut_off
    before = tap.connections
    got = await answered(stage.post(headers={"api-key": "nonsense"}, data=BytesIO(b"x" * 8_000_000)))
    assert got.status in {401, 413}
    assert tap.connections == before


# ---- bad input: deployment names

NAMES: dict[str, str] = {
    "encoded-slash": "a%2Fb",
    "encoded-slashes-upwards": "..%2F..%2Fadmin",
    "encoded-dots": "%2e%2e%2fx",
    "encoded-backslash": "..%5c..%5c",
    "line-feed": "gpt%0a4o",
    "header-injection": "gpt%0d%0aset-cookie:%20a=b",
    "escape": "%1b[31m",
    "delete": "%7f",
    "not-utf-8": "%ff%fe",
    "quote": "'%20or%20'1'%20eq%20'1",
    "emoji": "%F0%9F%98%80",
    "question-mark": "gpt-4o%3Fapi-key=1",
    "hash": "gpt-4o%23",
    "space": "%20gpt-4o%20",
    "long": "g" * 4000,
    "double-encoded": "gpt-4o%252f",
}


@pytest.mark.parametrize(
    "route", ["/v1/openai/deployments/{}/chat/completions", "/api/v1/deployments/{}/chat/completions"]
)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_strange_deployment_name_is_an_unknown_model(stage: Stage, route: str, name: str) -> None:
    url = URL(stage.url + route.format(name), encoded=True)
    got = await answered(stage.http.post(url, json=QUESTION, headers={"api-key": CREDENTIAL}))
    assert (got.status, got.error["code"]) in {(404, "model_not_found"), (404, "not_found")}
    assert "set-cookie" not in got.headers
    assert len(got.body) < 1000
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    "name", ["", "a/b", "../../admin", "\x00", "gpt\n4o", "' or '1' eq '1", "😀", "g" * 100_000]
)
async def test_a_strange_model_in_the_body_is_an_unknown_model(stage: Stage, name: str) -> None:
    got = await answered(stage.post(json=QUESTION | {"model": name}))
    if name:
        assert (got.status, got.error["code"]) == (404, "model_not_found")
        assert f"{MODEL}, gpt-4o" in got.error["message"]
        assert not stage.simulator.calls
    else:
        assert (got.status, stage.simulator.calls[-1].deployment) == (200, MODEL)


async def test_a_default_model_that_is_not_deployed_is_a_404(stage: Stage) -> None:
    code = await stage.add_event(models=(), default_model="gone")
    got = await answered(stage.post(headers={"api-key": f"{code}/ann"}))
    assert (got.status, got.error["code"]) == (404, "model_not_found")


async def test_without_a_default_and_with_several_models_one_must_be_named(stage: Stage) -> None:
    code = await stage.add_event(default_model=None)
    got = await answered(stage.post(headers={"api-key": f"{code}/ann"}))
    assert (got.status, got.error["param"]) == (400, "model")
    assert f"{MODEL}, gpt-4o" in got.error["message"]


async def test_an_event_row_that_cannot_be_read_is_a_clear_503(stage: Stage) -> None:
    client = stage.tables._service.get_table_client("events")
    for code, row in {"broken-1": {"starts_at": "soon"}, "broken-2": {}}.items():
        await client.upsert_entity({"PartitionKey": code, "RowKey": "event", **row})
        got = await _to_event(stage, code)
        await client.delete_entity(code, "event")  # where one cannot be read, events cannot be listed
        assert (got.status, got.error["code"]) == (503, "store_unavailable")
        assert "organiser" in got.error["message"]
    await client.close()


async def test_a_client_that_leaves_during_its_body_leaves_nothing_behind(stage: Stage) -> None:
    host, port = stage.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(CHAT + b"\r\nhost: x\r\napi-key: hackathon/ann\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await answered(stage.post())).status == 200
    assert len(stage.simulator.calls) == 1


async def test_a_credential_in_the_query_is_not_accepted(stage: Stage) -> None:
    for query in ("api-key=hackathon/ann", "code=hackathon/ann", "openai-event-code=hackathon/ann"):
        got = await answered(stage.http.get(f"{stage.url}/v1/event?{query}"))
        assert got.status == 401


async def test_a_refused_connection_serves_the_next_call(stage: Stage) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for body, status in ((b"{", 400), (b'{"n":0}', 400), (json.dumps(QUESTION).encode(), 200)):
            url = stage.url + "/v1/chat/completions"
            async with http.post(url, data=body, headers={"api-key": CREDENTIAL}) as got:
                assert got.status == status
