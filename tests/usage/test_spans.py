"""Calls as spans in Application Insights, sent to an ingestion endpoint on this machine."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from shared.core.trace import Trace
from shared.usage.call_log import LoggedCall
from shared.usage.spans import MOST_WAITING, Telemetry
from tests.clock import until
from tests.conftest import Stage
from tests.responses import response_of
from tools.simulator import Failure

QUIET = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
"""Turns off everything else that the exporter sends and fetches. The deployment sets them too."""

ROOT = Path(__file__).parents[2]
KEY = "00000000-0000-4000-8000-000000000000"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LINE = LoggedCall(
    request_id="id",
    trace_id=TRACE[3:35],
    event="e",
    user="u",
    model="gpt-4o",
    deployment="east",
    status=200,
    ending="finished",
    attempts=2,
    first_byte_ms=40,
    total_ms=100,
    prompt_tokens=7,
    completion_tokens=9,
)


def trace(parent: str, state: str | None = None) -> Trace:
    headers = {"traceparent": parent} | ({"tracestate": state} if state else {})
    return {name.encode(): value.encode() for name, value in headers.items()}


class Ingestion:
    """The ingestion endpoint of Application Insights."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.arrived = asyncio.Condition()
        self.url = ""

    @property
    def connection_string(self) -> str:
        return f"InstrumentationKey={KEY};IngestionEndpoint={self.url}/"

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        items = json.loads(gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body)
        async with self.arrived:
            self.items += items
            self.arrived.notify_all()
        return web.json_response({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []})

    async def until(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: len(self.items) >= count)
        return self.items


@pytest.fixture
async def ingestion(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ingestion]:
    for setting in QUIET:
        monkeypatch.setenv(setting, "true")
    ingestion = Ingestion()
    app = web.Application()
    app.router.add_post("/{path:.*}", ingestion.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ingestion.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield ingestion
    await runner.cleanup()


def data(item: dict[str, Any]) -> dict[str, Any]:
    base_data: dict[str, Any] = item["data"]["baseData"]
    return base_data


async def test_a_call_is_sent_as_a_dependency_with_its_trace_and_log_line(
    stage: Stage, ingestion: Ingestion
) -> None:
    model = await stage.add_deployment()
    await stage.add_deployment(model=model, id=f"{model}-b", deployment_name=f"{model}-b", priority=2)
    stage.simulator.behave(model, Failure(500))
    code = await stage.add_event(models=(model,), default_model=model)
    async with stage.instance(
        APPLICATIONINSIGHTS_CONNECTION_STRING=ingestion.connection_string,
        WEBSITE_SITE_NAME="func-of-the-event",
    ) as own:
        headers = {"api-key": f"{code}/secretive-ann", "traceparent": TRACE}
        response = await response_of(own.post(headers=headers))
        assert response.status == 200
    (item,) = await ingestion.until(1)  # waiting spans are sent when the app closes
    assert item["iKey"] == KEY
    assert item["data"]["baseType"] == "RemoteDependencyData"
    assert item["tags"]["ai.operation.id"] == TRACE[3:35]
    assert item["tags"]["ai.operation.parentId"] == TRACE[36:52]
    assert item["tags"]["ai.cloud.role"] == "func-of-the-event"
    dependency = data(item)
    properties = dependency["properties"]
    assert (dependency["name"], dependency["success"], properties["proxy.status"]) == (
        f"chat {model}",
        True,
        "200",
    )
    assert properties["proxy.request_id"] == response.headers["x-request-id"]
    assert (properties["proxy.attempts"], properties["proxy.deployment"]) == ("2", f"{model}-b")
    assert int(properties["gen_ai.usage.output_tokens"]) == response.json["usage"]["completion_tokens"]
    for secret in (code, "secretive-ann", "glove", stage.simulator.url):
        assert secret not in json.dumps(item)


async def test_a_failed_call_is_a_failed_dependency(ingestion: Ingestion) -> None:
    telemetry = Telemetry(ingestion.connection_string, "role", 0.05)
    telemetry.put(LINE, trace(TRACE))
    failed = replace(LINE, status=502, ending="upstream_error", first_byte_ms=None)
    telemetry.put(failed, trace(TRACE, "a=1"))
    first, second = await ingestion.until(2)
    assert (data(first)["success"], data(second)["success"]) == (True, False)
    assert data(first)["duration"] == "0.00:00:00.100"
    await asyncio.to_thread(telemetry.close)


async def test_a_trace_that_the_client_does_not_sample_is_not_sent(ingestion: Ingestion) -> None:
    telemetry = Telemetry(ingestion.connection_string, "role", 0.05)
    telemetry.put(LINE, trace(TRACE[:-2] + "00"))
    telemetry.put(LINE, trace(TRACE))
    await asyncio.to_thread(telemetry.close, 30)
    assert len(ingestion.items) == 1


async def test_spans_that_cannot_be_sent_are_dropped_without_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telemetry = Telemetry("invalid connection string", "role", 0.01)
    for _ in range(MOST_WAITING + 10):
        telemetry.put(LINE, trace(TRACE))
    await asyncio.to_thread(telemetry.close, 30)
    telemetry.put(LINE, trace(TRACE))
    assert "Application Insights gets no spans" in caplog.text


async def test_call_that_cannot_be_sent_does_not_stop_the_others(
    ingestion: Ingestion, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(ingestion.connection_string, "role", 0.05)
    telemetry.put(LINE, {b"\xff": b""})
    await until(lambda: "gets no spans of 1 calls" in caplog.text)
    telemetry.put(LINE, trace(TRACE))
    assert len(await ingestion.until(1)) == 1
    await asyncio.to_thread(telemetry.close, 30)


@pytest.mark.parametrize("setting", ["", "InstrumentationKey=x;IngestionEndpoint=http://127.0.0.1:1/"])
def test_telemetry_is_not_imported_before_the_first_call_ends(setting: str) -> None:
    """Even with the setting, which the cloud always has. The import would make the cold start slower."""
    program = (
        "import asyncio, sys, function_app\n"
        "from shared.core.settings import Settings\n"
        "from shared.app.wiring import Wiring\n"
        "async def main():\n"
        "    await Wiring(Settings.read({'PROXY_TABLES': 'UseDevelopmentStorage=true',\n"
        f"        'APPLICATIONINSIGHTS_CONNECTION_STRING': {setting!r}}})).close()\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'azure.monitor'))])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
