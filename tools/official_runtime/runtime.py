"""Starts the worker and puts the stand-in for the host in front of it."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

from tools.functions_host import HostSettings
from tools.functions_host.routes import Routes
from tools.functions_host.serving import Server, listen, url_of
from tools.functions_host.templates import Template

from .front import Front, IndexedFunction
from .orders import Orders

AVAILABLE: Final = sys.version_info >= (3, 13)
WHY_NOT: Final = "azure-functions-runtime, the cloud's own worker library, needs Python 3.13"

_WORKER: Final = Path(__file__).with_name("worker.py")
_START_SECONDS: Final = 60


class IndexingFailed(Exception):
    """The app does not start in the cloud either; the message is the runtime's."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """`failures` are the messages of failed invocations; `rss_kb` is 0 where the system does not tell."""

    invocations_in_flight: int
    failures: list[str]
    context_references: int
    rss_kb: int


class OfficialRuntime:
    """Entering raises IndexingFailed. The worker is killed when it ends, as the platform does."""

    def __init__(self, app_directory: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.url = ""
        self._app_directory = app_directory.resolve()
        self._environment = {**os.environ, **(environment or {})}
        self._log = Path()
        self._timers: dict[str, tuple[str, str]] = {}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            directory = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self._log = Path(directory, "worker.log")
            self._orders = await opened.enter_async_context(Orders())
            await self._start_worker(opened)
            index = await asyncio.wait_for(self._orders.give("index"), _START_SECONDS)
            if "fault" in index:
                raise IndexingFailed(index["fault"])
            await self._start_front(index, opened)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def worker_state(self) -> WorkerState:
        return WorkerState(**await self._orders.give("state"))

    async def run_timer(self, name: str) -> None:
        """Invokes a timer function, and waits until it has run."""
        function_id, parameter = self._timers[name]
        value = json.dumps({"IsPastDue": False, "Schedule": {}, "ScheduleStatus": None})
        await self._orders.invoke(function_id, str(uuid4()), parameter, {"json": value})

    def worker_log(self) -> str:
        """What the worker has written on its standard output and error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def _start_worker(self, opened: AsyncExitStack) -> None:
        log = opened.enter_context(self._log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_WORKER), str(self._orders.port), str(self._app_directory)),
            cwd=self._app_directory,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        opened.push_async_callback(_kill, process)
        self._orders.end_with(process, self._log)

    async def _start_front(self, index: dict[str, Any], opened: AsyncExitStack) -> None:
        prefix = HostSettings.read(self._app_directory).route_prefix
        functions, self._timers = _read_index(index["functions"], prefix)
        if index["http_uri"] is None:
            raise IndexingFailed("the app does not import azurefunctions.extensions.http.fastapi")
        await asyncio.wait_for(listens(index["http_uri"]), _START_SECONDS)
        front = Front(Routes(functions), self._orders, index["http_uri"])
        opened.push_async_callback(front.close)
        listener = opened.enter_context(listen("127.0.0.1", 0))
        server = Server(front, server_header=False, date_header=False, proxy_headers=False)
        await server.start(listener)
        opened.push_async_callback(server.stop, hard=True)
        self.url = url_of(listener)


def _read_index(
    indexed: list[tuple[str, str, list[str]]], prefix: str
) -> tuple[list[IndexedFunction], dict[str, tuple[str, str]]]:
    http, timers = [], {}
    for function_id, name, raw_bindings in sorted(indexed, key=lambda one: one[1].lower()):
        for trigger in map(json.loads, raw_bindings):
            if trigger["type"] == "timerTrigger":
                timers[name] = (function_id, trigger["name"])
            elif trigger["type"] == "httpTrigger":
                template = Template.parse(f"{prefix}/{(trigger['route'] or name).strip('/')}")
                methods = frozenset(trigger.get("methods", ()))
                http.append(IndexedFunction(function_id, trigger["name"], template, methods))
    return http, timers


async def listens(url: str) -> None:
    """The runtime starts its server beside everything else and does not tell when it listens."""
    address = urlsplit(url)
    while True:
        with suppress(ConnectionRefusedError):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.close()
            return
        await asyncio.sleep(0.01)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
