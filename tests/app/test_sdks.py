"""The OpenAI packages as attendees use them: the newest, and the last 1.x in a separate virtual environment."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.app.sdk import MESSAGES, client, complete, open_stream
from tests.conftest import CREDENTIAL, MODEL, Stage
from tools.simulator import (
    Answer,
    CutBody,
    Failure,
    FilteredPrompt,
    RateLimited,
    ResetBeforeHeaders,
    TooLong,
)

VERSION = "2023-09-01-preview"
OLD = ("openai==1.109.1", "httpx==0.28.1")
ROOT = Path(__file__).resolve().parents[2]
OLD_HOME = ROOT / ".venvs" / "openai-1"

Make = Callable[..., Any]


def azure_endpoint(kind: Any, url: str, **options: Any) -> Any:
    return kind[0](azure_endpoint=f"{url}/v1", api_version=VERSION, **options)


def azure_endpoint_api(kind: Any, url: str, **options: Any) -> Any:
    return kind[0](azure_endpoint=f"{url}/api/v1/", api_version="2024-10-21", **options)


def azure_base_url(kind: Any, url: str, **options: Any) -> Any:
    return kind[0](base_url=f"{url}/v1", api_version=VERSION, **options)


def azure_deployment(kind: Any, url: str, **options: Any) -> Any:
    return kind[0](azure_endpoint=f"{url}/v1", azure_deployment=MODEL, api_version=VERSION, **options)


def base_url(kind: Any, url: str, **options: Any) -> Any:
    return kind[1](base_url=f"{url}/v1", **options)


def base_url_api(kind: Any, url: str, **options: Any) -> Any:
    return kind[1](base_url=f"{url}/api/v1/", **options)


def base_url_azure_v1(kind: Any, url: str, **options: Any) -> Any:
    return kind[1](base_url=f"{url}/v1/openai/v1", **options)


FORMS: list[Make] = [
    azure_endpoint,
    azure_endpoint_api,
    azure_base_url,
    azure_deployment,
    base_url,
    base_url_api,
    base_url_azure_v1,
]
SYNC = (openai.AzureOpenAI, openai.OpenAI)
ASYNC = (openai.AsyncAzureOpenAI, openai.AsyncOpenAI)


@pytest.fixture(params=FORMS, ids=lambda form: str(form.__name__))
def form(request: pytest.FixtureRequest) -> Make:
    form: Make = request.param
    return form


# ---- responses


async def test_the_asynchronous_client_gets_responses_streams_and_models(stage: Stage, form: Make) -> None:
    async with form(ASYNC, stage.url, api_key=CREDENTIAL, max_retries=0) as sdk:
        completion = await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert completion.choices[0].message.content
        assert completion.usage.total_tokens > 0
        assert completion._request_id
        chunks = [chunk async for chunk in await open_stream(sdk)]
        assert "".join(_texts(chunks)) == completion.choices[0].message.content
        assert all(chunk.usage is None for chunk in chunks)
        assert [model.id async for model in sdk.models.list()] == [MODEL, "gpt-4o"]
        assert (await sdk.models.retrieve("gpt-4o")).id == "gpt-4o"
    assert {call.deployment for call in stage.simulator.calls} == {MODEL}


async def test_the_synchronous_client_gets_responses_streams_and_models(stage: Stage, form: Make) -> None:
    def use() -> tuple[str, str, list[str]]:
        with form(SYNC, stage.url, api_key=CREDENTIAL, max_retries=0) as sdk:
            completion = sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
            chunks = sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            return (
                completion.choices[0].message.content,
                "".join(_texts(list(chunks))),
                [model.id for model in sdk.models.list()],
            )

    plain, streamed, models = await asyncio.to_thread(use)
    assert plain == streamed != ""
    assert models == [MODEL, "gpt-4o"]


def _texts(chunks: list[Any]) -> Iterator[str]:
    return (choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_stream_has_usage_if_the_client_requests_it(stage: Stage) -> None:
    async with client(stage) as sdk:
        last = [chunk async for chunk in await open_stream(sdk, stream_options={"include_usage": True})][-1]
    assert last.usage is not None
    assert (last.choices, last.usage.completion_tokens > 0) == ([], True)


async def test_the_stream_helper_of_the_sdk_works(stage: Stage) -> None:
    stage.simulator.behave(MODEL, Answer("Glove boxes hold more than gloves."))
    async with (
        client(stage) as sdk,
        sdk.chat.completions.stream(model=MODEL, messages=MESSAGES) as helper,
    ):
        completion = await helper.get_final_completion()
    assert completion.choices[0].message.content == "Glove boxes hold more than gloves."


async def test_the_event_code_header_is_enough(stage: Stage) -> None:
    headers = {"openai-event-code": CREDENTIAL, "authorization": "none"}
    completion = await complete(stage, api_key="unused", default_headers=headers)
    assert completion.choices[0].message.content


async def test_raw_responses_have_both_ids(stage: Stage) -> None:
    async with client(stage) as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    assert raw.headers["x-request-id"] == raw.request_id
    assert raw.headers["apim-request-id"]


# ---- refusals, as the SDK raises them


async def test_an_unknown_code_is_an_authentication_error_for_every_form(stage: Stage, form: Make) -> None:
    async with form(ASYNC, stage.url, api_key="unknown/ann") as sdk:
        with pytest.raises(openai.AuthenticationError, match="organiser") as refused:
            await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert (refused.value.code, bool(refused.value.request_id)) == ("invalid_event_token", True)
        with pytest.raises(openai.AuthenticationError):
            await sdk.models.list()


async def test_a_closed_event_is_a_permission_error(stage: Stage) -> None:
    code = await stage.add_event(ends_at=datetime(2026, 2, 1, tzinfo=UTC))
    with pytest.raises(openai.PermissionDeniedError, match="1 Feb 2026, 00:00 UTC") as refused:
        await complete(stage, api_key=f"{code}/ann", max_retries=2)
    assert (refused.value.code, refused.value.status_code) == ("event_ended", 403)
    assert refused.value.request_id
    assert not stage.simulator.calls


async def test_an_unknown_model_is_a_not_found_error_that_lists_the_models(stage: Stage, form: Make) -> None:
    if form is azure_deployment:
        pytest.skip("the client, not the call, names its deployment")
    async with form(ASYNC, stage.url, api_key=CREDENTIAL) as sdk:
        with pytest.raises(openai.NotFoundError, match=f"{MODEL}, gpt-4o") as refused:
            await sdk.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert refused.value.request_id


async def test_another_api_of_the_sdk_is_a_not_found_error(stage: Stage) -> None:
    async with client(stage) as sdk:
        with pytest.raises(openai.NotFoundError, match=r"/v1/moderations.*filters its content") as refused:
            await sdk.moderations.create(input="x")
    assert refused.value.code == "not_found"


@pytest.mark.parametrize("kind", ["openai", "azure_endpoint", "azure_base_url"])
async def test_an_address_without_v1_works_and_one_with_too_much_names_the_right_one(
    stage: Stage, kind: str
) -> None:
    options: dict[str, Any] = {"api_key": CREDENTIAL}
    if kind != "openai":
        options["api_version"] = VERSION
    address = "azure_endpoint" if kind == "azure_endpoint" else "base_url"
    too_much = "/v1/openai" if kind == "azure_endpoint" else "/v1/chat/completions"
    async with ASYNC[kind == "openai"](**options | {address: stage.url}) as sdk:
        assert await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert (await sdk.models.list()).data
    async with ASYNC[kind == "openai"](**options | {address: stage.url + too_much}) as sdk:
        with pytest.raises(openai.NotFoundError, match=f"{address} to the address of this server") as refused:
            await sdk.chat.completions.create(model=MODEL, messages=MESSAGES)
        assert refused.value.code == "not_found"


async def test_a_malformed_request_is_a_bad_request_error(stage: Stage) -> None:
    async with client(stage) as sdk:
        with pytest.raises(openai.BadRequestError) as refused:
            await sdk.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=0)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "max_tokens")


@pytest.mark.parametrize(
    ("behaviour", "code"), [(FilteredPrompt(), "content_filter"), (TooLong(), "context_length_exceeded")]
)
async def test_a_refusal_of_the_model_is_a_bad_request_error_with_its_own_code(
    stage: Stage, behaviour: Any, code: str
) -> None:
    stage.simulator.behave(MODEL, behaviour)
    with pytest.raises(openai.BadRequestError) as refused:
        await complete(stage, max_retries=2)
    assert refused.value.code == code
    assert len(stage.simulator.calls) == 1


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_busy_model_is_retried_as_often_as_the_client_allows(stage: Stage, retries: int) -> None:
    stage.simulator.always(MODEL, RateLimited(retry_after_ms=20))
    with pytest.raises(openai.RateLimitError) as refused:
        await complete(stage, max_retries=retries)
    assert (refused.value.code, refused.value.type) == ("upstream_busy", "rate_limit_error")
    assert refused.value.request_id
    # The rest of the 20 ms. If they have passed when the proxy writes the refusal, it says one second.
    assert int(refused.value.response.headers["retry-after-ms"]) in {*range(1, 21), 1000}
    assert refused.value.response.request.headers["x-stainless-retry-count"] == str(retries)


async def test_a_retry_succeeds_when_the_model_is_no_longer_busy(stage: Stage) -> None:
    stage.simulator.behave(MODEL, RateLimited(retry_after_ms=1), RateLimited(retry_after_ms=1))
    completion = await complete(stage, max_retries=2)
    assert completion.choices[0].message.content


@pytest.mark.parametrize("behaviour", [Failure(500), Failure(401), CutBody()])
async def test_a_failing_upstream_is_an_internal_server_error(stage: Stage, behaviour: Any) -> None:
    stage.simulator.behave(MODEL, behaviour)
    with pytest.raises(openai.InternalServerError) as refused:
        await complete(stage)
    assert (refused.value.status_code, refused.value.code) == (502, "upstream_error")
    assert refused.value.request_id


# ---- 1.x


@pytest.fixture(scope="session")
def old_python() -> Path:
    """Python with the last openai 1.x. Its virtual environment is built again when `OLD` changes."""
    python = OLD_HOME / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = OLD_HOME / "stamp.txt"
    required = "\n".join(OLD)
    if not (stamp.exists() and stamp.read_text() == required and _works(python)):
        venv.create(OLD_HOME, clear=True, with_pip=True, symlinks=os.name != "nt")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        result = subprocess.run([*pip, *OLD], capture_output=True, text=True, check=False, timeout=280)
        if result.returncode:
            pytest.fail(f"Cannot install {' and '.join(OLD)}: {result.stderr[-2000:]}")
        stamp.write_text(required)
    return python


def _works(python: Path) -> bool:
    try:
        return not subprocess.run(
            [python, "-c", "import openai"], check=False, capture_output=True
        ).returncode
    except OSError:
        return False


async def _run(python: Path, script: str, *arguments: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        python,
        Path(__file__).with_name(script),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    results: dict[str, Any] = json.loads(output)
    return results


async def test_openai_1x_works_in_every_form(stage: Stage, old_python: Path) -> None:
    results = await _run(old_python, "openai_1x.py", stage.url, CREDENTIAL, MODEL)
    assert results.pop("version") == OLD[0].removeprefix("openai==")
    assert results.pop("async") is True
    assert results.pop("no model") == ["NotFoundError", 404, "model_not_found", True]
    refusals = [results.pop(name) for name in list(results) if name.endswith(" refused")]
    assert refusals == [["AuthenticationError", 401, "invalid_event_token", True]] * 4
    assert list(results.values()) == [[True, True, True]] * 4


RETRIED: dict[str, list[Any]] = {
    "both at their limit for a moment": [RateLimited(retry_after_ms=700), RateLimited(retry_after_ms=900)],
    "one does not respond": [ResetBeforeHeaders(), None],
    "one fails, one is at its limit": [Failure(500), RateLimited(retry_after_ms=700)],
    "one refuses our key": [Failure(401), None],
    "both fail once": [Failure(503), CutBody()],
}


@pytest.mark.parametrize("version", ["new", "1.x"])
async def test_retries_of_the_sdk_and_of_the_proxy_together_leave_no_error(
    stage: Stage, old_python: Path, version: str
) -> None:
    """Each deployment fails once. By default, the SDK repeats a call twice."""
    models = []
    for behaviours in RETRIED.values():
        model = await stage.add_deployment()
        await stage.add_deployment(model=model, id=f"{model}-b", deployment_name=f"{model}-b", priority=2)
        for name, behaviour in zip((model, f"{model}-b"), behaviours, strict=True):
            if behaviour is not None:
                stage.simulator.behave(name, behaviour)
        models.append(model)
    # A reasoning model, which does not accept max_tokens.
    models.append(await stage.add_deployment(deployment_name=f"o3-mini-{models[0]}"))
    code = await stage.add_event(models=tuple(models))
    python = Path(sys.executable) if version == "new" else old_python
    results = await _run(python, "openai_retries.py", stage.url, f"{code}/ann", *models)
    assert results.pop("version").startswith("1.") == (version == "1.x")
    assert {name: result[:2] for name, result in results.items()} == {name: [True, True] for name in models}
    # The client has waited for the earliest recovery.
    assert results[models[0]][2] >= 0.6
