"""The demo event, as `dev.py run` asks for it each time."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.models import Deployment, Event
from shared.tables.service import open_service
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.processes import ROOT

SIMULATOR = "http://127.0.0.1:1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_event_is_open_and_its_models_are_simulated(times: int) -> None:
    with Azurite() as azurite:
        for _ in range(times):
            seed(azurite)
        event, deployments = await read(azurite)
    assert event.active
    assert event.starts_at < datetime.now(UTC) < event.ends_at - timedelta(days=1)
    assert {(one.model, one.endpoint, one.auth) for one in deployments} == {
        ("gpt-4o-mini", SIMULATOR, "SIMULATOR_KEY"),
        ("gpt-4o", SIMULATOR, "SIMULATOR_KEY"),
    }


async def test_one_that_ended_is_open_again_with_what_was_changed_of_it() -> None:
    ended = Event("hackathon", "Ours", LONG_AGO, LONG_AGO, active=False, requests_per_day=5)
    with Azurite() as azurite:
        await write(azurite, ended)
        seed(azurite)
        event, _ = await read(azurite)
    assert (event.name, event.requests_per_day, event.starts_at) == ("Ours", 5, LONG_AGO)
    assert (event.active, event.ends_at > datetime.now(UTC)) == (True, True)


async def test_prices_and_weight_that_were_given_to_its_deployments_stay() -> None:
    ours = Deployment("gpt-4o", "simulated", "http://127.0.0.1:2", "gpt-4o", weight=7, active=False)
    with Azurite() as azurite:
        await write(azurite, replace(ours, prompt_price=1.0, completion_price=2.0))
        seed(azurite)
        _, deployments = await read(azurite)
    (found,) = (one for one in deployments if one.model == "gpt-4o")
    assert (found.endpoint, found.auth, found.active) == (SIMULATOR, "SIMULATOR_KEY", True)
    assert (found.weight, found.prompt_price, found.completion_price) == (7, 1.0, 2.0)


def test_tables_that_do_not_answer_are_told_without_a_traceback() -> None:
    with Azurite() as azurite:
        azurite.kill()
        with pytest.raises(subprocess.CalledProcessError) as failed:
            seed(azurite)
    assert "Traceback" not in failed.value.stderr


def seed(azurite: Azurite) -> None:
    subprocess.run(
        [sys.executable, "-m", "tools.demo", "--simulator", SIMULATOR, "--key-setting", "SIMULATOR_KEY"],
        cwd=ROOT,
        env={**os.environ, "PROXY_TABLES": azurite.connection_string},
        capture_output=True,
        text=True,
        check=True,
    )


async def read(azurite: Azurite) -> tuple[Event, list[Deployment]]:
    tables = Tables(open_service(azurite.connection_string, None))
    try:
        event = await tables.event("hackathon")
        assert event
        return event, await tables.deployments()
    finally:
        await tables.close()


async def write(azurite: Azurite, row: Event | Deployment) -> None:
    tables = Tables(open_service(azurite.connection_string, None))
    try:
        await tables.create_tables()
        await (tables.put_event(row) if isinstance(row, Event) else tables.put_deployment(row))
    finally:
        await tables.close()
