"""Every route, with each prefix: its methods, its credential headers and its responses."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest

from shared.app.paths import MAIN_PATHS, PATHS, find
from shared.app.web import Web
from shared.core.models import Deployment
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage, serve
from tests.responses import WireResponse, response_of, send_raw
from tools.azurite import Azurite
from tools.tap import TableTap

OTHER = "gpt-4o"
PREFIXES = ("", "/v1", "/api/v1")
NAMED = ("/openai/deployments/{}/chat/completions", "/deployments/{}/chat/completions")
UNNAMED = tuple(f"{form}/chat/completions" for form in ("", "/openai", "/openai/v1", "/models"))
CHATS = [prefix + path.format(OTHER) for prefix in PREFIXES for path in (*NAMED, *UNNAMED)]
MODELS = [prefix + path for prefix in PREFIXES for path in ("/models", "/openai/models", "/openai/v1/models")]
ONE_MODEL = [f"{path}/{OTHER}" for path in MODELS]
EVENTS = [prefix + "/event" for prefix in PREFIXES]
ALLOWED = {**dict.fromkeys(CHATS, "POST"), **dict.fromkeys([*MODELS, *ONE_MODEL, *EVENTS], "GET")}
KEY = b"api-key: " + CREDENTIAL.encode()
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
HEADERS = {
    "api-key": CREDENTIAL,
    "openai-event-code": CREDENTIAL,
    "authorization": f"Bearer {CREDENTIAL}",
}


async def call(stage: Stage, path: str, headers: dict[str, str] | None = None) -> WireResponse:
    """Call the route with its own method."""
    body = QUESTION | {"model": OTHER} if path in CHATS else None
    return await response_of(stage.http.request(ALLOWED[path], stage.url + path, headers=headers, json=body))


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("query", ["", "?api-version=2023-09-01-preview", "?api-version=nonsense&x=1"])
async def test_chat_uses_the_named_model_and_drops_the_api_version(
    stage: Stage, path: str, query: str
) -> None:
    response = await response_of(stage.post(path + query, json=QUESTION | {"model": OTHER}))
    assert response.status == 200
    received = stage.simulator.calls[-1]
    assert (received.deployment, received.path, received.query) == (OTHER, "/openai/v1/chat/completions", "")
    assert response.headers["x-request-id"]
    assert response.headers["apim-request-id"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", NAMED)
async def test_the_deployment_in_the_path_wins_over_the_model_in_the_body(
    stage: Stage, prefix: str, path: str
) -> None:
    response = await response_of(stage.post(prefix + path.format(OTHER), json=QUESTION | {"model": MODEL}))
    assert response.status == 200
    assert stage.simulator.calls[-1].deployment == OTHER


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", UNNAMED)
async def test_without_a_model_the_default_of_the_event_is_used(stage: Stage, prefix: str, path: str) -> None:
    response = await response_of(stage.post(prefix + path))
    assert response.status == 200
    assert stage.simulator.calls[-1].deployment == MODEL


@pytest.mark.parametrize("path", MODELS)
async def test_models_are_listed_in_the_form_of_openai(stage: Stage, path: str) -> None:
    response = await stage.get(path)
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.json["object"] == "list"
    models = response.json["data"]
    assert [one["id"] for one in models] == [MODEL, OTHER]
    assert {one["object"] for one in models} == {"model"}
    assert all(isinstance(one["created"], int) and one["owned_by"] for one in models)


async def test_each_listed_model_names_the_apis_that_it_serves(stage: Stage) -> None:
    chat = await stage.add_deployment()
    small = await stage.add_deployment(apis=("embeddings",))
    code = await stage.add_event(models=(chat, small))
    apis = {chat: ["chat", "responses"], small: ["embeddings"]}
    listed, one, event = [
        await stage.get(path, code) for path in ("/v1/models", f"/v1/models/{small}", "/v1/event")
    ]
    assert {one["id"]: one["apis"] for one in listed.json["data"]} == apis
    assert one.json["apis"] == ["embeddings"]
    assert (event.json["models"], event.json["model_apis"]) == ([chat, small], apis)


async def test_a_model_of_another_api_is_not_found_and_the_error_names_one_to_use(stage: Stage) -> None:
    chat = await stage.add_deployment()
    small = await stage.add_deployment(apis=("embeddings",))
    code = await stage.add_event(models=(chat, small))
    async with stage.post(headers={"api-key": f"{code}/ann"}, json={**QUESTION, "model": small}) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["message"] == (
        f"'{small}' serves embeddings, not chat completions. For chat completions use one of: {chat}."
    )


async def test_only_allowed_and_active_models_are_listed(stage: Stage) -> None:
    model = await stage.add_deployment()
    stopped = await stage.add_deployment(active=False)
    code = await stage.add_event(models=(stopped, "never-deployed", model))
    response = await stage.get("/v1/models", code)
    assert [one["id"] for one in response.json["data"]] == [model]


@pytest.mark.parametrize("path", ONE_MODEL)
async def test_one_model_has_the_same_members_as_in_the_list(stage: Stage, path: str) -> None:
    response = await stage.get(path)
    models = (await stage.get(path.removesuffix(f"/{OTHER}"))).json["data"]
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert response.json == models[1]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("name", ["no-such-model", "gpt-4o%2Fx", "GPT-4O", "'%20or%201=1", "%0a"])
@pytest.mark.parametrize("path", MODELS)
async def test_a_model_that_the_event_may_not_use_is_a_404_that_lists_the_allowed_ones(
    stage: Stage, path: str, name: str
) -> None:
    response = await send_raw(stage.url, [f"GET {path}/{name} HTTP/1.1".encode(), KEY])
    assert (response.status, response.error["code"], response.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    assert f"Use one of: {MODEL}, {OTHER}." in response.error["message"]


LIMITS = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"}
"""Without the reset, which changes from second to second."""


async def test_one_model_is_allowed_and_refused_like_the_list(stage: Stage) -> None:
    stopped = await stage.add_deployment(active=False)
    closed, quota = {"ends_at": datetime.now(UTC) - timedelta(hours=1)}, {"requests_per_day": 7}
    for changes in ({}, {"models": (MODEL,)}, {"models": (stopped,)}, {"models": ()}, closed, quota):
        code = await stage.add_event(**changes)
        listed, one = [await stage.get(path, code) for path in ("/v1/models", f"/v1/models/{OTHER}")]
        if listed.status == 200:
            data = [model for model in listed.json["data"] if model["id"] == OTHER]
            assert (one.status, [one.json]) == (200, data) if data else one.status == 404
        else:
            assert (one.status, one.body) == (listed.status, listed.body) and one.status == 403
        listed_limits, limits = [
            {name: value for name, value in response.headers.items() if name in LIMITS}
            for response in (listed, one)
        ]
        assert limits == listed_limits and bool(limits) == (changes is quota)


async def test_an_event_that_names_no_models_may_use_all_that_are_deployed(stage: Stage) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(), default_model=None)
    response = await stage.get("/v1/models", code)
    assert {model, MODEL, OTHER} <= {one["id"] for one in response.json["data"]}


async def test_a_second_deployment_lists_its_model_once(stage: Stage) -> None:
    model = await stage.add_deployment()
    await stage.tables.put_deployment(Deployment(model, "second", stage.simulator.url, model, priority=2))
    code = await stage.add_event(models=(model,))
    response = await stage.get("/v1/models", code)
    assert [one["id"] for one in response.json["data"]] == [model]


@pytest.mark.parametrize("path", EVENTS)
async def test_the_event_shows_the_user_and_the_limits(stage: Stage, path: str) -> None:
    starts, ends = datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2096, 1, 2, 3, tzinfo=UTC)
    code = await stage.add_event(starts_at=starts, ends_at=ends, organizer="Ada", max_output_tokens=300)
    response = await stage.get(path, code.upper(), "Ann")
    assert response.status == 200
    event = response.json
    assert {name: event[name] for name in ("event_code", "user", "name", "organizer", "open")} == {
        "event_code": code,
        "user": "ann",
        "name": "Demo hackathon",
        "organizer": "Ada",
        "open": True,
    }
    assert [datetime.fromisoformat(event[name]) for name in ("starts_at", "ends_at")] == [starts, ends]
    assert event["models"] == [MODEL, OTHER]
    assert (event["default_model"], event["max_output_tokens"]) == (MODEL, 300)


async def test_a_closed_event_still_shows_its_times(stage: Stage) -> None:
    now = datetime.now(UTC)
    for changes in (
        {"starts_at": now + timedelta(hours=1)},
        {"ends_at": now - timedelta(hours=1)},
        {"active": False},
    ):
        code = await stage.add_event(**changes)
        response = await stage.get("/v1/event", code)
        assert response.status == 200
        assert response.json["open"] is False


@pytest.mark.parametrize("path", sorted(ALLOWED))
@pytest.mark.parametrize("header", sorted(HEADERS))
async def test_each_of_the_three_headers_can_hold_the_credential(
    stage: Stage, path: str, header: str
) -> None:
    assert (await call(stage, path, {header: HEADERS[header]})).status == 200


@pytest.mark.parametrize("path", sorted(ALLOWED))
async def test_every_route_needs_a_credential(stage: Stage, path: str) -> None:
    response = await call(stage, path)
    assert (response.status, response.error["code"]) == (401, "invalid_event_token")
    assert not stage.simulator.calls


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_bearer_scheme_is_accepted_in_any_case(stage: Stage, scheme: str) -> None:
    response = await call(stage, "/v1/event", {"authorization": f"{scheme}   {CREDENTIAL}"})
    assert response.status == 200


async def test_api_key_comes_before_event_code_and_event_code_before_bearer(stage: Stage) -> None:
    order = ["api-key", "openai-event-code", "authorization"]
    wrong = {name: value.replace(CREDENTIAL, "unknown/x") for name, value in HEADERS.items()}
    for place, first in enumerate(order):
        later = {name: wrong[name] for name in order[place + 1 :]}
        assert (await call(stage, "/v1/event", {first: HEADERS[first]} | later)).status == 200
        for second in order[place + 1 :]:
            headers = {first: wrong[first], second: HEADERS[second]}
            assert (await call(stage, "/v1/event", headers)).status == 401


async def test_an_empty_header_is_skipped(stage: Stage) -> None:
    headers = {"api-key": "", "openai-event-code": "  ", "authorization": f"Bearer {CREDENTIAL}"}
    assert (await call(stage, "/v1/event", headers)).status == 200


async def test_upper_case_and_spaces_around_a_part_give_the_same_credential(stage: Stage) -> None:
    for written in (
        "HackaThon/GloveBoxes",
        "  hackathon/gloveboxes  ",
        "hackathon / gloveboxes",
        "\thackathon\t/ x",
    ):
        response = await send_raw(stage.url, [b"GET /v1/event HTTP/1.1", b"api-key: " + written.encode()])
        assert response.status == 200


@pytest.mark.parametrize("path", sorted(ALLOWED))
async def test_other_methods_get_405_with_the_allowed_one(stage: Stage, path: str) -> None:
    for method in METHODS:
        if method == ALLOWED[path]:
            continue
        response = await response_of(stage.http.request(method, stage.url + path, headers=HEADERS))
        assert (response.status, response.headers["allow"]) == (405, ALLOWED[path]), method
        if method != "HEAD":
            assert (response.error["code"], response.error["type"]) == (
                "method_not_allowed",
                "invalid_request_error",
            )
            assert ALLOWED[path] in response.error["message"]
    assert not stage.simulator.calls


SERVED = f"The proxy serves {', '.join(map(repr, MAIN_PATHS[:-1]))} and {MAIN_PATHS[-1]!r}."
SDK = "In an SDK, set base_url to the address of this server and /v1, with nothing after it."
AZURE = "For AzureOpenAI, set azure_endpoint to the address of this server, with nothing after it."
BASE = "It is the base URL for an SDK. In a browser, open '/'."
UNKNOWN = {
    **dict.fromkeys(
        [
            "/api",
            "/v1/chat",
            "/v1/chat/completions/more",
            "/docs",
            "/redoc",
            "/openapi.json",
            "/docs/oauth2-redirect",
            "/chats",
            "/models/a/b",
            "/v1/healthz",
            "/v1/images/edits",
            "/v1/%0d%0a",
            "/v1/" + "x" * 3000,
            "/v1/'%20or%201=1",
            "/v1/..%2fhealthz",
        ],
        SERVED,
    ),
    **dict.fromkeys(
        ["/v1", "/v1/", "/API/v1", "/openai", "/openai/v1", "/v1/openai/deployments/gpt-4o"], BASE
    ),
    "/v1/v1/chat/completions": f"Use '/v1/chat/completions'. {SDK}",
    "/api/v2/Chat/completions/": f"Use '/v1/Chat/completions'. {SDK}",
    "/v1/chat/completions/chat/completions": f"Use '/v1/chat/completions'. {SDK}",
    "/chat/completions/models": f"Use '/v1/models'. {SDK}",
    "/v1/openai/openai/chat/completions": f"Use '/v1/openai/chat/completions'. {SDK}",
    "/x/openai/v1/models/gpt-4o": f"Use '/v1/openai/v1/models/gpt-4o'. {SDK}",
    "/v1/openai/openai/deployments/GPT/chat/completions": (
        f"Use '/v1/openai/deployments/GPT/chat/completions'. {AZURE}"
    ),
    "/v1/completions": "Use '/v1/chat/completions' with 'messages'",
    "/v1/engines/ada/completions": "name the model in the body",
    "/openai/deployments/gpt-4o/completions": "ChatOpenAI in LangChain",
    "/api/v1/openai/deployments/whisper/audio/transcriptions": "send the text",
    "/v1/messages": "Anthropic's API is not available.",
    "/v1/moderations": "Azure OpenAI filters its content",
    "/files": "an image as a data URL",
    "/v1/uploads/x/parts": "an image as a data URL",
    "/v1/vector_stores/x/search": "vectors from '/v1/embeddings'",
    "/v1/conversations/x/items": "Keep the messages in your own program",
    "/openai/assistants/x": "an agent framework",
    "/openai/threads/x/runs": "Keep the messages in your own program",
    "/v1/batches": "one by one",
    "/v1/fine_tuning/jobs": "No model can be trained here.",
    "/v1/realtime": 'with "stream": true',
}


@pytest.mark.parametrize("path", UNKNOWN)
async def test_an_unknown_path_is_a_404_that_says_what_to_use_for_every_method(
    stage: Stage, path: str
) -> None:
    for method in METHODS:
        response = await send_raw(stage.url, [f"{method} {path}?x=1 HTTP/1.1".encode(), KEY])
        assert (response.status, response.headers["content-type"]) == (404, "application/json"), method
        if method != "HEAD":
            assert response.error["code"] == "not_found"
            assert UNKNOWN[path] in response.error["message"]
            assert len(response.body) < 1000
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/responses/compact", "Send the part of the conversation that matters in 'input'."),
        ("/openai/v1/responses/input_tokens", "'usage' in the response has its tokens."),
    ],
)
async def test_a_call_that_looks_like_a_response_id_is_a_404(stage: Stage, path: str, advice: str) -> None:
    response = await response_of(stage.post(path, headers=HEADERS, json={"input": "a"}))
    assert (response.status, response.json["error"]["code"]) == (404, "not_found")
    assert advice in response.json["error"]["message"]


def test_every_path_has_its_handlers_and_no_path_hides_another() -> None:
    for template, handlers in PATHS:
        assert all(callable(getattr(Web, name)) for name in handlers.values())
        found = find("/" + template.replace("{", "").replace("}", ""))
        assert found is not None
        if template == "desk":  # without a prefix, GET is the page
            assert found.handlers in ({"GET": "desk_page", "HEAD": "desk_page"}, {"GET": "desk"})
            continue
        assert found.handlers is handlers
        assert [f"{{{name}}}" for name in found.parameters] == re.findall(r"\{\w+\}", template)


@pytest.mark.parametrize(
    "path", ["/responses", "/v1/responses", "/openai/v1/responses", "/v1/openai/responses"]
)
async def test_a_websocket_for_responses_is_refused_so_that_the_client_uses_http(
    stage: Stage, path: str
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await stage.http.ws_connect(stage.url + path, headers=HEADERS)
    assert refused.value.status == 426


@pytest.mark.parametrize(("path", "allowed"), [("/", "GET, HEAD"), ("/healthz", "GET, HEAD")])
async def test_the_page_and_the_probes_take_head_and_refuse_other_methods(
    stage: Stage, path: str, allowed: str
) -> None:
    get, head = [await response_of(stage.http.request(name, stage.url + path)) for name in ("GET", "HEAD")]
    assert (get.status, head.status, head.body) == (200, 200, b"")
    for method in set(METHODS) - {"GET", "HEAD"}:
        response = await response_of(stage.http.request(method, stage.url + path))
        assert (response.status, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/deployments//chat/completions", 404),
        ("//v1/models", 404),
        ("/v1/models/%00", 400),
        ("/%00", 400),
    ],
)
async def test_the_host_itself_refuses_a_double_slash_and_a_nul(stage: Stage, path: str, status: int) -> None:
    response = await send_raw(stage.url, [f"GET {path} HTTP/1.1".encode()])
    assert (response.status, response.body) == (status, b"")


async def test_all_prefixes_give_the_same_responses(stage: Stage) -> None:
    for path in (
        *NAMED,
        *UNNAMED,
        "/models",
        "/openai/models",
        "/openai/v1/models",
        "/models/x",
        "/event",
        "/nothing",
    ):
        responses = []
        for prefix in PREFIXES:
            response = await response_of(
                stage.http.get(stage.url + prefix + path.format(OTHER), headers=HEADERS)
            )
            varying = {"date", "x-request-id", "content-length"}
            body = response.body.replace(f"'{prefix}{path.format(OTHER)}'".encode(), b"PATH")
            responses.append(
                (
                    response.status,
                    body,
                    {name: response.headers[name] for name in response.headers.keys() - varying},
                )
            )
        assert responses[0] == responses[1] == responses[2]


async def test_healthz_does_not_call_the_tables(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    response = await response_of(stage.http.get(stage.url + "/healthz"))
    assert (response.status, response.body) == (200, b'{"status":"alive"}')
    assert tap.connections == before


async def test_healthz_is_alive_even_when_the_settings_are_wrong(running: Stage) -> None:
    async with serve(running.tables, running.simulator, {"PROXY_CACHE_SECONDS": "soon"}) as stage:
        assert (await response_of(stage.http.get(stage.url + "/healthz"))).status == 200
        for path in ("/readyz", "/v1/event"):
            response = await response_of(stage.http.get(stage.url + path, headers=HEADERS))
            assert (response.status, response.error["code"]) == (503, "store_unavailable")
            assert b"soon" not in response.body


async def test_readyz_is_200_while_the_tables_respond(stage: Stage) -> None:
    response = await response_of(stage.http.get(stage.url + "/readyz"))
    assert (response.status, response.body) == (200, b'{"status":"ready"}')


async def test_readyz_is_503_while_the_tables_do_not_respond(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    response = await response_of(stage.http.get(stage.url + "/readyz"))
    assert (response.status, response.error["code"]) == (503, "store_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert tap.connections > before


async def test_readyz_reads_the_tables_only_a_few_times_a_second(running: Stage, azurite: Azurite) -> None:
    """It needs no credential."""
    async with (
        TableTap(azurite.port).open() as tap,
        running.instance(PROXY_TABLES=tap.connection_string) as stage,
    ):
        for _ in range(10):
            together = (response_of(stage.http.get(stage.url + "/readyz")) for _ in range(10))
            assert {response.status for response in await asyncio.gather(*together)} == {200}
        assert 1 <= tap.reads_of("/events(") < 50


async def test_the_first_call_reads_its_event_and_the_deployments_together(
    running: Stage, azurite: Azurite
) -> None:
    async with (
        TableTap(azurite.port).open() as tap,
        running.instance(PROXY_TABLES=tap.connection_string) as stage,
    ):
        tap.passing.clear()
        call = asyncio.create_task(response_of(stage.post(json=QUESTION)))
        async with asyncio.timeout(10):
            while not (tap.reads_of("/events(") and tap.reads_of("/deployments")):
                tap.request_arrived.clear()
                await tap.request_arrived.wait()
        tap.passing.set()
        assert (await call).status == 200


async def test_a_change_of_an_event_in_the_tables_takes_effect(stage: Stage) -> None:
    code = await stage.add_event(name="Before")
    event = await stage.tables.event(code)
    assert event is not None
    await stage.tables.put_event(replace(event, name="After"))
    response = await stage.get("/v1/event", code)
    assert response.json["name"] == "After"
