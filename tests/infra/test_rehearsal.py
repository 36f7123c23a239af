"""A rehearsal of `azd up`: both hooks, the real `manage.py`, Azurite, the app and a simulated Azure OpenAI.

The simulator checks the token. An endpoint of our own issues it, like App Service does for an identity.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web as http
from aiohttp.test_utils import TestServer

from shared.tables.service import open_service
from tests.admin.manage import UNREACHABLE
from tests.conftest import MODEL, Stage, serve
from tests.infra.conftest import run_hook
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.processes import ROOT
from tools.simulator import Simulator

TOKEN, IDENTITY = "identity-token", "11111111-2222-3333-4444-555555555555"
PRICES = {"promptPrice": "0.58", "completionPrice": "1.68"}
DEPLOYMENTS = [
    {"name": "search", "model": "text-embedding-3-small"},
    {"name": MODEL, "model": MODEL, "capacity": 30},
    {"name": "other", "model": "DeepSeek-V3.2", "format": "DeepSeek", **PRICES},
]


@pytest.fixture
async def identity(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Issues tokens for Azure OpenAI to the app's identity, like App Service."""

    async def issue(request: http.Request) -> http.Response:
        is_app = request.headers["X-IDENTITY-HEADER"] == "secret" and request.query["client_id"] == IDENTITY
        if not is_app or request.query["resource"] != "https://cognitiveservices.azure.com":
            return http.Response(status=401)
        token = {"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
        return http.json_response(token | {"resource": request.query["resource"]})

    app = http.Application()
    app.router.add_get("/token", issue)
    async with TestServer(app) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", str(server.make_url("/token")))
        monkeypatch.setenv("IDENTITY_HEADER", "secret")
        yield


@pytest.fixture
async def deployed(identity: None) -> AsyncIterator[Stage]:
    """The app as `azd deploy` leaves it: running, with empty tables."""
    with Azurite(None) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        await tables.create_tables()
        environment = {"PROXY_TABLES": azurite.connection_string, "PROXY_TABLES__clientId": IDENTITY}
        environment["PROXY_CACHE_SECONDS"] = "0"
        async with Simulator(bearers={TOKEN}) as simulator, serve(tables, simulator, environment) as stage:
            yield stage
        await tables.close()


async def test_azd_up_creates_a_working_event(deployed: Stage) -> None:
    variables = {
        "PROXY_TABLES": deployed.environment["PROXY_TABLES"],
        "SERVICE_API_URI": deployed.url,
        "AZURE_OPENAI_ENDPOINTS": f'["{deployed.simulator.url}/"]',
        "AZURE_OPENAI_DEPLOYMENTS": json.dumps(DEPLOYMENTS),
        "EVENT_NAME": "Spring hackathon",
        "EVENT_TIME_ZONE": "Europe/Oslo",
        "EVENT_BUDGET": "200",
    }

    provisioned, output = [await run(hook, variables) for hook in ("after_provision.py", "after_deploy.py")]
    again = await run("after_deploy.py", variables)

    assert "The roles work." in provisioned
    limit = "Limit: USD 200.00 for the whole event"
    for line in (f"URL         {deployed.url}/v1", "The model answered: ", limit, "curl http"):
        assert line in output
    made_up = output.partition("event code  ")[2].split()[0]
    assert "is already registered" in again and "already exists and is unchanged" in again
    for code, status in ((made_up, 200), ("hackathon", 401)):
        (body,) = re.findall(r"-d '(.*)'", output)
        key = {"api-key": f"{code}/gloveboxes"}
        async with deployed.post(headers=key, json=json.loads(body)) as response:
            assert response.status == status
    # Models of other publishers have the same path and form (Azure OpenAI in Microsoft Foundry Models, v1 API).
    other = await deployed.chat(made_up, model="DeepSeek-V3.2")
    call = deployed.simulator.calls[-1]
    assert (other.status, call.path, call.json["model"]) == (200, "/openai/v1/chat/completions", "other")


async def test_tables_that_cannot_be_read_are_retried() -> None:
    output = await run("after_provision.py", {"PROXY_TABLES": UNREACHABLE, "HOOK_SECONDS": "1"}, status=1)
    assert "did not succeed within 1 s" in output


async def run(hook: str, variables: dict[str, str], status: int = 0) -> str:
    """The output of a hook that runs while the app on this loop keeps responding."""
    ended, output = await asyncio.to_thread(run_hook, ROOT, hook, {"HOOK_SECONDS": "20"} | variables)
    assert ended == status, output
    return output
