"""`manage.py events check`: the rehearsal finds what an attendee would meet, and says what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.admin.manage import Said, manage
from tests.conftest import MODEL, Stage, serve
from tools.simulator import Answer, CutStream, Failure, RateLimited


async def check(stage: Stage | str, code: str, *more: str) -> Said:
    url = stage if isinstance(stage, str) else stage.url
    return await manage(None, "events", "check", code, "--user", "ann", "--url", url, *more)


def steps(said: Said) -> dict[str, bool | None]:
    return {step["name"]: step["ok"] for step in json.loads(said.output)["steps"]}


async def test_an_event_that_works_passes_every_step(stage: Stage) -> None:
    code = await stage.add_event(models=(MODEL, "gpt-4o"), requests_per_day=50)
    said = await check(stage, code, "--json")
    assert said.status == 0, said.errors
    expected = ["address", "ready", "credential", "event open", "models"]
    expected += [f"{kind} {model}" for model in (MODEL, "gpt-4o") for kind in ("completion", "stream")]
    assert steps(said) == dict.fromkeys(expected, True)
    assert len(stage.simulator.calls) == 4
    text = await check(f"{stage.url}/api/v1/", code.upper())
    assert text.status == 0 and "All is well" in text.output and "of 50 requests left today" in text.output


async def test_the_address_is_that_of_the_environment(stage: Stage) -> None:
    code = await stage.add_event(models=(MODEL,))
    tables = stage.environment["PROXY_TABLES"]
    said = await manage(tables, "events", "check", code, "--user", "ann", SERVICE_API_URI=stage.url)
    assert said.status == 0 and f"Calling {stage.url}" in said.output
    said = await manage(None, "events", "check", code, "--user", "ann", PROXY_URL=stage.url)
    assert said.status == 0 and f"Calling {stage.url}" in said.output
    said = await manage(tables, "events", "check", code, "--user", "ann")
    assert said.status == 2 and "give --url" in said.complaint


Change = dict[str, Any]
FAILING: dict[str, tuple[Change, Any, str, str]] = {
    "stopped": ({"active": False}, None, "event open", "--resume"),
    "quota of none": ({"requests_per_day": 0}, None, f"completion {MODEL}", "--requests-per-day"),
    "model that is gone": ({"models": ("gone",), "default_model": "gone"}, None, "models", "deployments add"),
    "default that is gone": ({"default_model": "gone"}, None, "models", "--default-model"),
    "busy": ({}, RateLimited(), f"completion {MODEL}", "give it more capacity"),
    "refused key": ({}, Failure(401), f"completion {MODEL}", "is its key or role right"),
    "stream that is cut": ({}, CutStream(after=4), f"stream {MODEL}", "Try again"),
    "stream without usage": ({}, Answer(report_usage=False), f"stream {MODEL}", "API version"),
}


@pytest.mark.parametrize(("change", "behaviour", "step", "advice"), FAILING.values(), ids=FAILING)
async def test_what_fails_is_named_with_what_to_do(
    stage: Stage, change: Change, behaviour: Any, step: str, advice: str
) -> None:
    model = await stage.add_deployment(deployment_name=MODEL)
    code = await stage.add_event(**{"models": (model,), "default_model": model} | change)
    if behaviour is not None:
        stage.simulator.always(MODEL, behaviour)
    said = await check(stage, code)
    assert said.status == 1
    (line,) = (line for line in said.output.splitlines() if f"FAIL  {step.replace(MODEL, model)}" in line)
    after = said.output.partition(line)[2].splitlines()[1]
    assert advice in after, said.output
    assert "failed" in said.complaint


async def test_an_unknown_code_is_refused_and_the_rest_not_tried(stage: Stage) -> None:
    said = await check(stage, "no-such-code", "--json")
    assert said.status == 1
    found = steps(said)
    assert found["credential"] is False
    assert {name: ok for name, ok in found.items() if ok is None} == {
        "event open": None,
        "models": None,
        "completion": None,
        "stream": None,
    }
    assert stage.simulator.calls == ()


@asynccontextmanager
async def somebody_else(answer: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "with 404, and it is not this app",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi", "it is not this app"),
        (b"nonsense\r\n\r\n", "does not speak HTTP"),
        (b"", "ended the connection"),
    ],
)
async def test_an_address_of_something_else_is_told(answer: bytes, found: str) -> None:
    async with somebody_else(answer) as url:
        said = await check(url, "hackathon")
    assert said.status == 1 and found in said.output
    assert "not tried" in said.output


async def test_an_app_whose_tables_are_gone_is_not_ready(stage: Stage) -> None:
    dead = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
    async with serve(stage.tables, stage.simulator, stage.environment | {"PROXY_TABLES": dead}) as lost:
        said = await check(lost, "hackathon", "--json")
    assert said.status == 1
    found = steps(said)
    assert (found["address"], found["ready"], found["credential"]) == (True, False, None)
