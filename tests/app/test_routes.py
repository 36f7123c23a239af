"""Every route, under both prefixes: who answers what, to which method, with the credential from any header."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.core.models import Deployment
from tests.conftest import (
    CREDENTIAL,
    MODEL,
    QUESTION,
    Stage,
    TableTap,
    answered,
    on_the_wire,
    serve,
)
from tools.simulator import Simulator

OTHER = "gpt-4o"
PREFIXES = ("/v1", "/api/v1")
NAMED = ("/openai/deployments/{}/chat/completions", "/deployments/{}/chat/completions")
UNNAMED = ("/chat/completions", "/openai/v1/chat/completions")
CHATS = [prefix + path.format(OTHER) for prefix in PREFIXES for path in (*NAMED, *UNNAMED)]
MODELS = [prefix + path for prefix in PREFIXES for path in ("/models", "/openai/models", "/openai/v1/models")]
ONE_MODEL = [f"{path}/{OTHER}" for path in MODELS]
EVENTS = [prefix + "/event" for prefix in PREFIXES]
ALLOWED = {**dict.fromkeys(CHATS, "POST"), **dict.fromkeys([*MODELS, *ONE_MODEL, *EVENTS], "GET")}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
HEADERS = {
    "api-key": CREDENTIAL,
    "openai-event-code": CREDENTIAL,
    "authorization": f"Bearer {CREDENTIAL}",
}


async def ask(stage: Stage, path: str, headers: dict[str, str] | None = None, method: str = "") -> Any:
    options: dict[str, Any] = {"json": QUESTION | {"model": OTHER}} if path in CHATS else {}
    method = method or ALLOWED[path]
    return await answered(stage.http.request(method, stage.url + path, headers=headers, **options))


@pytest.fixture(scope="module")
async def cut_off(
    shared_simulator: Simulator, running: Stage, environment: dict[str, str]
) -> AsyncIterator[tuple[Stage, TableTap]]:
    """An instance whose tables hang up."""
    async with TableTap().open() as tap:
        settings = environment | {"PROXY_TABLES": tap.connection_string}
        async with serve(running.tables, shared_simulator, settings) as stage:
            yield stage, tap


@pytest.mark.parametrize("path", CHATS)
@pytest.mark.parametrize("query", ["", "?api-version=2023-09-01-preview", "?api-version=nonsense&x=1"])
async def test_chat_uses_the_named_model_and_drops_the_api_version(
    stage: Stage, path: str, query: str
) -> None:
    got = await answered(stage.post(path + query, json=QUESTION | {"model": OTHER}))
    assert got.status == 200
    call = stage.simulator.calls[-1]
    assert (call.deployment, call.path, call.query) == (OTHER, "/openai/v1/chat/completions", "")
    assert got.headers["x-request-id"]
    assert got.headers["apim-request-id"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", NAMED)
async def test_the_deployment_in_the_path_wins_over_the_model_in_the_body(
    stage: Stage, prefix: str, path: str
) -> None:
    got = await answered(stage.post(prefix + path.format(OTHER), json=QUESTION | {"model": MODEL}))
    assert got.status == 200
    assert stage.simulator.calls[-1].deployment == OTHER


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("path", UNNAMED)
async def test_without_a_model_the_default_of_the_event_is_used(stage: Stage, prefix: str, path: str) -> None:
    got = await answered(stage.post(prefix + path))
    assert got.status == 200
    assert stage.simulator.calls[-1].deployment == MODEL


@pytest.mark.parametrize("path", MODELS)
async def test_models_are_listed_as_openai_lists_them(stage: Stage, path: str) -> None:
    got = await answered(stage.http.get(stage.url + path, headers={"api-key": CREDENTIAL}))
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-request-id"]
    listed = (await stage.http.get(stage.url + path, headers={"api-key": CREDENTIAL})).json()
    value = await listed
    assert value["object"] == "list"
    assert [one["id"] for one in value["data"]] == [MODEL, OTHER]
    assert {one["object"] for one in value["data"]} == {"model"}
    assert all(isinstance(one["created"], int) and one["owned_by"] for one in value["data"])


async def test_only_allowed_and_active_models_are_listed(
    stage: Stage,
) -> None:
    model = await stage.add_deployment()
    stopped = await stage.add_deployment(active=False)
    code = await stage.add_event(models=(stopped, "never-deployed", model))
    got = await stage.http.get(f"{stage.url}/v1/models", headers={"api-key": f"{code}/ann"})
    assert [one["id"] for one in (await got.json())["data"]] == [model]


@pytest.mark.parametrize("path", ONE_MODEL)
async def test_one_model_is_shown_as_in_the_list(stage: Stage, path: str) -> None:
    headers = {"api-key": CREDENTIAL}
    got = await answered(stage.http.get(stage.url + path, headers=headers))
    listed = await (await stage.http.get(stage.url + path.removesuffix(f"/{OTHER}"), headers=headers)).json()
    assert (got.status, got.headers["content-type"]) == (200, "application/json")
    assert json.loads(got.body) == listed["data"][1]
    assert got.headers["x-request-id"]


@pytest.mark.parametrize("name", ["no-such-model", "gpt-4o%2Fx", "GPT-4O", "'%20or%201=1", "%0a"])
@pytest.mark.parametrize("path", MODELS)
async def test_a_model_that_the_event_may_not_use_is_a_404_that_lists_the_allowed_ones(
    stage: Stage, path: str, name: str
) -> None:
    got = await on_the_wire(
        stage.url, [f"GET {path}/{name} HTTP/1.1".encode(), b"api-key: " + CREDENTIAL.encode()]
    )
    assert (got.status, got.error["code"], got.error["param"]) == (404, "model_not_found", "model")
    assert f"Use one of: {MODEL}, {OTHER}." in got.error["message"]


LIMITS = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"}
"""Without the reset, which another second changes."""


async def test_one_model_needs_an_open_event_like_the_list(stage: Stage) -> None:
    stopped = await stage.add_deployment(active=False)
    closed, quota = {"ends_at": datetime.now(UTC) - timedelta(hours=1)}, {"requests_per_day": 7}
    for changes in ({}, {"models": (MODEL,)}, {"models": (stopped,)}, {"models": ()}, closed, quota):
        code = await stage.add_event(**changes)
        listed, one = [
            await answered(stage.http.get(f"{stage.url}{path}", headers={"api-key": f"{code}/ann"}))
            for path in ("/v1/models", f"/v1/models/{OTHER}")
        ]
        if listed.status == 200:
            data = [model for model in json.loads(listed.body)["data"] if model["id"] == OTHER]
            assert (one.status, [json.loads(one.body)]) == (200, data) if data else one.status == 404
        else:
            assert (one.status, one.body) == (listed.status, listed.body) and one.status == 403
        listed_limits, limits = [
            {name: value for name, value in got.headers.items() if name in LIMITS} for got in (listed, one)
        ]
        assert limits == listed_limits and bool(limits) == (changes is quota)


async def test_an_event_that_names_no_models_may_use_all_that_are_deployed(stage: Stage) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(), default_model=None)
    got = await stage.http.get(f"{stage.url}/v1/models", headers={"api-key": f"{code}/ann"})
    assert {model, MODEL, OTHER} <= {one["id"] for one in (await got.json())["data"]}


async def test_a_second_deployment_lists_its_model_once(stage: Stage) -> None:
    model = await stage.add_deployment()
    await stage.tables.put_deployment(Deployment(model, "second", stage.simulator.url, model, priority=2))
    code = await stage.add_event(models=(model,))
    got = await stage.http.get(f"{stage.url}/v1/models", headers={"api-key": f"{code}/ann"})
    assert [one["id"] for one in (await got.json())["data"]] == [model]


@pytest.mark.parametrize("path", EVENTS)
async def test_the_event_shows_the_user_and_the_limits(stage: Stage, path: str) -> None:
    starts, ends = datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2096, 1, 2, 3, tzinfo=UTC)
    code = await stage.add_event(starts_at=starts, ends_at=ends, organizer="Ada", max_output_tokens=300)
    got = await stage.http.get(stage.url + path, headers={"api-key": f"{code.upper()}/Ann"})
    assert got.status == 200
    event = await got.json()
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
        got = await stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/ann"})
        assert got.status == 200
        assert (await got.json())["open"] is False


@pytest.mark.parametrize("path", sorted(ALLOWED))
@pytest.mark.parametrize("header", sorted(HEADERS))
async def test_the_credential_is_taken_from_each_of_the_three_headers(
    stage: Stage, path: str, header: str
) -> None:
    assert (await ask(stage, path, {header: HEADERS[header]})).status == 200


@pytest.mark.parametrize("path", sorted(ALLOWED))
async def test_every_route_needs_a_credential(stage: Stage, path: str) -> None:
    got = await ask(stage, path)
    assert (got.status, got.error["code"]) == (401, "invalid_event_token")
    assert not stage.simulator.calls


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_bearer_scheme_is_read_in_any_case(stage: Stage, scheme: str) -> None:
    got = await ask(stage, "/v1/event", {"authorization": f"{scheme}   {CREDENTIAL}"})
    assert got.status == 200


async def test_api_key_comes_before_event_code_and_event_code_before_bearer(stage: Stage) -> None:
    order = ["api-key", "openai-event-code", "authorization"]
    for place, first in enumerate(order):
        later = {
            name: "Bearer unknown/x" if name == "authorization" else "unknown/x"
            for name in order[place + 1 :]
        }
        assert (await ask(stage, "/v1/event", {first: HEADERS[first]} | later)).status == 200
        for second in order[place + 1 :]:
            wrong = "Bearer unknown/x" if first == "authorization" else "unknown/x"
            assert (await ask(stage, "/v1/event", {first: wrong, second: HEADERS[second]})).status == 401


async def test_an_empty_header_is_skipped(stage: Stage) -> None:
    headers = {"api-key": "", "openai-event-code": "  ", "authorization": f"Bearer {CREDENTIAL}"}
    assert (await ask(stage, "/v1/event", headers)).status == 200


async def test_upper_case_and_outer_spaces_give_the_same_credential(stage: Stage) -> None:
    for written in (
        "HackaThon/GloveBoxes",
        "  hackathon/gloveboxes  ",
        "hackathon / gloveboxes",
        "\thackathon\t/ x",
    ):
        got = await on_the_wire(stage.url, [b"GET /v1/event HTTP/1.1", b"api-key: " + written.encode()])
        assert got.status == 200


@pytest.mark.parametrize("path", sorted(ALLOWED))
async def test_other_methods_get_405_with_the_allowed_one(stage: Stage, path: str) -> None:
    for method in METHODS:
        if method == ALLOWED[path]:
            continue
        got = await answered(stage.http.request(method, stage.url + path, headers=HEADERS))
        assert (got.status, got.headers["allow"]) == (405, ALLOWED[path]), method
        if method != "HEAD":
            assert (got.error["code"], got.error["type"]) == ("method_not_allowed", "invalid_request_error")
            assert ALLOWED[path] in got.error["message"]
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    "path",
    [
        *("/v1", "/v1/", "/api", "/api/", "/api/v1", "/api/v2/chat/completions", "/v1/completions"),
        *(
            "/embeddings",
            "/responses",
            "/responses/x",
            "/v1/embeddings",
            "/v1/chat",
            "/v1/chat/completions/more",
            "/v1/openai/chat/completions",
        ),
        *("/v1/openai/deployments/a/b/chat/completions", "/v1/*/chat/completions"),
        *("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/chats"),
        *(
            "/v1/models/gpt-4o/more",
            "/v1/%0d%0a",
            "/v1/" + "x" * 3000,
            "/v1/'%20or%201=1",
            "/v1/..%2fhealthz",
        ),
    ],
)
async def test_an_unknown_path_is_a_404_in_the_envelope_for_every_method(stage: Stage, path: str) -> None:
    await is_not_found(stage, path, "serves chat completions only: use /v1/chat/completions.")


WITHOUT_V1 = [
    *("/chat/completions", "/openai/v1/chat/completions", "/openai/deployments/gpt-4o/chat/completions"),
    *("/deployments/gpt-4o/chat/completions", "/models", "/openai/models", "/openai/v1/models"),
    *("/models/gpt-4o", "/event", "/Chat/Completions/"),
]


@pytest.mark.parametrize("path", WITHOUT_V1)
async def test_a_path_without_v1_is_a_404_in_the_envelope_for_every_method(stage: Stage, path: str) -> None:
    await is_not_found(stage, f"{path}?x=1", f"'{path}' is missing /v1: use '/v1{path}'.")


async def is_not_found(stage: Stage, target: str, words: str) -> None:
    """In the envelope, for every method."""
    for method in METHODS:
        got = await on_the_wire(
            stage.url, [f"{method} {target} HTTP/1.1".encode(), b"api-key: " + CREDENTIAL.encode()]
        )
        assert (got.status, got.headers["content-type"]) == (404, "application/json"), method
        if method != "HEAD":
            assert got.error["code"] == "not_found"
            assert words in got.error["message"]
    assert not stage.simulator.calls


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/openai/deployments/gpt-4o/embeddings",
            "/openai/responses",
            "/openai",
            "/chat/foo",
            "/models/a/b",
        ),
        *("/images/generations", "/completions", "/files", "/moderations", "/audio/speech", "/batches"),
    ],
)
async def test_an_unknown_path_without_v1_is_not_sent_to_v1(stage: Stage, path: str) -> None:
    got = await answered(stage.post(path=path))
    assert (got.status, got.error["code"]) == (404, "not_found")
    assert got.error["message"].startswith(
        f"'{path}' is not supported here. The proxy serves chat completions only"
    )


async def test_a_long_path_without_v1_is_shown_whole(stage: Stage) -> None:
    path = f"/openai/deployments/{'m' * 64}/chat/completions"
    got = await answered(stage.post(path=path))
    assert f"use '/v1{path}'." in got.error["message"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/deployments//chat/completions", 404),
        ("//v1/models", 404),
        ("/v1/models/%00", 400),
        ("/%00", 400),
    ],
)
async def test_the_host_refuses_a_doubled_slash_and_a_nul_without_the_app(
    stage: Stage, path: str, status: int
) -> None:
    got = await on_the_wire(stage.url, [f"GET {path} HTTP/1.1".encode()])
    assert (got.status, got.body) == (status, b"")


async def test_both_prefixes_respond_alike(stage: Stage) -> None:
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
            got = await answered(stage.http.get(stage.url + prefix + path.format(OTHER), headers=HEADERS))
            dated = {"date", "x-request-id", "content-length"}
            body = got.body.replace(prefix.encode() + path.format(OTHER).encode(), b"PATH")
            responses.append(
                (got.status, body, {name: got.headers[name] for name in got.headers.keys() - dated})
            )
        assert responses[0] == responses[1]


async def test_healthz_touches_nothing_else(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    got = await answered(stage.http.get(stage.url + "/healthz"))
    assert (got.status, got.body) == (200, b'{"status":"alive"}')
    assert tap.connections == before


async def test_healthz_is_alive_even_when_the_settings_are_wrong(running: Stage) -> None:
    async with serve(running.tables, running.simulator, {"PROXY_CACHE_SECONDS": "soon"}) as stage:
        assert (await answered(stage.http.get(stage.url + "/healthz"))).status == 200
        for path in ("/readyz", "/v1/event"):
            got = await answered(stage.http.get(stage.url + path, headers=HEADERS))
            assert (got.status, got.error["code"]) == (503, "store_unavailable")
            assert b"soon" not in got.body


async def test_readyz_is_200_while_the_tables_respond(stage: Stage) -> None:
    got = await answered(stage.http.get(stage.url + "/readyz"))
    assert (got.status, got.body) == (200, b'{"status":"ready"}')


async def test_readyz_is_503_while_the_tables_do_not_respond(cut_off: tuple[Stage, TableTap]) -> None:
    stage, tap = cut_off
    before = tap.connections
    got = await answered(stage.http.get(stage.url + "/readyz"))
    assert (got.status, got.error["code"]) == (503, "store_unavailable")
    assert int(got.headers["retry-after"]) >= 1
    assert tap.connections > before


async def test_an_event_changed_in_the_tables_is_seen(stage: Stage) -> None:
    code = await stage.add_event(name="Before")
    event = await stage.tables.event(code)
    assert event is not None
    await stage.tables.put_event(replace(event, name="After"))
    got = await stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/ann"})
    assert (await got.json())["name"] == "After"
