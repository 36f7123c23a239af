"""`manage.py events check`: each failure has a step and advice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.admin.manage import UNREACHABLE, Result, manage, serve_bytes
from tests.conftest import MODEL, Stage, serve
from tools.simulator import Answer, CutStream, Failure, RateLimited


async def check(stage: Stage | str, code: str, *more: str) -> Result:
    url = stage if isinstance(stage, str) else stage.url
    command = ("events", "check", code, "--user", "ann", "--url", url)
    return await manage(None, *command, *more)


def steps(result: Result) -> dict[str, bool | None]:
    return {step["name"]: step["ok"] for step in json.loads(result.output)["steps"]}


async def test_an_event_that_works_passes_every_step(stage: Stage) -> None:
    code = await stage.add_event(models=(MODEL, "gpt-4o"), requests_per_day=50)
    result = await check(stage, code, "--json")
    assert result.status == 0, result.errors
    expected = ["address", "ready", "credential", "event open", "models"]
    kinds = ("completion", "stream", "response")
    expected += [f"{kind} {model}" for model in (MODEL, "gpt-4o") for kind in kinds]
    assert steps(result) == dict.fromkeys(expected, True)
    assert len(stage.simulator.calls) == 6
    text = await check(f"{stage.url}/api/v1/", code.upper())
    assert (
        text.status == 0 and "All steps passed" in text.output and "of 50 requests left today" in text.output
    )


async def test_each_model_is_tested_by_what_it_serves(stage: Stage) -> None:
    small = await stage.add_deployment("text-embedding-3-small", apis=("embeddings",))
    painter = await stage.add_deployment("gpt-image-1", apis=("images",))
    code = await stage.add_event(models=(small, painter), default_model=None)
    result = await check(stage, code, "--json")
    assert result.status == 0, result.errors
    found = steps(result)
    assert found[f"embedding {small}"] and found[f"image {painter}"] is None
    assert "completion" not in found
    assert [call.deployment for call in stage.simulator.calls] == [small]


async def test_the_address_comes_from_the_environment(stage: Stage) -> None:
    code = await stage.add_event(models=(MODEL,))
    tables = stage.environment["PROXY_TABLES"]
    result = await manage(tables, "events", "check", code, "--user", "ann", SERVICE_API_URI=stage.url)
    assert result.status == 0 and f"Testing {stage.url}" in result.output
    result = await manage(None, "events", "check", code, "--user", "ann", PROXY_URL=stage.url)
    assert result.status == 0 and f"Testing {stage.url}" in result.output
    result = await manage(tables, "events", "check", code, "--user", "ann")
    assert result.status == 2 and "Use --url" in result.error


DAY = timedelta(days=1)
TOMORROW = datetime.now(UTC) + DAY
Change = dict[str, Any]
FAILING: dict[str, tuple[Change, Any, str, str]] = {
    "stopped": ({"active": False}, None, "event open", "--resume"),
    "not open yet": ({"starts_at": TOMORROW, "ends_at": TOMORROW + DAY}, None, "event open", "--starts now"),
    "ended": ({"starts_at": TOMORROW - 3 * DAY, "ends_at": TOMORROW - 2 * DAY}, None, "event open", "--ends"),
    "quota of 0": ({"requests_per_day": 0}, None, f"completion {MODEL}", "--requests-per-day"),
    "model without a deployment": (
        {"models": ("gone",), "default_model": "gone"},
        None,
        "models",
        "deployments add",
    ),
    "default without a deployment": ({"default_model": "gone"}, None, "models", "--default-model"),
    "busy": ({}, RateLimited(), f"completion {MODEL}", "Give it more capacity"),
    "refused key": ({}, Failure(401), f"completion {MODEL}", "Check its key or role"),
    "stream that is cut": ({}, CutStream(after=4), f"stream {MODEL}", "Try again"),
    "stream without usage": ({}, Answer(report_usage=False), f"stream {MODEL}", "API version"),
}


@pytest.mark.parametrize(("change", "behaviour", "step", "advice"), FAILING.values(), ids=FAILING)
async def test_a_failed_step_has_advice(
    stage: Stage, change: Change, behaviour: Any, step: str, advice: str
) -> None:
    model = await stage.add_deployment(deployment_name=MODEL)
    code = await stage.add_event(**{"models": (model,), "default_model": model} | change)
    if behaviour is not None:
        stage.simulator.always(MODEL, behaviour)
    result = await check(stage, code)
    assert result.status == 1
    (line,) = (line for line in result.output.splitlines() if f"FAIL  {step.replace(MODEL, model)}" in line)
    after = result.output.partition(line)[2].splitlines()[1]
    assert advice in after, result.output
    assert "failed" in result.error


async def test_steps_after_an_unknown_code_are_skipped(stage: Stage) -> None:
    result = await check(stage, "no-such-code", "--json")
    assert result.status == 1
    found = steps(result)
    assert found["credential"] is False
    assert {name: ok for name, ok in found.items() if ok is None} == {
        "event open": None,
        "models": None,
        "completion": None,
        "stream": None,
    }
    assert stage.simulator.calls == ()


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (
            b"HTTP/1.1 404 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            "returned 404, but this is not the proxy",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi", "this is not the proxy"),
        (b"nonsense\r\n\r\n", "does not send valid HTTP"),
        (b"", "closed the connection"),
    ],
)
async def test_another_server_fails_the_address(response: bytes, found: str) -> None:
    async with serve_bytes(response) as url:
        result = await check(url, "hackathon")
    assert result.status == 1 and found in result.output
    assert "skipped" in result.output


async def test_an_app_without_tables_is_not_ready(stage: Stage) -> None:
    async with serve(
        stage.tables, stage.simulator, stage.environment | {"PROXY_TABLES": UNREACHABLE}
    ) as lost:
        result = await check(lost, "hackathon", "--json")
    assert result.status == 1
    found = steps(result)
    assert (found["address"], found["ready"], found["credential"]) == (True, False, None)
