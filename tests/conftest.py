"""What the tests stand on: real tables (Azurite), a simulated Azure OpenAI, and the app on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count

import aiohttp
import pytest

from function_app import create_app
from shared.models import Deployment, Event
from shared.tables import Tables, open_service
from shared.web import Web
from tools.azurite import Azurite
from tools.functions_host import FunctionsHost, HostSettings
from tools.simulator import Simulator

KEY = "sim-key-7f3a9c"
CREDENTIAL = "hackathon/gloveboxes"
MODEL = "gpt-4o-mini"
QUESTION = {"messages": [{"role": "user", "content": "Tell me about glove boxes."}]}

EVENT = Event(
    code="hackathon",
    name="Demo hackathon",
    starts_at=datetime.now(UTC) - timedelta(days=1),
    ends_at=datetime.now(UTC) + timedelta(days=1),
    models=(MODEL, "gpt-4o"),
    default_model=MODEL,
)


@dataclass(frozen=True)
class Stage:
    """The app on a socket, with its tables and its upstream."""

    url: str
    tables: Tables
    simulator: Simulator
    web: Web
    http: aiohttp.ClientSession
    environment: dict[str, str]

    async def add_event(self, **changes: object) -> str:
        """A new event of its own; returns its code."""
        code = f"event-{next(_codes)}"
        await self.tables.put_event(replace(EVENT, code=code, **changes))  # type: ignore[arg-type]
        return code

    async def add_deployment(self, **changes: object) -> str:
        """A new model with a deployment of its own; returns the model's name."""
        name = f"model-{next(_codes)}"
        fields: dict[str, object] = {
            "model": name,
            "id": name,
            "endpoint": self.simulator.url,
            "deployment_name": name,
            "auth": "SIMULATOR_KEY",
        }
        await self.tables.put_deployment(Deployment(**(fields | changes)))  # type: ignore[arg-type]
        return name

    def post(
        self, path: str = "/v1/chat/completions", **options: object
    ) -> aiohttp.client._RequestContextManager:
        options.setdefault("headers", {"api-key": CREDENTIAL})
        if "data" not in options:
            options.setdefault("json", QUESTION)
        return self.http.post(self.url + path, **options)  # type: ignore[arg-type]


_codes = count(1)


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with Azurite(None) as running:
        yield running


@pytest.fixture(scope="session")
async def shared_simulator() -> AsyncIterator[Simulator]:
    async with Simulator(keys={KEY}, bearers={"identity-token"}) as running:
        yield running


@pytest.fixture(scope="session")
async def tables(azurite: Azurite, shared_simulator: Simulator) -> AsyncIterator[Tables]:
    tables = Tables(open_service(azurite.connection_string, None))
    await tables.create_tables()
    await tables.put_event(EVENT)
    for model in EVENT.models:
        await tables.put_deployment(
            Deployment(model, model, shared_simulator.url, model, auth="SIMULATOR_KEY")
        )
    yield tables
    await tables.close()


@asynccontextmanager
async def serve(tables: Tables, simulator: Simulator, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """One instance of the app; several may stand side by side on the same tables."""
    web = Web(environment)
    settings = HostSettings(route_prefix="")
    async with FunctionsHost(create_app(web), settings=settings) as host, aiohttp.ClientSession() as http:
        yield Stage(host.url, tables, simulator, web, http, environment)
    await web.close()


@pytest.fixture(scope="session")
def environment(azurite: Azurite) -> dict[str, str]:
    return {
        "PROXY_TABLES": azurite.connection_string,
        "SIMULATOR_KEY": KEY,
        "PROXY_CACHE_SECONDS": "0",
    }


@pytest.fixture(scope="session")
async def running(
    tables: Tables, shared_simulator: Simulator, environment: dict[str, str]
) -> AsyncIterator[Stage]:
    async with serve(tables, shared_simulator, environment) as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    """The app that most tests share, with nothing left of the test before."""
    running.simulator.reset()
    yield running
    running.simulator.reset()


@pytest.fixture
def simulator(stage: Stage) -> Simulator:
    return stage.simulator
