"""The test request of `manage.py deployments add`, and the message when it fails."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.admin.deployments import add, adding, delete, stored, update
from tests.admin.manage import json_response, manage, serve_bytes
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Failure, Garbage, RateLimited, ResetBeforeHeaders, Simulator, WrongType


def sent(azure: Simulator) -> list[tuple[str, int | None]]:
    """The API and the status of each request."""
    paths = {"completions": "chat", "generations": "images"}
    return [(paths.get(name := call.path.rpartition("/")[2], name), call.status) for call in azure.calls]


async def test_add_sends_one_small_request_and_one_that_costs_nothing(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    result = await add(azurite, azure.url, "--prompt-price", "0.15", "--completion-price", "0.6")
    assert result.status == 0, result.errors
    assert "it works with max_completion_tokens, for chat completions and the Responses API." in result.output
    assert sent(azure) == [("chat", 200), ("responses", 400)]
    assert azure.calls[0].json["max_completion_tokens"] <= 16
    (added,) = await stored(tables)
    assert (added.prompt_price, added.completion_price) == (Decimal("0.15"), Decimal("0.6"))
    assert added.apis == ("chat", "responses")


@pytest.mark.parametrize(
    ("deployment", "options", "apis", "requests"),
    [
        ("text-embedding-3-small", (), ("embeddings",), [("embeddings", 200)]),
        ("gpt-image-1", (), ("images",), [("images", 400)]),
        ("vectors", (), ("embeddings",), [("chat", 400), ("responses", 400), ("embeddings", 200)]),
        (
            "pictures",
            (),
            ("images",),
            [("chat", 400), ("responses", 400), ("embeddings", 400), ("images", 400)],
        ),
        ("codex", (), ("responses",), [("chat", 400), ("responses", 400)]),
        ("old", (), ("chat",), [("chat", 400), ("chat", 200), ("responses", 400)]),
        ("gpt-4o", ("--apis", "chat"), ("chat",), [("chat", 200)]),
        ("vectors", ("--apis", "embeddings"), ("embeddings",), [("embeddings", 200)]),
        ("images-by-name-only", (), ("chat",), [("images", 400), ("chat", 200), ("responses", 400)]),
    ],
)
async def test_add_finds_out_what_a_deployment_serves_and_makes_no_picture(
    azure: Simulator,
    tables: Tables,
    azurite: Azurite,
    deployment: str,
    options: tuple[str, ...],
    apis: tuple[str, ...],
    requests: list[tuple[str, int]],
) -> None:
    result = await add(azurite, azure.url, *options, deployment=deployment)
    assert result.status == 0, result.errors
    assert (await stored(tables))[0].apis == apis
    assert sent(azure) == requests
    assert azure.total("pictures").completion_tokens == azure.total("gpt-image-1").completion_tokens == 0


async def test_an_api_that_is_named_but_not_served_is_an_error(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    result = await add(azurite, azure.url, "--apis", "chat,embeddings")
    assert result.status == 2
    assert "gpt-4o does not serve embeddings. Use --apis with those that it serves." in result.error
    result = await add(azurite, azure.url, deployment="nothing")
    assert "nothing serves none of chat, responses, embeddings, images." in result.error
    assert await stored(tables) == []


async def test_without_a_test_the_name_says_what_a_deployment_serves(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    for deployment, apis in {"text-embedding-3-small": ("embeddings",), "o3": ("chat", "responses")}.items():
        result = await add(azurite, azure.url, "--no-check", deployment=deployment)
        assert result.status == 0, result.errors
        assert {one.deployment_name: one.apis for one in await stored(tables)}[deployment] == apis
    assert azure.calls == ()


async def test_apis_stay_until_they_are_named_and_are_tested_when_they_change(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    await add(azurite, azure.url, "--apis", "chat")
    assert (await add(azurite, azure.url, "--weight", "2")).status == 0
    assert (await stored(tables))[0].apis == ("chat",)
    result = await update(azurite, "--apis", "images")
    assert result.status == 2 and "gpt-4o does not serve images" in result.error
    result = await update(azurite, "--apis", "Responses, chat")
    assert "Updated deployment 'gpt-4o' of model 'tried': APIs chat, responses." in result.output
    assert (await stored(tables))[0].apis == ("chat", "responses")
    listed = await manage(azurite, "deployments", "list")
    assert "chat, responses" in listed.output


@pytest.mark.parametrize(
    ("deployment", "options", "field"),
    [
        ("o3-mini", ("--api-version", "2024-02-01"), "max_completion_tokens"),
        ("old", (), "max_tokens"),
        ("gpt-4o", ("--api-version", "2024-02-01"), "max_tokens"),
    ],
)
async def test_add_finds_the_field_for_the_output_limit(
    azure: Simulator, tables: Tables, azurite: Azurite, deployment: str, options: tuple[str, ...], field: str
) -> None:
    result = await add(azurite, azure.url, *options, deployment=deployment)
    assert result.status == 0, result.errors
    assert (await stored(tables))[0].output_field == field


async def test_an_output_field_that_the_model_refuses_is_an_error(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    result = await add(azurite, azure.url, "--output-field", "max_tokens", deployment="o3-mini")
    assert result.status == 2
    assert "reasoning models" in result.error and "--output-field max_completion_tokens" in result.error
    assert await stored(tables) == []


def refusal(status: int, code: str, message: str) -> Failure:
    return Failure(status, json.dumps({"error": {"code": code, "message": message}}).encode())


FAILURES = {
    "role not granted": (
        refusal(401, "PermissionDenied", "The principal lacks the required data action"),
        "does not accept the key",
    ),
    "keys are off": (
        refusal(403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource."),
        "use --managed-identity",
    ),
    "firewall": (refusal(403, "403", "Access denied due to Virtual Network/Firewall rules."), "firewall"),
    "version": (refusal(404, "404", "Resource not found"), "Check that it is an Azure OpenAI endpoint"),
    "old version": (refusal(400, "BadRequest", "API version not supported"), "v1 API"),
    "failing": (Failure(500), "returned 500"),
    "garbage": (Garbage(), "is not an Azure OpenAI resource"),
    "a page": (WrongType(), "is not an Azure OpenAI resource"),
    "closed": (ResetBeforeHeaders(), "closed the connection"),
}


@pytest.mark.parametrize(("behaviour", "text"), FAILURES.values(), ids=FAILURES)
async def test_a_deployment_that_fails_is_not_added(
    azure: Simulator, tables: Tables, azurite: Azurite, behaviour: Any, text: str
) -> None:
    azure.always("gpt-4o", behaviour)
    result = await add(azurite, azure.url)
    assert (result.status, result.output) == (2, "")
    assert result.error.startswith("Error: Not added: ") and text.lower() in result.error.lower()
    assert await stored(tables) == []


async def test_a_wrong_key_name_and_version_have_different_errors(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    result = await add(azurite, azure.url, SIMULATOR_KEY="another")
    assert "does not accept the key in SIMULATOR_KEY" in result.error
    result = await add(azurite, azure.url, SIMULATOR_KEY="pasted\ntwice")
    assert "is not a valid key" in result.error
    result = await add(azurite, azure.url, deployment="no-such")
    assert "there is no deployment 'no-such'" in result.error
    azure.always("gpt-4o", refusal(404, "404", "Resource not found"))
    result = await add(azurite, azure.url, "--api-version", "2030-01-01")
    assert "does not know the API version 2030-01-01" in result.error
    assert await stored(tables) == []


async def test_an_unreachable_endpoint_is_an_error(azurite: Azurite, tables: Tables) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert f"cannot connect to {url}" in (await add(azurite, url)).error
    assert await stored(tables) == []


async def test_a_busy_deployment_is_added(azure: Simulator, tables: Tables, azurite: Azurite) -> None:
    azure.always("gpt-4o", RateLimited())
    result = await add(azurite, azure.url)
    assert result.status == 0 and "busy now" in result.output
    assert len(await stored(tables)) == 1


async def test_a_model_that_thinks_longer_than_the_test_allows_is_added(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    message = "Could not finish the message because max_tokens or model output limit was reached."
    azure.always("o3-mini", refusal(400, "invalid_request_error", message))
    assert (await add(azurite, azure.url, deployment="o3-mini")).status == 0
    assert len(await stored(tables)) == 1


async def test_a_deployment_whose_key_is_not_set_here_is_added_untested(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    result = await manage(azurite, *adding(azure.url, "--key-env", "KEY_IN_THE_CLOUD"))
    assert result.status == 0
    assert "was not tested: the setting KEY_IN_THE_CLOUD is not set here." in result.output
    assert azure.calls == () and len(await stored(tables)) == 1


def token_response(token: str) -> bytes:
    """The response of the platform's endpoint for identities."""
    expires = str(int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
    fields = {"access_token": token, "expires_on": expires, "resource": "x", "token_type": "Bearer"}
    return json_response(200, fields)


async def test_a_keyless_deployment_is_tested_with_the_administrators_sign_in(
    tables: Tables, azurite: Azurite
) -> None:
    async with Simulator(bearers={"right"}) as azure:
        async with serve_bytes(token_response("wrong")) as url:
            identity = {"IDENTITY_ENDPOINT": f"{url}/token", "IDENTITY_HEADER": "secret"}
            result = await manage(azurite, *adding(azure.url), **identity)
        assert result.status == 2
        assert "Cognitive Services OpenAI User" in result.error and "--no-check" in result.error
        assert await stored(tables) == []
        async with serve_bytes(token_response("right")) as url:
            identity = {"IDENTITY_ENDPOINT": f"{url}/token", "IDENTITY_HEADER": "secret"}
            result = await manage(azurite, *adding(azure.url), **identity)
        assert result.status == 0, result.errors
        assert len(await stored(tables)) == 1
    await delete(tables)


@pytest.mark.parametrize(
    "auth", [("--managed-identity",), ("--key-env", "NOT_SET"), ("--key-env", "SIMULATOR_KEY")]
)
@pytest.mark.usefixtures("azure")
async def test_a_host_that_cannot_be_found_is_not_added_without_no_check(
    tables: Tables, azurite: Azurite, auth: tuple[str, ...]
) -> None:
    """Also where nothing can be sent, because there is no key or sign-in."""
    command = adding("https://no-such-host.invalid", *auth)
    result = await manage(azurite, *command, SIMULATOR_KEY="key")
    assert (result.status, result.output) == (2, "")
    assert "Not added: cannot find the host no-such-host.invalid." in result.error
    assert "--no-check" in result.error
    assert await stored(tables) == []
    assert (await manage(azurite, *command, "--no-check")).status == 0
    result = await manage(
        azurite, "deployments", "update", "tried", "gpt-4o", "--endpoint", "https://other.invalid"
    )
    assert result.status == 2 and "Not changed: cannot find the host other.invalid." in result.error
