"""The fixtures of all tests: real tables (Azurite), a simulated Azure OpenAI and the app on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
import pytest
from azure.data.tables.aio import TableServiceClient

from function_app import create_app
from shared.app.web import Web
from shared.core.models import Deployment, Event
from shared.tables.service import open_service
from tests.clock import Clock
from tests.responses import WireResponse, response_of
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.functions_host import FunctionsHost
from tools.simulator import Answer, Simulator

pytest_plugins = ("tests.workers",)

KEY = "sim-key-7f3a9c"
KEY_SETTINGS = ("SIMULATOR_KEY", *(f"SIMULATOR_KEY_{number}" for number in range(30)))
"""The simulator's key is in each of these settings."""

MODEL = "gpt-4o-mini"
QUESTION = {"messages": [{"role": "user", "content": "Tell me about glove boxes."}]}

EVENT = Event(
    code="hackathon",
    name="Demo hackathon",
    starts_at=datetime.now(UTC) - timedelta(days=1),
    ends_at=datetime.now(UTC) + timedelta(days=1),
    models=(MODEL, "gpt-4o"),
    default_model=MODEL,
    parallel=1000,
)
USER = "gloveboxes"
CREDENTIAL = f"{EVENT.code}/{USER}"
_numbers = count(1)
_key_changes = count(1)


@dataclass(frozen=True)
class Stage:
    """A running app with its tables and its upstream."""

    url: str
    tables: Tables
    simulator: Simulator
    web: Web
    http: aiohttp.ClientSession
    environment: dict[str, str]

    async def add_event(self, **changes: object) -> str:
        """Create an event and return its code."""
        code = f"event-{next(_numbers)}"
        await self.tables.put_event(replace(EVENT, code=code, **changes))  # type: ignore[arg-type]
        return code

    async def add_deployment(self, family: str = "gpt-4o", **changes: Any) -> str:
        """Create a model of this family with one deployment and return its name."""
        name = f"{family}-{next(_numbers)}"
        fields: dict[str, object] = {
            "model": name,
            "id": name,
            "endpoint": self.simulator.url,
            "deployment_name": name,
            "auth": "SIMULATOR_KEY",
        }
        await self.tables.put_deployment(Deployment(**(fields | changes)))  # type: ignore[arg-type]
        return name

    async def end_cool_downs(self) -> None:
        """Change the key setting of the shared deployments. Then they start without a history."""
        setting = KEY_SETTINGS[next(_key_changes) % len(KEY_SETTINGS)]
        for model in EVENT.models:
            row = Deployment(model, model, self.simulator.url, model, auth=setting)
            await self.tables.put_deployment(row)

    def instance(self, **settings: str) -> AbstractAsyncContextManager[Stage]:
        """Another instance on the same tables and the same upstream, with these settings changed."""
        return serve(self.tables, self.simulator, self.environment | settings)

    async def chat(self, event: str = EVENT.code, user: str = USER, **body: object) -> WireResponse:
        """Send `QUESTION` with these members changed or added."""
        return await response_of(self.post(headers={"api-key": f"{event}/{user}"}, json=QUESTION | body))

    async def get(self, path: str, event: str = EVENT.code, user: str = USER) -> WireResponse:
        request = self.http.get(self.url + path, headers={"api-key": f"{event}/{user}"})
        return await response_of(request)

    def post(
        self, path: str = "/v1/chat/completions", **options: object
    ) -> aiohttp.client._RequestContextManager:
        options.setdefault("headers", {"api-key": CREDENTIAL})
        if "data" not in options:
            options.setdefault("json", QUESTION)
        return self.http.post(self.url + path, **options)  # type: ignore[arg-type]


def calls_in_log(caplog: pytest.LogCaptureFixture, *stages: Stage) -> list[dict[str, Any]]:
    """The calls in the log, and those of `stages` that are not written yet."""
    for stage in stages:
        if stage.web._wiring is not None:
            stage.web._wiring.call_log.flush()
    records = [message.removeprefix("call ") for message in caplog.messages if message.startswith("call {")]
    return [json.loads(line) for record in records for line in record.splitlines()]


@asynccontextmanager
async def nothing_left_in_flight() -> AsyncIterator[None]:
    """Check that each task that starts in the block ends soon after it."""
    before = asyncio.all_tasks()
    yield
    started = {task for task in asyncio.all_tasks() - before if not _is_connection_of_simulator(task)}
    started.discard(asyncio.current_task())
    if started:
        _, running = await asyncio.wait(started, timeout=10)
        assert not running


def _is_connection_of_simulator(task: asyncio.Task[Any]) -> bool:
    """The simulator has a task for each connection, and the app keeps connections for later requests."""
    return getattr(task.get_coro(), "__qualname__", "") == "RequestHandler.start"


@pytest.fixture
def clock() -> Clock:
    return Clock()


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


@pytest.fixture
async def deployments_as_before(tables: Tables) -> AsyncIterator[None]:
    before = await tables.deployments()
    yield
    for deployment in await tables.deployments():
        await tables.delete_deployment(deployment.model, deployment.id)
    for deployment in before:
        await tables.put_deployment(deployment)


@pytest.fixture
async def service(tables: Tables, azurite: Azurite) -> AsyncIterator[TableServiceClient]:
    """The table service itself, as in Storage Explorer."""
    async with TableServiceClient.from_connection_string(azurite.connection_string) as client:
        yield client


@asynccontextmanager
async def serve(tables: Tables, simulator: Simulator, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """Run one instance of the app. Several can use the same tables."""
    web = Web(environment)
    try:
        async with (
            FunctionsHost(create_app(web), route_prefix="") as host,
            aiohttp.ClientSession() as http,
        ):
            yield Stage(host.url, tables, simulator, web, http, environment)
    finally:
        await web.close()


@pytest.fixture(scope="session")
def environment(azurite: Azurite) -> dict[str, str]:
    return {
        "PROXY_TABLES": azurite.connection_string,
        **dict.fromkeys(KEY_SETTINGS, KEY),
        "PROXY_CACHE_SECONDS": "0",
        "PROXY_USAGE_FLUSH_SECONDS": "0.1",
    }


@pytest.fixture(scope="session")
async def running(
    tables: Tables, shared_simulator: Simulator, environment: dict[str, str]
) -> AsyncIterator[Stage]:
    async with serve(tables, shared_simulator, environment) as stage:
        yield stage


@pytest.fixture
async def stage(running: Stage) -> AsyncIterator[Stage]:
    """The app that most tests share. Nothing of the test before is left."""
    running.simulator.reset()
    if running.web._wiring is not None:  # some tests let the model refuse more than an attendee may
        running.web._wiring.quota._slowdown._refused.clear()
    yield running
    if any(not isinstance(call.behaviour, Answer) or call.left for call in running.simulator.calls):
        await running.end_cool_downs()
    running.simulator.reset()


@pytest.fixture
def simulator(stage: Stage) -> Simulator:
    return stage.simulator
