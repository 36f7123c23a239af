"""The demo event that `dev.py run` creates at each start."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from shared.core.models import Deployment, Event
from shared.core.money import prices_of
from shared.tables.service import open_service
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.demo import MODELS
from tools.processes import ROOT

pytestmark = pytest.mark.one_python

SIMULATOR = "http://127.0.0.1:1"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def run_demo(azurite: Azurite) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.demo", "--simulator", SIMULATOR, "--key-setting", "SIMULATOR_KEY"]
    env = {**os.environ, "PROXY_TABLES": azurite.connection_string}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


async def test_ended_event_opens_again_and_changes_by_hand_stay() -> None:
    ended = Event("hackathon", "Ours", LONG_AGO, LONG_AGO, active=False, requests_per_day=5)
    row = Deployment("gpt-4o", "simulated", "http://127.0.0.1:2", "gpt-4o")
    changed = replace(row, weight=7, active=False, prompt_price=Decimal("1.0"))
    with Azurite() as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        try:
            await tables.create_tables()
            await tables.add_event(ended)
            await tables.add_deployment(changed)
            assert run_demo(azurite).returncode == 0
            ((event,), _), deployments = await tables.events(), await tables.deployments()
        finally:
            await tables.close()
    assert (event.name, event.requests_per_day, event.starts_at) == ("Ours", 5, LONG_AGO)
    assert (event.active, event.ends_at > datetime.now(UTC)) == (True, True)
    found = {one.model: one for one in deployments}
    assert sorted(found) == sorted(MODELS)
    for one in deployments:
        assert (one.endpoint, one.auth, one.active) == (SIMULATOR, "SIMULATOR_KEY", True)
    assert (found["gpt-4o"].weight, found["gpt-4o"].prompt_price) == (7, Decimal(1))
    assert all(prices_of(one) for model, one in found.items() if model != "gpt-4o"), "a budget needs them"


def test_unavailable_tables_are_an_error_without_a_traceback() -> None:
    with Azurite() as azurite:
        azurite.kill()
        result = run_demo(azurite)
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
