"""Every documented refusal as a client gets it, and invalid requests of all kinds."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from zoneinfo import ZoneInfo

import aiohttp
import pytest
from yarl import URL

from shared.functions.http import Message, Request
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage
from tests.error_classes import every_refusal
from tests.responses import WireResponse, response_of, send_raw
from tools.ports import free
from tools.simulator import Failure, RateLimited
from tools.tap import TableTap

CHAT = b"POST /v1/chat/completions HTTP/1.1"
TESTED_IN_QUOTA = {"request_quota_exceeded", "token_quota_exceeded", "event_quota_exceeded", "rate_limited"}
TESTED_AT_THE_DESK = {"invalid_desk_key", "changed_meanwhile"}
TESTED_WITH_BUDGETS = {"budget_exceeded", "event_budget_exceeded", "model_not_priced"}
TESTED_WITH_PASSES = {"attendee_blocked", "name_taken", "no_seats_left"}
TESTED_WITH_RESPONSES = {"unsupported_value", "tool_not_allowed"}
NEVER_EXPECTED = {"internal_error"}


@pytest.fixture(scope="module")
async def hasty(running: Stage) -> AsyncIterator[Stage]:
    """An instance with short time limits for the upstream."""
    async with running.instance(
        PROXY_UPSTREAM_TIMEOUT_SECONDS="0.5", PROXY_UPSTREAM_FIRST_BYTE_SECONDS="0.5"
    ) as stage:
        yield stage


@dataclass(frozen=True)
class Stages:
    """The instances for the scenes."""

    usual: Stage
    hasty: Stage
    cut_off: Stage


Scene = Callable[[Stages], Awaitable[WireResponse]]


@dataclass(frozen=True)
class Row:
    """A scene and its expected response. The message contains each text of `says`."""

    status: int
    code: str
    scene: Scene
    says: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)
    type: str = "invalid_request_error"
    param: str | None = None


def sends(body: bytes) -> Scene:
    return lambda stages: response_of(stages.usual.post(data=BytesIO(body)))


async def compressed(stages: Stages) -> WireResponse:
    headers = {"api-key": CREDENTIAL, "content-encoding": "deflate"}
    return await response_of(
        stages.usual.post(data=zlib.compress(json.dumps(QUESTION).encode()), headers=headers)
    )


async def unknown_event(stages: Stages) -> WireResponse:
    return await stages.usual.chat("no-such-event")


async def no_credential(stages: Stages) -> WireResponse:
    return await response_of(stages.usual.post(headers={}))


async def before_start(stages: Stages) -> WireResponse:
    starts = datetime(2090, 5, 4, 18, 30, tzinfo=UTC)
    ends = datetime(2091, 1, 1, tzinfo=UTC)
    zone = ZoneInfo("Europe/Berlin")
    code = await stages.usual.add_event(starts_at=starts, ends_at=ends, time_zone=zone)
    return await stages.usual.chat(code)


async def after_end(stages: Stages) -> WireResponse:
    times = {"starts_at": datetime(2020, 1, 1, tzinfo=UTC), "ends_at": datetime(2020, 1, 2, 3, 4, tzinfo=UTC)}
    return await stages.usual.chat(await stages.usual.add_event(organizer="Ada", **times))


async def stopped(stages: Stages) -> WireResponse:
    return await stages.usual.chat(await stages.usual.add_event(active=False, organizer="Ada"))


async def model_of_another_event(stages: Stages) -> WireResponse:
    return await stages.usual.chat(await stages.usual.add_event(models=(MODEL,)), model="gpt-4o")


async def unknown_path(stages: Stages) -> WireResponse:
    return await response_of(stages.usual.post("/v1/nothing"))


async def wrong_method(stages: Stages) -> WireResponse:
    return await stages.usual.get("/v1/chat/completions")


async def websocket(stages: Stages) -> WireResponse:
    headers = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}
    return await response_of(stages.usual.http.get(stages.usual.url + "/v1/responses", headers=headers))


async def busy(stages: Stages) -> WireResponse:
    stages.usual.simulator.behave(MODEL, RateLimited(retry_after_ms=1500))
    return await stages.usual.chat()


async def key_refused(stages: Stages) -> WireResponse:
    stages.usual.simulator.behave(MODEL, Failure(401))
    return await stages.usual.chat()


async def unreachable(stages: Stages) -> WireResponse:
    model = await stages.usual.add_deployment(endpoint=f"http://127.0.0.1:{free()}")
    return await stages.usual.chat(await stages.usual.add_event(models=(model,), default_model=model))


async def tables_unavailable(stages: Stages) -> WireResponse:
    return await stages.cut_off.chat()


async def no_memory(stages: Stages) -> WireResponse:
    async with stages.usual.instance(PROXY_MAX_BODIES_BYTES="2048") as small:
        return await response_of(small.post(data=BytesIO(b"x" * 80_000)))


async def longer_than_the_context(stages: Stages) -> WireResponse:
    messages = [{"role": "user", "content": "0 1 " * 70_000}]
    return await stages.usual.chat(messages=messages)


def silent_upstream(stream: bool) -> Scene:
    def scene(stages: Stages) -> Awaitable[WireResponse]:
        stages.hasty.simulator.gate(MODEL)
        return stages.hasty.chat(stream=stream)

    return scene


ROWS = {
    "not-json": Row(400, "invalid_json", sends(b"{not"), ("not valid JSON at byte 1", "double quotes")),
    "not-an-object": Row(400, "invalid_request", sends(b"[1]"), ("must be an object",)),
    "wrong-type": Row(
        400, "invalid_request", sends(b'{"stream":"yes"}'), ("'stream'", "true or false"), param="stream"
    ),
    "longer-than-the-context": Row(
        400,
        "context_length_exceeded",
        longer_than_the_context,
        ("longer than this model's context", "Send fewer or shorter messages"),
        param="messages",
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
        before_start,
        ("4 May 2090, 20:30 Europe/Berlin (18:30 UTC)", "Try again then"),
        type="permission_error",
    ),
    "ended": Row(403, "event_ended", after_end, ("2 Jan 2020, 03:04 UTC", "Ada"), type="permission_error"),
    "inactive": Row(403, "event_inactive", stopped, ("stopped", "Ada"), type="permission_error"),
    "model-of-another-event": Row(
        404, "model_not_found", model_of_another_event, ("'gpt-4o'", f"Use one of: {MODEL}."), param="model"
    ),
    "unknown-path": Row(404, "not_found", unknown_path, ("/v1/nothing", "'/v1/chat/completions'")),
    "wrong-method": Row(
        405, "method_not_allowed", wrong_method, ("does not accept GET. Use POST.",), {"allow": "POST"}
    ),
    "too-large": Row(
        413, "request_too_large", sends(b"x" * 7_500_001), ("larger than 7.5 MB", "smaller image")
    ),
    "compressed": Row(
        415,
        "unsupported_encoding",
        compressed,
        ("is compressed", "Send it uncompressed", "'content-encoding'"),
    ),
    "websocket": Row(426, "websocket_not_supported", websocket, ("WebSockets", "Use HTTP")),
    "busy": Row(
        429,
        "upstream_busy",
        busy,
        ("busy", "again"),
        {"retry-after": "2"},
        "rate_limit_error",
    ),
    "key-refused": Row(502, "upstream_error", key_refused, ("organiser",), type="server_error"),
    "unreachable": Row(502, "upstream_error", unreachable, ("again",), type="server_error"),
    "tables-unavailable": Row(
        503, "store_unavailable", tables_unavailable, ("again",), {"retry-after": "5"}, "server_error"
    ),
    "no-memory": Row(
        503,
        "overloaded",
        no_memory,
        ("too many large requests", "again"),
        {"retry-after": "2"},
        "server_error",
    ),
    "silent-upstream": Row(
        504,
        "upstream_timeout",
        silent_upstream(False),
        ("0.5 seconds", '"stream": true'),
        type="server_error",
    ),
    "silent-upstream-of-a-stream": Row(
        504,
        "upstream_timeout",
        silent_upstream(True),
        ("0.5 seconds. Try again, or send a shorter request.",),
        type="server_error",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_refusal_is_as_documented(
    row: Row, stage: Stage, hasty: Stage, cut_off: tuple[Stage, TableTap]
) -> None:
    response = await row.scene(Stages(stage, hasty, cut_off[0]))
    assert (response.status, response.error["code"]) == (row.status, row.code)
    assert response.error.keys() == {"message", "type", "param", "code"}
    assert (response.error["type"], response.error["param"]) == (row.type, row.param)
    for words in row.says:
        assert words in response.error["message"]
    assert row.headers.items() <= response.headers.items()
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]


async def test_every_error_code_has_a_test() -> None:
    tested = {row.code for row in ROWS.values()}
    elsewhere = TESTED_IN_QUOTA | TESTED_WITH_BUDGETS | TESTED_WITH_PASSES | TESTED_WITH_RESPONSES
    elsewhere |= TESTED_AT_THE_DESK
    assert tested == {kind.code for kind in every_refusal()} - elsewhere - NEVER_EXPECTED


async def test_unknown_and_malformed_credentials_get_the_same_response(stage: Stage) -> None:
    bodies = {
        (await response_of(stage.post(headers=headers))).body
        for headers in ({}, {"api-key": "a b/c"}, {"api-key": "unknown/ann"}, {"api-key": "unknown/ann.tag"})
    }
    assert len(bodies) == 1


# ---- invalid credentials

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"   ",
    "no-slash": b"hackathon",
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
"""The host does not forward these."""


@pytest.mark.parametrize("header", [b"api-key: ", b"openai-event-code: ", b"authorization: Bearer "])
@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_credential_is_refused_without_a_table_call(
    cut_off: tuple[Stage, TableTap], header: bytes, value: bytes
) -> None:
    stage, tap = cut_off
    before, calls = tap.connections, len(stage.simulator.calls)
    for request in (CHAT, b"GET /v1/models HTTP/1.1", b"GET /v1/event HTTP/1.1"):
        response = await send_raw(stage.url, [request, header + value], json.dumps(QUESTION).encode())
        assert (response.status, response.error["code"]) == (401, "invalid_event_token")
    assert (tap.connections, len(stage.simulator.calls)) == (before, calls)


@pytest.mark.parametrize("header", [b"api-key: ", b"openai-event-code: ", b"authorization: Bearer "])
@pytest.mark.parametrize("value", BEYOND_ASCII.values(), ids=BEYOND_ASCII)
async def test_a_credential_beyond_ascii_is_refused_without_a_table_call(
    cut_off: tuple[Stage, TableTap], header: bytes, value: bytes
) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(QUESTION).encode(), "more_body": False}

    stage, tap = cut_off
    before, calls = tap.connections, len(stage.simulator.calls)
    name, _, scheme = header.partition(b": ")
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/event")):
        request = Request({"method": method, "path": path, "headers": [(name, scheme + value)]}, receive)
        response = await stage.web.serve(request)
        assert (response.status, json.loads(response.body)["error"]["code"]) == (401, "invalid_event_token")
    assert (tap.connections, len(stage.simulator.calls)) == (before, calls)


@pytest.mark.parametrize(
    "value", [b"Basic aGFja2F0aG9uL2Fubg==", b"Bearer", b"Bearerhackathon/ann", b"hackathon/ann"]
)
async def test_another_authorization_scheme_is_no_credential(
    cut_off: tuple[Stage, TableTap], value: bytes
) -> None:
    stage, tap = cut_off
    before = tap.connections
    response = await send_raw(stage.url, [CHAT, b"authorization: " + value])
    assert response.status == 401
    assert tap.connections == before


async def test_a_well_formed_credential_is_looked_up_in_the_tables(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    assert (await stage.chat()).status == 503
    assert tap.connections > before


@pytest.mark.parametrize("code", ["c" * 64, "a-b_c.d", "0", ".", "..", "-"])
async def test_a_well_formed_code_of_any_form_is_looked_up_and_unknown(stage: Stage, code: str) -> None:
    response = await stage.chat(code, "u" * 64)
    assert (response.status, response.error["code"]) == (401, "invalid_event_token")


@pytest.mark.parametrize("user", ["a@b.c", "a+b", "u" * 64, "0", "GloveBoxes", "a.b-c_d"])
async def test_every_documented_user_name_is_accepted(stage: Stage, user: str) -> None:
    assert (await stage.chat(user=user)).status == 200


# ---- invalid bodies

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
    response = await response_of(stage.post(data=body))
    assert (response.status, response.error["code"]) == (400, "invalid_json")
    assert not stage.simulator.calls


@pytest.mark.parametrize(("body", "param"), INVALID_REQUEST.values(), ids=INVALID_REQUEST)
async def test_an_invalid_value_of_a_checked_member_is_refused_by_the_proxy(
    stage: Stage, body: bytes, param: str | None
) -> None:
    response = await response_of(stage.post(data=body))
    assert (response.status, response.error["code"], response.error["param"]) == (
        400,
        "invalid_request",
        param,
    )
    if param is not None:
        assert f"'{param}'" in response.error["message"]
    assert not stage.simulator.calls


@pytest.mark.parametrize("requested", [10**6, 2**31, 2**63, 10**30])
async def test_a_huge_output_limit_is_lowered_or_refused(stage: Stage, requested: int) -> None:
    capped = await stage.add_event(max_output_tokens=100)
    response = await stage.chat(capped, max_tokens=requested)
    assert response.status in {200, 400}
    if response.status == 200:
        assert stage.simulator.calls[-1].json["max_tokens"] == 100
    else:
        assert response.error["param"] == "max_tokens"
        assert not stage.simulator.calls


@pytest.mark.parametrize("name", ["temperature", "tools", "response_format"])
async def test_other_invalid_members_are_left_to_the_upstream(stage: Stage, name: str) -> None:
    await response_of(stage.post(json=QUESTION | {name: {"nonsense": True}}))
    assert len(stage.simulator.calls) == 1


async def test_missing_messages_are_refused_with_the_upstreams_error(stage: Stage) -> None:
    response = await response_of(stage.post(json={"model": MODEL}))
    assert (response.status, response.error["code"]) == (400, "missing_required_parameter")
    assert response.error["param"] == "messages"
    assert len(stage.simulator.calls) == 1


async def test_eight_megabytes_are_too_large_in_every_form(stage: Stage) -> None:
    body = b'{"messages":"' + b"x" * 8_000_000 + b'"}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    for data in (BytesIO(body), in_chunks()):
        response = await response_of(stage.post(data=data))
        assert (response.status, response.error["code"]) == (413, "request_too_large")
    assert not stage.simulator.calls


async def test_a_body_just_within_the_limit_goes_through(stage: Stage) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    frame = json.dumps({"messages": [{"role": "user", "content": [picture]}]}).encode()
    body = frame.replace(b"base64,", b"base64," + b"A" * (7_500_000 - len(frame)))
    response = await response_of(stage.post(data=BytesIO(body)))
    assert response.status == 200
    assert [len(call.body) for call in stage.simulator.calls] == [7_500_000 + len(f',"model":"{MODEL}"') - 1]


async def test_the_body_limit_can_be_set(stage: Stage) -> None:
    async with stage.instance(PROXY_MAX_BODY_BYTES="2000") as small:
        response = await response_of(small.post(data=b" " * 2001))
        assert (response.status, response.error["code"]) == (413, "request_too_large")
        assert (await small.chat()).status == 200


async def test_a_large_body_with_a_malformed_credential_needs_no_table_call(
    cut_off: tuple[Stage, TableTap],
) -> None:
    stage, tap = cut_off
    before = tap.connections
    response = await response_of(stage.post(headers={"api-key": "nonsense"}, data=BytesIO(b"x" * 8_000_000)))
    assert response.status in {401, 413}
    assert tap.connections == before


# ---- invalid names of models

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
async def test_an_odd_deployment_name_is_an_unknown_model(stage: Stage, route: str, name: str) -> None:
    url = URL(stage.url + route.format(name), encoded=True)
    response = await response_of(stage.http.post(url, json=QUESTION, headers={"api-key": CREDENTIAL}))
    assert (response.status, response.error["code"]) in {(404, "model_not_found"), (404, "not_found")}
    assert "set-cookie" not in response.headers
    assert len(response.body) < 1000
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    "name", ["", "a/b", "../../admin", "\x00", "gpt\n4o", "' or '1' eq '1", "😀", "g" * 100_000]
)
async def test_an_odd_model_in_the_body_is_an_unknown_model(stage: Stage, name: str) -> None:
    response = await stage.chat(model=name)
    if name:
        assert (response.status, response.error["code"]) == (404, "model_not_found")
        assert f"{MODEL}, gpt-4o" in response.error["message"]
        assert not stage.simulator.calls
    else:
        assert (response.status, stage.simulator.calls[-1].deployment) == (200, MODEL)


async def test_a_default_model_that_is_not_deployed_is_a_404(stage: Stage) -> None:
    code = await stage.add_event(models=(), default_model="gone")
    response = await stage.chat(code)
    assert (response.status, response.error["code"]) == (404, "model_not_found")


async def test_an_event_with_several_models_and_no_default_needs_a_model_in_the_request(stage: Stage) -> None:
    code = await stage.add_event(default_model=None)
    response = await stage.chat(code)
    assert (response.status, response.error["param"]) == (400, "model")
    assert f"{MODEL}, gpt-4o" in response.error["message"]


async def test_an_unreadable_event_row_is_a_503_that_names_the_organiser(stage: Stage) -> None:
    client = stage.tables._service.get_table_client("events")
    for code, row in {"broken-1": {"starts_at": "soon"}, "broken-2": {}}.items():
        await client.upsert_entity({"PartitionKey": code, "RowKey": "event", **row})
        response = await stage.chat(code)
        await client.delete_entity(code, "event")  # one unreadable row makes listing the events fail
        assert (response.status, response.error["code"]) == (503, "store_unavailable")
        assert "organiser" in response.error["message"]
    await client.close()


async def test_a_credential_in_the_query_is_not_accepted(stage: Stage) -> None:
    for query in ("api-key=hackathon/ann", "code=hackathon/ann", "openai-event-code=hackathon/ann"):
        response = await response_of(stage.http.get(f"{stage.url}/v1/event?{query}"))
        assert response.status == 401


async def test_a_refused_connection_serves_the_next_call(stage: Stage) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        for body, status in ((b"{", 400), (b'{"n":0}', 400), (json.dumps(QUESTION).encode(), 200)):
            url = stage.url + "/v1/chat/completions"
            async with http.post(url, data=body, headers={"api-key": CREDENTIAL}) as response:
                assert response.status == status


@pytest.mark.parametrize(
    ("originator", "kind"), [("codex_cli_rs", "usage_limit_reached"), ("", "insufficient_quota")]
)
async def test_codex_learns_when_the_quota_comes_back(stage: Stage, originator: str, kind: str) -> None:
    code = await stage.add_event(requests_per_day=1)
    headers = {"api-key": f"{code}/amy", "originator": originator}
    body = {"model": MODEL, "input": "Hello"}
    for status in (200, 429):
        response = await response_of(stage.post("/v1/responses", headers=headers, json=body))
        assert response.status == status
    assert (response.error["type"], response.error["code"]) == (kind, "request_quota_exceeded")
    seconds = response.error.get("resets_at", 0) - datetime.now(UTC).timestamp()
    assert (0 < seconds <= 86_400) == (kind == "usage_limit_reached")
