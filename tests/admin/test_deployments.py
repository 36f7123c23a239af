"""`manage.py deployments`: what it stores, changes and lists."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from shared.core.models import MANAGED_IDENTITY, Deployment, Health
from tests.admin.deployments import add, adding, delete, stored, update
from tests.admin.manage import create_event, manage
from tests.conftest import KEY, QUESTION, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Simulator

MOVED = "https://x.openai.azure.com"
DIFFERENT_OPTIONS = (
    ("--weight", "3"),
    ("--priority", "2"),
    ("--prompt-price", "1", "--completion-price", "2"),
)


async def test_the_app_follows_add_disable_enable_and_delete(stage: Stage, azurite: Azurite) -> None:
    command = adding(stage.simulator.url, "--key-env", "SIMULATOR_KEY", "--no-check", model="my-model")
    assert (await manage(azurite, *command)).status == 0
    assert stage.simulator.total("gpt-4o").calls == 0
    await create_event(azurite, "with-my-model", "--models", "my-model")

    async def status() -> int:
        async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as response:
            return response.status

    assert await status() == 200
    assert stage.simulator.calls[0].deployment == "gpt-4o"
    assert (await manage(azurite, "deployments", "disable", "my-model", "gpt-4o")).status == 0
    assert await status() == 404
    assert (await manage(azurite, "deployments", "enable", "my-model", "gpt-4o")).status == 0
    assert await status() == 200
    assert (await manage(azurite, "deployments", "delete", "my-model", "gpt-4o", "--yes")).status == 0
    await stage.tables.delete_event("with-my-model")


@pytest.mark.usefixtures("azure")
async def test_the_id_does_not_contain_the_host(azurite: Azurite) -> None:
    url = "https://private-name.openai.azure.com/openai/v1/"
    fields = (await manage(azurite, *adding(url, "--no-check", "--json"))).json
    assert "private-name" not in fields["id"]
    assert fields["endpoint"] == "https://private-name.openai.azure.com"


async def test_adding_again_changes_the_given_options_and_notes_what_it_keeps(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    before = Deployment("tried", "by-hand", azure.url, "gpt-4o", auth="SIMULATOR_KEY", priority=7)
    before = replace(before, prompt_price=Decimal("0.15"), completion_price=Decimal("0.6"))
    await tables.put_deployment(before)
    result = await manage(azurite, *adding(f"{azure.url.upper()}/", "--weight", "3"), SIMULATOR_KEY=KEY)
    assert result.status == 0, result.errors
    assert len(azure.calls) == 1
    assert await stored(tables) == [replace(before, weight=3)]
    kept = "It keeps key in SIMULATOR_KEY, priority 7, price 0.15 / 0.6."
    assert f"The deployment was added before. {kept}" in result.output
    options = ("--managed-identity", "--no-check", "--completion-price", "2")
    result = await manage(azurite, *adding(azure.url, *options))
    assert result.status == 0, result.errors
    assert await stored(tables) == [
        replace(before, weight=3, auth=MANAGED_IDENTITY, completion_price=Decimal("2"))
    ]


async def test_adding_a_disabled_deployment_again_keeps_it_disabled(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url)).status == 0
    assert (await manage(azurite, "deployments", "disable", "tried", "gpt-4o")).status == 0
    result = await add(azurite, azure.url)
    (one,) = await stored(tables)
    assert not one.active and "Updated deployment 'gpt-4o'" in result.output
    note = f"The deployment is disabled. To enable it, use `deployments enable tried {one.id}`."
    assert note in result.output


async def test_simultaneous_adds_of_one_deployment_add_one(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    adds = (add(azurite, azure.url, "--no-check", *options) for options in DIFFERENT_OPTIONS)
    assert [result.status for result in await asyncio.gather(*adds)] == [0, 0, 0]
    (one,) = await stored(tables)
    assert (one.weight, one.priority, one.prompt_price, one.completion_price) == (
        3,
        2,
        Decimal(1),
        Decimal(2),
    )


async def test_update_changes_only_the_given_options(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--priority", "2", "--weight", "80")).status == 0
    (before,) = await stored(tables)
    health = Health(datetime.now(UTC).replace(microsecond=0), "ok")
    await tables.write_health(before, health)
    calls = len(azure.calls)
    result = await update(azurite, "--prompt-price", "0.15", "--completion-price", "0.6")
    assert result.status == 0, result.errors
    assert ": price 0.15 / 0.6. The change takes effect within 30 seconds." in result.output
    assert await stored(tables) == [
        replace(before, prompt_price=Decimal("0.15"), completion_price=Decimal("0.6"))
    ]
    assert (await tables.health())[before.model, before.id] == health
    assert len(azure.calls) == calls
    fields = (await update(azurite, "--completion-price", "0.7", "--json")).json
    assert (fields["prompt_price"], fields["completion_price"], fields["weight"]) == (0.15, 0.7, 80)
    assert (await update(azurite, "--no-price", "--priority", "0")).status == 0
    assert await stored(tables) == [replace(before, priority=0)]
    assert "is unchanged" in (await update(azurite, "--priority", "0")).output


async def test_simultaneous_updates_all_take_effect(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url)).status == 0
    results = await asyncio.gather(
        *(update(azurite, *options) for options in DIFFERENT_OPTIONS),
        manage(azurite, "deployments", "disable", "tried", "gpt-4o"),
    )
    assert [result.status for result in results] == [0] * 4
    (one,) = await stored(tables)
    assert (one.weight, one.priority, one.prompt_price, one.active) == (3, 2, Decimal(1), False)


async def test_a_new_key_endpoint_or_version_is_tested_and_not_stored_if_it_fails(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--weight", "5")).status == 0
    (before,) = await stored(tables)
    await tables.write_health(before, Health(datetime.now(UTC), "ok"))
    result = await update(azurite, "--key-env", "NEW_KEY", NEW_KEY="wrong")
    assert result.status == 2
    assert result.error.startswith(f"Error: Not changed: {azure.url} does not accept the key in NEW_KEY.")
    result = await update(azurite, "--endpoint", "https://no-such-host.invalid")
    assert result.status == 2 and "Not changed: cannot find the host no-such-host.invalid" in result.error
    assert await stored(tables) == [before]
    result = await update(azurite, "--key-env", "NEW_KEY", "--api-version", "2024-02-01", NEW_KEY=KEY)
    assert result.status == 0, result.errors
    changed = replace(before, auth="NEW_KEY", api_version="2024-02-01", output_field="max_tokens")
    assert await stored(tables) == [changed]
    assert (before.model, before.id) not in await tables.health()
    calls = len(azure.calls)
    async with Simulator(keys={KEY}) as moved:
        assert (await update(azurite, "--endpoint", moved.url, NEW_KEY=KEY)).status == 0
        assert len(moved.calls) == 1
        assert await stored(tables) == [replace(changed, endpoint=moved.url)]
    assert (await update(azurite, "--endpoint", MOVED, "--no-check")).status == 0
    assert len(azure.calls) == calls


async def test_a_new_deployment_does_not_take_the_id_of_one_that_moved(
    azure: Simulator, tables: Tables, azurite: Azurite
) -> None:
    assert (await add(azurite, azure.url, "--weight", "5")).status == 0
    assert (await update(azurite, "--endpoint", MOVED, "--no-check")).status == 0
    assert (await add(azurite, azure.url)).status == 0
    moved, new = sorted(await stored(tables), key=lambda one: one.id)
    assert (moved.endpoint, moved.weight) == (MOVED, 5)
    assert (new.endpoint, new.weight, new.id) == (azure.url, 1, f"{moved.id}-2")
    command = ("deployments", "update", "tried", new.id, "--endpoint", MOVED, "--no-check")
    result = await manage(azurite, *command)
    assert result.status == 2
    assert f"already serves 'tried'. Change that one: its id is {moved.id}." in result.error


@pytest.mark.parametrize(
    "pasted",
    ["/", "/openai/v1/", "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview"],
)
@pytest.mark.usefixtures("azure")
async def test_a_path_pasted_from_the_portal_is_removed(azurite: Azurite, pasted: str) -> None:
    result = await manage(azurite, *adding(MOVED + pasted, "--no-check", "--json"))
    assert result.json["endpoint"] == MOVED


async def test_disabling_the_last_deployment_of_a_model_is_noted(azure: Simulator, azurite: Azurite) -> None:
    assert (await add(azurite, azure.url)).status == 0
    assert (await add(azurite, azure.url, deployment="old")).status == 0
    assert "Note" not in (await manage(azurite, "deployments", "disable", "tried", "old")).output
    result = await manage(azurite, "deployments", "disable", "tried", "gpt-4o")
    assert "No active deployment serves 'tried' now" in result.output


async def test_list_shows_when_each_deployment_was_last_seen(tables: Tables, azurite: Azurite) -> None:
    busy = Deployment("seen", "busy", "https://busy.openai.azure.com", "gpt-4o", priority=2, weight=3)
    new = Deployment("seen", "new", "https://new.openai.azure.com", "gpt-4o")
    new = replace(new, prompt_price=Decimal("0.15"), completion_price=Decimal("0.6"))
    for one in (busy, new):
        await tables.put_deployment(one)
    now = datetime.now(UTC)
    await tables.write_health(busy, Health(now - timedelta(minutes=3), "429", now + timedelta(minutes=1)))
    fields = {one["id"]: one for one in (await manage(azurite, "deployments", "list", "--json")).json}
    assert (fields["busy"]["health"]["status"], fields["busy"]["priority"]) == ("429", 2)
    assert (fields["busy"]["weight"], fields["new"]["health"]) == (3, None)
    output = (await manage(azurite, "deployments", "list")).output
    lines = [line for line in output.splitlines() if line.split()[:1] == ["seen"]]
    (busy_line,) = (line for line in lines if "busy.openai" in line)
    (new_line,) = (line for line in lines if "new.openai" in line)
    assert "429, 3 min ago, cooling down" in busy_line
    assert "0.15 / 0.6" in new_line and new_line.rstrip().endswith("not used yet")
    await delete(tables, "seen")


async def test_an_id_chooses_among_deployments_of_the_same_name(tables: Tables, azurite: Azurite) -> None:
    both = [
        Deployment("switched", f"id-{place}", f"https://{place}.openai.azure.com", "gpt-4o")
        for place in ("east", "west")
    ]
    for one in both:
        await tables.put_deployment(one)
    health = Health(datetime.now(UTC).replace(microsecond=0), "ok")
    await tables.write_health(both[1], health)
    result = await manage(azurite, "deployments", "disable", "switched", "gpt-4o")
    assert result.status == 2 and "id-east" in result.error and "id-west" in result.error
    assert (await manage(azurite, "deployments", "disable", "switched", "id-west")).status == 0
    rows = {one.id: one for one in await stored(tables, "switched")}
    assert rows == {"id-east": both[0], "id-west": replace(both[1], active=False)}
    assert (await tables.health())["switched", "id-west"] == health
    result = await manage(azurite, "deployments", "delete", "switched", "id-east", "--json")
    assert (result.status, result.output) == (2, "")  # not confirmed
    assert len(await stored(tables, "switched")) == 2
    await delete(tables, "switched")
