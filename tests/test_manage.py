"""The administrator's command line, as a program, on real tables."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MODEL, QUESTION, Stage
from tools.azurite import Azurite

ROOT = Path(__file__).parent.parent
DATES = ("--starts", "2026-01-01", "--ends", "2036-01-01 18:00", "--time-zone", "Europe/Berlin")


async def manage(azurite: Azurite | None, *arguments: str, **more: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PROXY_")} | more
    if azurite is not None:
        environment["PROXY_TABLES"] = azurite.connection_string
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "manage.py"), *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def create(azurite: Azurite, code: str, *more: str) -> dict[str, Any]:
    status, output, errors = await manage(
        azurite, "events", "create", code, "--name", "A hack", *DATES, "--json", *more
    )
    assert status == 0, errors
    fields: dict[str, Any] = json.loads(output)
    return fields


async def test_an_event_that_was_created_is_open_to_attendees(stage: Stage, azurite: Azurite) -> None:
    fields = await create(azurite, "Winter-Hack", "--models", MODEL, "--max-output-tokens", "7")
    assert (fields["code"], fields["default_model"]) == ("winter-hack", MODEL)
    assert fields["starts_at"] == "2025-12-31T23:00:00+00:00"
    async with stage.post(headers={"api-key": "winter-hack/ann"}, json=QUESTION) as answer:
        assert (answer.status, answer.headers["x-event-max-output-tokens"]) == (200, "7")


async def test_a_deployment_that_was_added_serves_its_model(stage: Stage, azurite: Azurite) -> None:
    added = ("deployments", "add", "my-model", "--endpoint", stage.simulator.url, "--deployment", "gpt-4o")
    assert (await manage(azurite, *added, "--key-env", "SIMULATOR_KEY", "--no-check"))[0] == 0
    await create(azurite, "with-my-model", "--models", "my-model")
    async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as answer:
        assert answer.status == 200
    assert stage.simulator.calls[0].deployment == "gpt-4o"
    assert (await manage(azurite, "deployments", "disable", "my-model", "gpt-4o"))[0] == 0
    async with stage.post(headers={"api-key": "with-my-model/ann"}, json=QUESTION) as answer:
        assert answer.status == 404
    assert (await manage(azurite, "deployments", "delete", "my-model", "gpt-4o", "--yes"))[0] == 0


async def test_the_id_of_a_deployment_that_the_log_shows_has_no_host(azurite: Azurite) -> None:
    added = ("deployments", "add", "some-model", "--endpoint", "https://private-name.openai.azure.com")
    status, output, errors = await manage(azurite, *added, "--deployment", "gpt-4o", "--no-check", "--json")
    assert status == 0, errors
    assert "private-name" not in json.loads(output)["id"]
    assert (await manage(azurite, "deployments", "delete", "some-model", "gpt-4o", "--yes"))[0] == 0


async def test_an_event_is_changed_stopped_resumed_and_removed(stage: Stage, azurite: Azurite) -> None:
    await create(azurite, "changing", "--models", MODEL, "--requests-per-day", "5")

    async def status() -> int:
        async with stage.post(headers={"api-key": "changing/ann"}, json=QUESTION) as answer:
            return answer.status

    assert await status() == 200
    assert (await manage(azurite, "events", "update", "changing", "--requests-per-day", "0"))[0] == 0
    assert await status() == 429
    assert (await manage(azurite, "events", "update", "changing", "--no-limit", "requests-per-day"))[0] == 0
    assert await status() == 200
    assert (await manage(azurite, "events", "stop", "changing"))[0] == 0
    assert await status() == 403
    assert (await manage(azurite, "events", "update", "changing", "--resume"))[0] == 0
    assert await status() == 200
    assert (await manage(azurite, "events", "delete", "changing", "--yes"))[0] == 0
    assert await status() == 401


WRONG = {
    "unknown zone": ("events", "create", "x", "--name", "n", *DATES[:5], "Mars/Base"),
    "end before start": (
        "events",
        "create",
        "x",
        "--name",
        "n",
        "--starts",
        "2026-02-02",
        "--ends",
        "2026-02-01",
    ),
    "illegal code": ("events", "create", "a/b", "--name", "n", *DATES),
    "code that exists": ("events", "create", "hackathon", "--name", "n", *DATES),
    "unknown model": ("events", "create", "x", "--name", "n", *DATES, "--models", "no-such"),
    "no date": ("events", "create", "x", "--name", "n", "--starts", "soon", "--ends", "2026-02-01"),
    "negative quota": ("events", "create", "x", "--name", "n", *DATES, "--requests-per-day", "-1"),
    "absurd quota": ("events", "create", "x", "--name", "n", *DATES, "--tokens-per-day", "9" * 30),
    "word for a quota": ("events", "create", "x", "--name", "n", *DATES, "--requests-total", "many"),
    "unknown event": ("events", "stop", "no-such-event"),
    "key instead of a setting": (
        *("deployments", "add", "m", "--endpoint", "https://x.openai.azure.com", "--deployment", "d"),
        *("--key-env", "not a setting!"),
    ),
    "plain http": ("deployments", "add", "m", "--endpoint", "http://x.openai.azure.com", "--deployment", "d"),
    "unknown deployment": ("deployments", "disable", "m", "no-such"),
}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
async def test_wrong_input_is_one_sentence_and_status_2(azurite: Azurite, arguments: tuple[str, ...]) -> None:
    before = await manage(azurite, "events", "list", "--json")
    status, output, errors = await manage(azurite, *arguments)
    assert (status, output) == (2, "")
    assert errors.strip().splitlines()[-1].startswith("Error: ") and "Traceback" not in errors
    assert await manage(azurite, "events", "list", "--json") == before


async def test_tables_that_do_not_answer_are_status_1() -> None:
    dead = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
    status, _, errors = await manage(None, "events", "list", PROXY_TABLES=dead)
    assert status == 1 and "do not answer" in errors


async def test_a_connection_string_that_is_none_is_told() -> None:
    status, _, errors = await manage(None, "events", "list", PROXY_TABLES="nonsense")
    assert status == 2 and "connection string" in errors
