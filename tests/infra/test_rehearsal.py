"""What `azd up` prints, rehearsed: both hooks, the real `manage.py`, Azurite, the app and a simulated Azure.

Simulated are Azure OpenAI, which checks the token that it gets, and the platform's endpoint for identities.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web as http

from shared.tables.service import open_service
from tests.conftest import Stage, serve
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.simulator import Simulator

ROOT = Path(__file__).parents[2]
TOKEN, IDENTITY = "identity-token", "11111111-2222-3333-4444-555555555555"
MODEL = "gpt-4o-mini"


@pytest.fixture(scope="module")
def empty_azurite() -> Iterator[Azurite]:
    with Azurite(None) as running:
        yield running


@pytest.fixture
async def identity_endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[dict[str, str]]]:
    """Gives tokens as App Service does to an app that has the identity; yields what it was asked."""
    asked: list[dict[str, str]] = []

    async def give(request: http.Request) -> http.Response:
        asked.append(dict(request.query))
        if request.headers.get("X-IDENTITY-HEADER") != "secret":
            return http.Response(status=401)
        given = {"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600)}
        return http.json_response(given | {"resource": request.query["resource"], "token_type": "Bearer"})

    app = http.Application()
    app.router.add_get("/token", give)
    runner = http.AppRunner(app)
    await runner.setup()
    site = http.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    yield asked
    await runner.cleanup()


@pytest.fixture
async def deployed(
    empty_azurite: Azurite, identity_endpoint: list[dict[str, str]]
) -> AsyncIterator[tuple[Stage, str]]:
    """The app as `azd deploy` leaves it: running, with empty tables; and the tables' connection string."""
    tables = Tables(open_service(empty_azurite.connection_string, None))
    await tables.create_tables()
    environment = {
        "PROXY_TABLES": empty_azurite.connection_string,
        "PROXY_TABLES__clientId": IDENTITY,
        "PROXY_CACHE_SECONDS": "0",
    }
    async with Simulator(bearers={TOKEN}) as simulator, serve(tables, simulator, environment) as stage:
        yield stage, empty_azurite.connection_string
    await tables.close()


async def test_azd_up_ends_with_a_working_event(
    deployed: tuple[Stage, str],
    identity_endpoint: list[dict[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage, tables = deployed
    variables = {
        "PROXY_TABLES": tables,
        "SERVICE_API_URI": stage.url,
        "AZURE_OPENAI_ENDPOINTS": f'["{stage.simulator.url}/"]',
        "AZURE_OPENAI_EXISTING_ENDPOINTS": "[]",
        "AZURE_OPENAI_DEPLOYMENTS": f'[{{"name": "{MODEL}", "model": "{MODEL}", "capacity": 30}}]',
        "EVENT_CODE": "amber-otter-42",
        "EVENT_NAME": "Spring hackathon",
        "EVENT_TIME_ZONE": "Europe/Oslo",
    }

    printed = [await _run(hook, variables) for hook in ("after_provision.py", "after_deploy.py")]
    again = await _run("after_deploy.py", variables)

    with capsys.disabled():
        sys.stdout.write("\n" + "".join(f"    {line}\n" for line in "".join(printed).splitlines()))
    assert "The roles work." in printed[0]
    assert "event code  amber-otter-42" in printed[1]
    assert "is registered already" in again
    assert "exists already" in again
    assert identity_endpoint[0]["client_id"] == IDENTITY
    assert identity_endpoint[0]["resource"] == "https://cognitiveservices.azure.com"
    assert (await _ask(stage, "amber-otter-42/gloveboxes")) == 200
    assert (await _ask(stage, "hackathon/gloveboxes")) == 401


async def _ask(stage: Stage, credential: str) -> int:
    async with stage.post(headers={"api-key": credential}) as reply:
        return reply.status


async def _run(hook: str, variables: dict[str, str]) -> str:
    """Run a hook as azd does, while the app on this loop goes on answering; its output."""
    ours = ("EVENT_", "AZURE_", "PROXY_", "VNET_", "ADMIN_", "HOOK_", "IDENTITY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(ROOT / "infra" / "hooks" / hook)],
        env=inherited | {"HOOK_SECONDS": "20"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
