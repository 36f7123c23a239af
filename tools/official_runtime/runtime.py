"""Starts the worker and puts the stand-in for the host in front of it."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

from shared.functions.server import Server, listen
from tools.functions_host.front import Front
from tools.functions_host.loader import read_prefix
from tools.functions_host.routes import Route, Routes
from tools.functions_host.serving import address_of, serving

from .classic import classic_packages
from .front import WorkerProcess
from .orders import Orders

AVAILABLE: Final = sys.version_info >= (3, 13)
WHY_NOT: Final = "azure-functions-runtime, the cloud's own worker library, needs Python 3.13"

_WORKER: Final = Path(__file__).with_name("worker.py")
_START_SECONDS: Final = 60


class IndexingFailed(Exception):
    """The app does not start in the cloud either; the message is the runtime's."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A worker that starts in an empty directory without the app, and is specialized then, as in the cloud.

    `environment` is the placeholder's own; the app's settings replace it. `like_classic` imitates a worker of
    Python 3.11 and 3.12: the app gets the worker's versions of azure-functions and the extensions' base, and
    the record of invocations is in `azure_functions_worker.http_v2`. With PYTHON_ENABLE_INIT_INDEXING=1 in
    `environment` such a worker has looked for an HTTP extension before the app was there, and found none.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    like_classic: bool = False


@dataclass(frozen=True, slots=True)
class WorkerState:
    """`failures` are the messages of failed invocations; `rss_kb` is 0 where the system does not report it.

    `log_messages` counts what the worker would have sent to the host as log messages since its start.
    """

    invocations_in_flight: int
    failures: list[str]
    context_references: int
    log_messages: int
    rss_kb: int


class OfficialRuntime:
    """Entering raises IndexingFailed. The worker is killed when it ends, as the platform does."""

    def __init__(
        self,
        app_directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        placeholder: Placeholder | None = None,
    ) -> None:
        self.url = self.worker_url = ""
        self._placeholder = placeholder
        self._app_directory = app_directory.resolve()
        self._environment = {**os.environ, **(environment or {})}
        self._log = Path()
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            directory = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self._log = Path(directory, "worker.log")
            self._orders = await opened.enter_async_context(Orders())
            if self._placeholder:
                await self._start_placeholder(self._placeholder, opened)
            else:
                await self._start_worker(opened, self._app_directory, self._environment)
            settings = self._environment if self._placeholder else None
            index = await asyncio.wait_for(self._orders.give("index", environment=settings), _START_SECONDS)
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
        function_id, parameter = self._functions[name]
        value = json.dumps({"IsPastDue": False, "Schedule": {}, "ScheduleStatus": None})
        await self._orders.invoke(function_id, str(uuid4()), parameter, {"json": value})

    def worker_log(self) -> str:
        """What the worker has written on its standard output and error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def _start_placeholder(self, placeholder: Placeholder, opened: AsyncExitStack) -> None:
        packages = [str(await classic_packages())] if placeholder.like_classic else []
        empty = Path(opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        environment = {**os.environ, **placeholder.environment}
        await self._start_worker(opened, empty, environment, "placeholder", *packages)

    async def _start_worker(
        self, opened: AsyncExitStack, cwd: Path, environment: dict[str, str], *arguments: str
    ) -> None:
        log = opened.enter_context(self._log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_WORKER), str(self._orders.port), str(self._app_directory)),
            *arguments,
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        opened.push_async_callback(_kill, process)
        self._orders.end_with(process, self._log)

    async def _start_front(self, index: dict[str, Any], opened: AsyncExitStack) -> None:
        if index["http_uri"] is None:
            raise IndexingFailed("the app has no HTTP extension, or the worker did not notice it")
        await asyncio.wait_for(listens(index["http_uri"]), _START_SECONDS)
        routes, functions = _read_index(index["functions"], read_prefix(self._app_directory))
        self._functions, self.worker_url = functions, index["http_uri"]
        worker = WorkerProcess(functions, self._orders, self.worker_url)
        opened.push_async_callback(worker.close)
        listener = opened.enter_context(listen("127.0.0.1", 0))
        server = Server(Front(routes, worker, self._environment))
        server.config.server_header = server.config.date_header = False  # the worker sends them
        await opened.enter_async_context(serving(server, server.serve([listener])))
        self.url = f"http://{address_of(listener)}"


def _read_index(
    indexed: list[tuple[str, str, list[str]]], prefix: str
) -> tuple[Routes, dict[str, tuple[str, str]]]:
    """The routes, and the id and the parameter of each function by its name."""
    routes, functions = list[Route](), dict[str, tuple[str, str]]()
    for function_id, name, raw_bindings in indexed:
        for trigger in map(json.loads, raw_bindings):
            if trigger["type"] == "httpTrigger":
                routes.append(Route.read(name, trigger, prefix))
            if trigger["type"] in {"httpTrigger", "timerTrigger"}:
                functions[name] = (function_id, trigger["name"])
    return Routes(routes), functions


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
