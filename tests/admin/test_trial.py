"""The test request of `manage.py deployments add`, and the message when it fails."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.admin.deployments import add, adding, delete, stored
from tests.admin.manage import json_response, manage, serve_bytes
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Failure, Garbage, RateLimited, ResetBeforeHeaders, Simulator, WrongType


async def test_add_sends_one_small_request(azure: Simulator, tables: Tables, azurite: Azurite) -> None:
    result = await add(azurite, azure.url, "--prompt-price", "0.15", "--completion-price", "0.6")
    assert result.status == 0, result.errors
    (call,) = azure.calls
    assert (call.status, call.deployment) == (200, "gpt-4o")
    assert call.json["max_completion_tokens"] <= 16
    (added,) = await stored(tables)
    assert (added.prompt_price, added.completion_price) == (0.15, 0.6)


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
    result = await add(azurite, "https://no-such-host.invalid")
    assert "cannot find the host of https://no-such-host.invalid" in result.error
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
    assert "was not tested: the setting KEY_IN_THE_CLOUD is not set here." in result.errors
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
