"""Web pages of other origins call the proxy: on the wire, and in a real browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.functions.cors import EXPOSED
from tests import browser
from tests.conftest import CREDENTIAL, MODEL, QUESTION, Stage
from tests.javascript import node_modules
from tests.responses import WireResponse, response_of, send_raw
from tools.simulator import Answer, CutStream

ORIGIN = "https://page.example"
PAGE = {"origin": ORIGIN, "api-key": CREDENTIAL}
SDK_HEADERS = "api-key,authorization,content-type,openai-event-code,x-stainless-os,x-stainless-retry-count"
ALWAYS_READABLE = {"cache-control", "content-type", "content-length"}
"""Those of them that the proxy sends ("Fetch Standard", "CORS-safelisted response-header name")."""
NOT_FOR_PAGES = {"allow", "connection", "date", "server", "transfer-encoding", "www-authenticate"}


def cors_headers(response: WireResponse) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


async def every_kind_of_response(stage: Stage, headers: dict[str, str]) -> dict[str, WireResponse]:
    code = await stage.add_event(requests_per_day=1, tokens_per_day=100_000, max_output_tokens=100)
    user = headers | {"api-key": f"{code}/ann"}
    stage.simulator.behave("gpt-4o", CutStream())
    cut_stream = {"stream": True, "model": "gpt-4o"}
    get, post = stage.http.get, stage.post
    return {
        "limited": await response_of(post(headers=user)),
        "used up": await response_of(post(headers=user)),
        "stream": await response_of(post(headers=headers, json=QUESTION | {"stream": True})),
        "cut stream": await response_of(post(headers=headers, json=QUESTION | cut_stream)),
        "list": await response_of(get(stage.url + "/models", headers=headers)),
        "page": await response_of(get(stage.url + "/", headers=headers)),
        "health": await response_of(get(stage.url + "/healthz", headers=headers)),
        "bad body": await response_of(post(headers=headers, data=b"{")),
        "wrong key": await response_of(post(headers=headers | {"api-key": "x/y"})),
        "unknown path": await response_of(get(stage.url + "/nothing", headers=headers)),
        "wrong method": await response_of(get(stage.url + "/chat/completions", headers=headers)),
        "options": await response_of(stage.http.options(stage.url + "/v1/models", headers=headers)),
        "bad id": await response_of(get(stage.url + "/", headers=headers | {"x-ms-invocation-id": "1"})),
    }


async def test_every_response_to_a_page_can_be_read_with_its_headers(stage: Stage) -> None:
    responses = await every_kind_of_response(stage, PAGE)
    assert {one.status for one in responses.values()} == {200, 400, 401, 404, 405, 429}
    seen = set()
    for name, response in responses.items():
        headers = cors_headers(response)
        assert headers.pop("access-control-allow-origin") == "*", name
        assert headers.pop("access-control-expose-headers") == ", ".join(EXPOSED), name
        assert not headers, name
        seen |= {one for one in response.headers if not one.startswith("access-control-")}
    page_only = {"content-security-policy", "referrer-policy", "x-content-type-options"}
    assert seen - set(EXPOSED) - ALWAYS_READABLE - NOT_FOR_PAGES == page_only
    assert {"x-ratelimit-remaining-tokens", "x-event-max-output-tokens", "x-should-retry"} <= seen


async def test_no_response_to_another_client_has_cors_headers(stage: Stage) -> None:
    for response in (await every_kind_of_response(stage, {"api-key": CREDENTIAL})).values():
        assert not cors_headers(response)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models", "/nothing", "/"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_preflight_allows_every_header_that_the_page_wants_to_send(
    stage: Stage, path: str, method: str
) -> None:
    """A wrong path or method is allowed too, so that the page can read the refusal."""
    asked = {"access-control-request-method": method, "access-control-request-headers": SDK_HEADERS}
    response = await response_of(stage.http.options(stage.url + path, headers={"origin": ORIGIN} | asked))
    assert (response.status, response.body) == (204, b"")
    headers = cors_headers(response)
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == SDK_HEADERS
    assert method in headers["access-control-allow-methods"].split(", ")
    assert int(headers["access-control-max-age"]) > 0
    assert "access-control-allow-credentials" not in headers
    assert "access-control-allow-private-network" not in headers


async def test_a_preflight_for_a_private_network_is_allowed(stage: Stage) -> None:
    lines = [
        b"OPTIONS /v1/chat/completions HTTP/1.1",
        b"origin: null",
        b"access-control-request-method: POST",
        b"access-control-request-private-network: true",
    ]
    headers = cors_headers(await send_raw(stage.url, lines))
    assert headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-headers" not in headers


# ---- in a real browser

FETCH = """
async (url, key, body) => {
  const response = await fetch(url, {method: "POST", body: JSON.stringify(body),
    headers: {"content-type": "application/json", "api-key": key, "x-stainless-os": "Browser"}});
  const pieces = [], reader = response.body.getReader(), decoder = new TextDecoder();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read())
    pieces.push(decoder.decode(piece.value));
  return {status: response.status, text: pieces.join(""), pieces: pieces.length,
    id: response.headers.get("x-request-id"), left: response.headers.get("x-ratelimit-remaining-requests")};
}
"""
SDK = """
async (url, key, body) => {
  const {OpenAI} = await import("/openai/index.mjs");
  const client = new OpenAI({baseURL: url, apiKey: key, dangerouslyAllowBrowser: true});
  const {data, response} = await client.chat.completions.create(body).withResponse();
  const left = response.headers.get("x-ratelimit-remaining-requests");
  if (!body.stream) return {text: data.choices[0].message.content, left};
  let text = "";
  for await (const chunk of data) text += chunk.choices[0]?.delta?.content ?? "";
  return {text, left};
}
"""


@asynccontextmanager
async def opened_elsewhere(folder: Path) -> AsyncIterator[browser.Page]:
    """A page of another origin, whose server also has the openai package."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_static("/openai", node_modules() / "openai")
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with browser.opened(folder) as opened:
            await opened.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            yield opened
    finally:
        await runner.cleanup()


async def run(opened: browser.Page, function: str, *arguments: Any) -> Any:
    """The result of an async JavaScript function, or the text of its error."""
    call = f"({function})({', '.join(map(json.dumps, arguments))})"
    await opened.evaluate(
        f"window.result = ''; {call}.then(r => result = r, e => result = {{error: `${{e}}`}}); 0"
    )
    for _ in range(600):
        if result := await opened.evaluate("result"):
            return result
        await asyncio.sleep(0.05)
    raise AssertionError("The function did not end.")


async def test_a_page_of_another_origin_calls_streams_and_reads_errors(stage: Stage, tmp_path: Path) -> None:
    code = await stage.add_event(requests_per_day=3)
    stage.simulator.always(MODEL, Answer("One two three."))
    url, key = f"{stage.url}/v1/chat/completions", f"{code}/ann"
    async with opened_elsewhere(tmp_path / "profile") as opened:
        plain = await run(opened, FETCH, url, key, QUESTION)
        assert (plain["status"], plain["left"]) == (200, "2") and "One two three." in plain["text"]
        stream = await run(opened, FETCH, url, key, QUESTION | {"stream": True})
        assert stream["status"] == 200 and stream["text"].endswith("data: [DONE]\n\n") and stream["id"]
        stage.simulator.behave(MODEL, CutStream())
        cut = await run(opened, FETCH, url, key, QUESTION | {"stream": True})
        assert "error" in cut
        used = await run(opened, FETCH, url, key, QUESTION)
        assert used["status"] == 429 and "request_quota_exceeded" in used["text"]
        unknown = await run(opened, FETCH, f"{stage.url}/v1/files", key, QUESTION)
        assert unknown["status"] == 404 and "data URL" in unknown["text"]


async def test_openai_package_works_in_a_page_of_another_origin(stage: Stage, tmp_path: Path) -> None:
    code = await stage.add_event(requests_per_day=2)
    stage.simulator.always(MODEL, Answer("One two three."))
    url, key = f"{stage.url}/v1", f"{code}/ann"
    body = QUESTION | {"model": MODEL}
    async with opened_elsewhere(tmp_path / "profile") as opened:
        expected = {"text": "One two three.", "left": "1"}
        assert await run(opened, SDK, url, key, body) == expected
        assert await run(opened, SDK, url, key, body | {"stream": True}) == expected | {"left": "0"}
        refused = await run(opened, SDK, url, key, body)
        assert "You have used all 2 requests for today." in refused["error"]
