"""`manage.py deployments`: what is added was tried, and what is wrong is said in plain words."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.core.models import MANAGED_IDENTITY, Deployment, Health
from tests.admin.manage import Said, created, manage
from tests.conftest import KEY, MODEL, QUESTION, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Deployment as Simulated
from tools.simulator import Failure, Garbage, RateLimited, ResetBeforeHeaders, Simulator, WrongType


def adding(url: str, *more: str, model: str = "tried", deployment: str = "gpt-4o") -> tuple[str, ...]:
    return ("deployments", "add", model, "--endpoint", url, "--deployment", deployment, *more)


async def add(azurite: Azurite, url: str, *more: str, deployment: str = "gpt-4o", **env: str) -> Said:
    env.setdefault("SIMULATOR_KEY", KEY)
    return await manage(
        azurite, *adding(url, "--key-env", "SIMULATOR_KEY", *more, deployment=deployment), **env
    )


async def update(azurite: Azurite, *options: str, **env: str) -> Said:
    env.setdefault("SIMULATOR_KEY", KEY)
    return await manage(azurite, "deployments", "update", "tried", "gpt-4o", *options, **env)


@pytest.fixture
async def azure(tables: Tables) -> AsyncIterator[Simulator]:
    """An Azure OpenAI that knows its deployments; nothing of it stays in the tables."""
    models = {
        "gpt-4o": Simulated(),
        "o3-mini": Simulated(),
        "old": Simulated(refuses_max_completion_tokens=True),
    }
    async with Simulator(keys={KEY}, deployments=models) as running:
        yield running
    for one in await tables.deployments():
        if one.model == "tried":
            await tables.delete_deployment(one)


async def there(tables: Tables) -> list[Deployment]:
    return [one for one in await tables.deployments() if one.model == "tried"]


async def test_a_deployment_that_was_added_serves_its_model(stage: Stage, azurite: Azurite) -> None:
    added = adding(stage.simulator.url, "--key-env", "SIMULATOR_KEY", "--no-check", model="my-model")
    assert (await manage(azurite, *added)).status == 0
    assert stage.simulator.total("gpt-4o").calls == 0
    await created(azurite, "with-my-model", "--models", "my-model")
    async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as answer:
        assert answer.status == 200
    assert stage.simulator.calls[0].deployment == "gpt-4o"
    assert (await manage(azurite, "deployments", "disable", "my-model", "gpt-4o")).status == 0
    async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as answer:
        assert answer.status == 404
    assert (await manage(azurite, "deployments", "enable", "my-model", "gpt-4o")).status == 0
    async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as answer:
        assert answer.status == 200
    assert (await manage(azurite, "deployments", "delete", "my-model", "gpt-4o", "--yes")).status == 0
    await stage.tables.delete_event("with-my-model")


async def test_it_is_tried_with_one_small_call(azure: Simulator, tables: Tables, azurite: Azurite) -> None:
    said = await add(azurite, azure.url, "--prompt-price", "0.15", "--completion-price", "0.6")
    assert said.status == 0, said.errors
    (call,) = azure.calls
    assert (call.status, call.deployment) == (200, "gpt-4o")
    assert call.json["max_completion_tokens"] <= 16
    (added,) = await there(tables)
    assert (added.prompt_price, added.completion_price) == (0.15, 0.6)


async def test_the_id_of_a_deployment_that_the_log_shows_has_no_host(
    azure: Simulator, azurite: Azurite
) -> None:
    url = "https://private-name.openai.azure.com/openai/v1/"
    fields = (await manage(azurite, *adding(url, "--no-check", "--json"))).json
    assert "private-name" not in fields["id"]
    assert fields["endpoint"] == "https://private-name.openai.azure.com"


async def test_the_same_again_changes_what_is_given_and_keeps_and_tells_the_rest_whatever_its_id(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    before = Deployment("tried", "by-hand", azure.url, "gpt-4o", auth="SIMULATOR_KEY", priority=7)
    before = replace(before, prompt_price=0.15, completion_price=0.6)
    await tables.put_deployment(before)
    said = await manage(azurite, *adding(f"{azure.url.upper()}/", "--weight", "3"), SIMULATOR_KEY=KEY)
    assert said.status == 0, said.errors
    assert len(azure.calls) == 1
    assert await there(tables) == [replace(before, weight=3)]
    assert (
        "it was there already, and keeps key in SIMULATOR_KEY, priority 7, price 0.15 / 0.6." in said.errors
    )
    said = await manage(
        azurite, *adding(azure.url, "--managed-identity", "--no-check", "--completion-price", "2")
    )
    assert said.status == 0, said.errors
    assert await there(tables) == [replace(before, weight=3, auth=MANAGED_IDENTITY, completion_price=2)]


async def test_one_that_was_taken_out_stays_out_when_it_is_added_again(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url)).status == 0
    assert (await manage(azurite, "deployments", "disable", "tried", "gpt-4o")).status == 0
    said = await add(azurite, azure.url)
    (one,) = await there(tables)
    assert not one.active and "tried would be served by gpt-4o" in said.output
    assert f"it is disabled, and stays so until `deployments enable tried {one.id}`" in said.errors


async def test_two_who_add_the_same_at_once_add_one(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    options = (("--weight", "3"), ("--priority", "2"), ("--prompt-price", "1", "--completion-price", "2"))
    said = await asyncio.gather(*(add(azurite, azure.url, "--no-check", *one) for one in options))
    assert [one.status for one in said] == [0, 0, 0]
    (one,) = await there(tables)
    assert (one.weight, one.priority, one.prompt_price, one.completion_price) == (3, 2, 1.0, 2.0)


async def test_an_update_changes_what_is_named_and_nothing_else(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--priority", "2", "--weight", "80")).status == 0
    (before,) = await there(tables)
    health = Health(datetime.now(UTC).replace(microsecond=0), "ok")
    await tables.write_health(before, health)
    calls = len(azure.calls)
    said = await update(azurite, "--prompt-price", "0.15", "--completion-price", "0.6")
    assert said.status == 0, said.errors
    assert "now has price 0.15 / 0.6. It takes effect within" in said.output
    assert await there(tables) == [replace(before, prompt_price=0.15, completion_price=0.6)]
    assert (await tables.health())[before.model, before.id] == health
    assert len(azure.calls) == calls
    fields = (await update(azurite, "--completion-price", "0.7", "--json")).json
    assert (fields["prompt_price"], fields["completion_price"], fields["weight"]) == (0.15, 0.7, 80)
    assert (await update(azurite, "--no-price", "--priority", "0")).status == 0
    assert await there(tables) == [replace(before, priority=0)]
    assert "nothing is changed" in (await update(azurite, "--priority", "0")).output


async def test_updates_at_once_all_stand(azure: Simulator, tables: Tables, azurite: Azurite) -> None:
    assert (await add(azurite, azure.url)).status == 0
    options = (("--weight", "3"), ("--priority", "2"), ("--prompt-price", "1", "--completion-price", "2"))
    said = await asyncio.gather(
        *(update(azurite, *one) for one in options),
        manage(azurite, "deployments", "disable", "tried", "gpt-4o"),
    )
    assert [one.status for one in said] == [0] * 4
    (one,) = await there(tables)
    assert (one.weight, one.priority, one.prompt_price, one.active) == (3, 2, 1.0, False)


async def test_another_key_endpoint_or_version_is_tried_and_not_taken_where_it_fails(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--weight", "5")).status == 0
    (before,) = await there(tables)
    await tables.write_health(before, Health(datetime.now(UTC), "ok"))
    said = await update(azurite, "--key-env", "NEW_KEY", NEW_KEY="wrong")
    assert said.status == 2
    assert said.complaint.startswith("Error: Not changed: the key in NEW_KEY is not one of")
    said = await update(azurite, "--endpoint", "https://no-such-host.invalid")
    assert said.status == 2 and "Not changed: there is no host of the name" in said.complaint
    assert await there(tables) == [before]
    said = await update(azurite, "--key-env", "NEW_KEY", "--api-version", "2024-02-01", NEW_KEY=KEY)
    assert said.status == 0, said.errors
    changed = replace(before, auth="NEW_KEY", api_version="2024-02-01", output_field="max_tokens")
    assert await there(tables) == [changed]
    assert (before.model, before.id) not in await tables.health()
    calls = len(azure.calls)
    async with Simulator(keys={KEY}) as moved:
        assert (await update(azurite, "--endpoint", moved.url, NEW_KEY=KEY)).status == 0
        assert len(moved.calls) == 1
        assert await there(tables) == [replace(changed, endpoint=moved.url)]
    assert (await update(azurite, "--endpoint", "https://x.openai.azure.com", "--no-check")).status == 0
    assert len(azure.calls) == calls


async def test_a_new_deployment_never_takes_the_id_of_one_that_moved(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--weight", "5")).status == 0
    assert (await update(azurite, "--endpoint", "https://x.openai.azure.com", "--no-check")).status == 0
    assert (await add(azurite, azure.url)).status == 0
    moved, new = sorted(await there(tables), key=lambda one: one.id)
    assert (moved.endpoint, moved.weight) == ("https://x.openai.azure.com", 5)
    assert (new.endpoint, new.weight, new.id) == (azure.url, 1, f"{moved.id}-2")
    said = await manage(
        *(azurite, "deployments", "update", "tried", new.id),
        *("--endpoint", "https://x.openai.azure.com", "--no-check"),
    )
    assert said.status == 2 and f"serves 'tried' already, as {moved.id}" in said.complaint


@pytest.mark.parametrize(
    "pasted",
    [
        "/",
        "/openai/v1/",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview",
    ],
)
async def test_what_the_portal_shows_behind_the_endpoint_is_left_out(
    azure: Simulator, azurite: Azurite, pasted: str
) -> None:
    url = "https://x.openai.azure.com"
    assert (await manage(azurite, *adding(url + pasted, "--no-check", "--json"))).json["endpoint"] == url


async def test_who_takes_the_last_deployment_of_a_model_out_is_told(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url)).status == 0
    assert (await add(azurite, azure.url, deployment="old")).status == 0
    assert (
        "nothing else serves" not in (await manage(azurite, "deployments", "disable", "tried", "old")).errors
    )
    last = ("deployments", "disable", "tried", "gpt-4o")
    assert "nothing else serves tried" in (await manage(azurite, *last)).errors


@pytest.mark.parametrize(
    ("deployment", "options", "field"),
    [
        ("o3-mini", ("--api-version", "2024-02-01"), "max_completion_tokens"),
        ("old", (), "max_tokens"),
        ("gpt-4o", ("--api-version", "2024-02-01"), "max_tokens"),
    ],
)
async def test_the_field_of_the_output_cap_is_found_out(
    azure: Simulator, tables: Tables, azurite: Azurite, deployment: str, options: tuple[str, ...], field: str
) -> None:
    said = await add(azurite, azure.url, *options, deployment=deployment)
    assert said.status == 0, said.errors
    assert (await there(tables))[0].output_field == field


async def test_a_reasoning_model_that_refuses_the_named_field_is_told(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    said = await add(azurite, azure.url, "--output-field", "max_tokens", deployment="o3-mini")
    assert said.status == 2
    assert "reasoning models" in said.complaint and "--output-field max_completion_tokens" in said.complaint
    assert await there(tables) == []


def refusal(status: int, code: str, message: str) -> Failure:
    return Failure(status, json.dumps({"error": {"code": code, "message": message}}).encode())


TROUBLE = {
    "role not granted": (
        refusal(401, "PermissionDenied", "The principal lacks the required data action"),
        "is not one of",
    ),
    "keys are off": (
        refusal(403, "AuthenticationTypeDisabled", "Key based authentication is disabled for this resource."),
        "use --managed-identity",
    ),
    "firewall": (refusal(403, "403", "Access denied due to Virtual Network/Firewall rules."), "firewall"),
    "version": (refusal(404, "404", "Resource not found"), "Is it"),
    "old version": (refusal(400, "BadRequest", "API version not supported"), "v1 form"),
    "failing": (Failure(500), "it answered 500"),
    "garbage": (Garbage(), "is not Azure OpenAI"),
    "a page": (WrongType(), "is not Azure OpenAI"),
    "hung up": (ResetBeforeHeaders(), "ended the connection"),
}


@pytest.mark.parametrize(("behaviour", "told"), TROUBLE.values(), ids=TROUBLE)
async def test_what_does_not_work_is_not_added_and_told_in_plain_words(
    azure: Simulator, tables: Tables, azurite: Azurite, behaviour: Any, told: str
) -> None:
    azure.always("gpt-4o", behaviour)
    said = await add(azurite, azure.url)
    assert (said.status, said.output) == (2, "")
    assert said.complaint.startswith("Error: Not added: ") and told.lower() in said.complaint.lower()
    assert await there(tables) == []


async def test_wrong_key_wrong_name_and_wrong_version_are_told_apart(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    said = await add(azurite, azure.url, SIMULATOR_KEY="another")
    assert "the key in SIMULATOR_KEY is not one of" in said.complaint
    said = await add(azurite, azure.url, SIMULATOR_KEY="pasted\ntwice")
    assert "cannot be a key" in said.complaint
    said = await add(azurite, azure.url, deployment="no-such")
    assert "there is no deployment 'no-such'" in said.complaint
    azure.always("gpt-4o", refusal(404, "404", "Resource not found"))
    said = await add(azurite, azure.url, "--api-version", "2030-01-01")
    assert "does not know the API version 2030-01-01" in said.complaint
    assert await there(tables) == []


async def test_a_network_that_fails_is_told(azurite: Azurite, tables: Tables) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "cannot be reached from here" in (await add(azurite, url)).complaint
    said = await add(azurite, "https://no-such-host.invalid")
    assert "there is no host of the name" in said.complaint
    assert await there(tables) == []


async def test_a_busy_deployment_is_there(azure: Simulator, tables: Tables, azurite: Azurite) -> None:
    azure.always("gpt-4o", RateLimited())
    said = await add(azurite, azure.url)
    assert said.status == 0 and "busy just now" in said.output
    assert len(await there(tables)) == 1


async def test_a_model_that_thinks_longer_than_the_trial_allows_is_there(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    told = "Could not finish the message because max_tokens or model output limit was reached."
    azure.always("o3-mini", refusal(400, "invalid_request_error", told))
    assert (await add(azurite, azure.url, deployment="o3-mini")).status == 0
    assert len(await there(tables)) == 1


async def test_without_its_key_at_hand_it_is_added_and_said_not_to_be_tried(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    said = await manage(azurite, *adding(azure.url, "--key-env", "KEY_IN_THE_CLOUD"))
    assert said.status == 0
    assert "it was not tried: its key is in the app's setting KEY_IN_THE_CLOUD" in said.errors
    assert azure.calls == () and len(await there(tables)) == 1


@asynccontextmanager
async def signed_in(token: str) -> AsyncIterator[dict[str, str]]:
    """The environment of somebody whom Azure knows: the platform's endpoint for identities gives `token`."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        until = str(int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
        body = json.dumps(
            {"access_token": token, "expires_on": until, "resource": "x", "token_type": "Bearer"}
        )
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(give, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{port}/token", "IDENTITY_HEADER": "secret"}


async def test_a_keyless_deployment_is_tried_with_the_administrators_own_sign_in(
    tables: Tables, azurite: Azurite
) -> None:
    async with Simulator(bearers={"right"}) as azure:
        async with signed_in("wrong") as environment:
            said = await manage(azurite, *adding(azure.url), **environment)
        assert said.status == 2
        assert "Cognitive Services OpenAI User" in said.complaint and "--no-check" in said.complaint
        assert await there(tables) == []
        async with signed_in("right") as environment:
            said = await manage(azurite, *adding(azure.url), **environment)
        assert said.status == 0, said.errors
        (added,) = await there(tables)
        await tables.delete_deployment(added)


async def test_the_list_shows_how_each_was_last_seen(tables: Tables, azurite: Azurite) -> None:
    seen = [
        Deployment("seen", "busy", "https://busy.openai.azure.com", "gpt-4o", priority=2, weight=3),
        Deployment(
            "seen", "new", "https://new.openai.azure.com", "gpt-4o", prompt_price=0.15, completion_price=0.6
        ),
    ]
    for one in seen:
        await tables.put_deployment(one)
    now = datetime.now(UTC)
    await tables.write_health(seen[0], Health(now - timedelta(minutes=3), "429", now + timedelta(minutes=1)))
    listed = (await manage(azurite, "deployments", "list", "--json")).json
    busy, new = (next(one for one in listed if one["id"] == name) for name in ("busy", "new"))
    assert (busy["health"]["status"], busy["priority"], busy["weight"]) == ("429", 2, 3)
    assert new["health"] is None
    output = (await manage(azurite, "deployments", "list")).output
    lines = [line for line in output.splitlines() if line.split()[:1] == ["seen"]]
    (busy_line,) = (line for line in lines if "busy.openai" in line)
    (new_line,) = (line for line in lines if "new.openai" in line)
    assert "429, 3 min ago, cooling down" in busy_line
    assert "0.15 / 0.6" in new_line and new_line.rstrip().endswith("no call yet")
    await _remove(tables, seen)


async def test_one_of_several_of_the_same_name_is_switched_and_its_health_stays(
    tables: Tables, azurite: Azurite
) -> None:
    both = [
        Deployment("switched", f"id-{place}", f"https://{place}.openai.azure.com", "gpt-4o")
        for place in ("east", "west")
    ]
    for one in both:
        await tables.put_deployment(one)
    health = Health(datetime.now(UTC).replace(microsecond=0), "ok")
    await tables.write_health(both[1], health)
    said = await manage(azurite, "deployments", "disable", "switched", "gpt-4o")
    assert said.status == 2 and "id-east" in said.complaint and "id-west" in said.complaint
    assert (await manage(azurite, "deployments", "disable", "switched", "id-west")).status == 0
    there = {one.id: one for one in await tables.deployments() if one.model == "switched"}
    assert there == {"id-east": both[0], "id-west": replace(both[1], active=False)}
    assert (await tables.health())["switched", "id-west"] == health
    said = await manage(azurite, "deployments", "delete", "switched", "id-east", "--json")
    assert (said.status, said.output) == (2, "")
    await _remove(tables, both)


async def _remove(tables: Tables, deployments: list[Deployment]) -> None:
    for one in deployments:
        await tables.delete_deployment(one)


NAMED = ("deployments", "add", "m", "--deployment", "d", "--endpoint")
WRONG = {
    "key instead of a setting": (
        (*NAMED, "https://x.openai.azure.com", "--key-env", "not a setting!"),
        "never the key itself",
    ),
    "setting of the app": (
        (*NAMED, "https://x.openai.azure.com", "--key-env", "PROXY_TABLES"),
        "the app's own",
    ),
    "no setting": ((*NAMED, "https://x.openai.azure.com", "--key-env", ""), "the name of the setting"),
    "plain http": ((*NAMED, "http://x.openai.azure.com"), "https address"),
    "no address": ((*NAMED, "x.openai.azure.com"), "https address"),
    "address with a secret": (
        (*NAMED, "https://a:b@x.openai.azure.com"),
        "the address of the resource alone",
    ),
    "key and identity": (
        (*NAMED, "https://x.openai.azure.com", "--key-env", "K", "--managed-identity"),
        "not both",
    ),
    "no version": ((*NAMED, "https://x.openai.azure.com", "--api-version", "latest"), "--api-version"),
    "half a price": ((*NAMED, "https://x.openai.azure.com", "--prompt-price", "1"), "together"),
    "no number for a price": (
        (*NAMED, "https://x.openai.azure.com", "--prompt-price", "nan", "--completion-price", "1"),
        "is not from 0 to 1,000,000",
    ),
    "negative price": ((*NAMED, "https://x.openai.azure.com", "--prompt-price", "-1"), "--prompt-price"),
    "price with a comma": (
        (*NAMED, "https://x.openai.azure.com", "--prompt-price", "0,15", "--completion-price", "1"),
        "'0,15' is not a number, such as 0.15",
    ),
    "priority in words": ((*NAMED, "https://x.openai.azure.com", "--priority", "high"), "a whole number"),
    "model with a slash": (
        ("deployments", "add", "a/b", "--deployment", "d", "--endpoint", "https://x.openai.azure.com"),
        "'a/b' cannot be a model's name: 1 to 64 letters",
    ),
    "no name": (
        ("deployments", "add", "m", "--deployment", "", "--endpoint", "https://x.openai.azure.com"),
        "'' cannot be a deployment's name",
    ),
    "host with a space": ((*NAMED, "https://my x.openai.azure.com"), "https address"),
    "key that could be a name": (
        (*NAMED, "https://x.openai.azure.com", "--key-env", "abcdef0123456789abcdef0123456789"),
        "never the key itself",
    ),
    "no change": (("deployments", "update", "m", "d"), "nothing to change"),
    "update of none": (("deployments", "update", "m", "d", "--weight", "2"), "deployments list"),
    "half a price by update": (
        ("deployments", "update", MODEL, MODEL, "--prompt-price", "1"),
        "together, or neither",
    ),
    "price and none": (
        ("deployments", "update", MODEL, MODEL, "--completion-price", "1", "--no-price"),
        "--completion-price or --no-price, not both",
    ),
    "unknown deployment": (("deployments", "disable", "m", "no-such"), "deployments list"),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
async def test_wrong_input_is_one_sentence_and_status_2_and_changes_nothing(
    tables: Tables, azurite: Azurite, arguments: tuple[str, ...], told: str
) -> None:
    before = await tables.deployments()
    said = await manage(azurite, *arguments)
    assert (said.status, said.output) == (2, "")
    assert told in said.complaint
    assert await tables.deployments() == before
