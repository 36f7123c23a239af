"""Starts the worker and puts the stand-in for the host in front of it."""

import asyncio
import json
import os
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit
from uuid import uuid4

from admin import environment as environments
from shared.functions.server import Server, listen
from tools import ports
from tools.functions_host.app import read_prefix
from tools.functions_host.front import Front
from tools.functions_host.routes import Route, Routes
from tools.functions_host.serving import address_of, serving
from tools.processes import resident_bytes

from .worker_process import CloudWorker, WorkerProcess

AVAILABLE: Final = sys.version_info >= (3, 13)
WHY_NOT: Final = "azure-functions-runtime, the cloud's own worker library, needs Python 3.13"

_CLASSIC_REQUIREMENTS: Final = Path(__file__).with_name("classic.txt")
_START_SECONDS: Final = 60
_Functions = dict[str, tuple[str, str]]
"""The id and the parameter of each function, by its name."""


class IndexingFailed(Exception):
    """The app does not start in the cloud either. The message is the runtime's."""


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
    """`failures` are the messages of failed invocations. `rss_kb` is 0 where the system has no /proc."""

    rss_kb: int
    invocations_in_flight: int
    failures: list[str]
    context_references: int


async def classic_packages() -> Path:
    """The folder of what a specialized worker of Python 3.11 and 3.12 uses in place of the app's packages.

    It is made where needed. Raises SetupError.
    """
    name = f"classic-{sys.version_info[0]}.{sys.version_info[1]}"
    python = await asyncio.to_thread(environments.beside, name, _CLASSIC_REQUIREMENTS)
    base = str(python.parent.parent)
    return Path(sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base}))


class OfficialRuntime:
    """Entering raises IndexingFailed. The worker is killed when it ends, as the platform does."""

    url = worker_url = ""

    def __init__(
        self,
        app_directory: Path,
        *,
        environment: Mapping[str, str] = {},
        placeholder: Placeholder | None = None,
    ) -> None:
        self._placeholder = placeholder
        self._app_directory = app_directory.resolve()
        self._environment = {**os.environ, **environment}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self._log = _folder(opened) / "worker.log"
            self._process = await self._start(opened)
            settings = self._environment if self._placeholder else None
            index = await asyncio.wait_for(self._process.give("index", environment=settings), _START_SECONDS)
            if "fault" in index:
                raise IndexingFailed(index["fault"])
            if index["http_uri"] is None:
                raise IndexingFailed("the app has no HTTP extension, or the worker did not notice it")
            await self._serve(index, opened)
            self._closing = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._closing.aclose()

    async def worker_state(self) -> WorkerState:
        return WorkerState(resident_bytes(self._process.pid) // 1024, **await self._process.give("state"))

    async def run_timer(self, name: str) -> None:
        """Invokes a timer function, and waits until it has run."""
        value = json.dumps({"IsPastDue": False, "Schedule": {}, "ScheduleStatus": None})
        await self._worker.invoke(name, str(uuid4()), {"json": value})

    def worker_log(self) -> str:
        """All that the worker has written on its standard output and error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    async def _start(self, opened: AsyncExitStack) -> WorkerProcess:
        arguments, cwd, environment = [str(self._app_directory)], self._app_directory, self._environment
        if self._placeholder:
            arguments += ["placeholder"]
            arguments += [str(await classic_packages())] if self._placeholder.like_classic else []
            cwd, environment = _folder(opened), {**os.environ, **self._placeholder.environment}
        started = WorkerProcess.started(arguments, cwd, environment, self._log)
        return await opened.enter_async_context(started)

    async def _serve(self, index: dict[str, Any], opened: AsyncExitStack) -> None:
        self.worker_url = index["http_uri"]
        async with asyncio.timeout(_START_SECONDS):  # the worker gives no sign that its server is ready
            while not ports.accepts_connections(urlsplit(self.worker_url).port or 0):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
        routes, functions = _read_index(index["functions"], read_prefix(self._app_directory))
        self._worker = CloudWorker(functions, self._process, self.worker_url)
        opened.push_async_callback(self._worker.close)
        listener = opened.enter_context(listen("127.0.0.1", 0))
        server = Server(Front(routes, self._worker, self._environment))
        server.config.server_header = server.config.date_header = False  # the worker sends them
        await opened.enter_async_context(serving(server, server.serve([listener])))
        self.url = f"http://{address_of(listener)}"


def _folder(opened: AsyncExitStack) -> Path:
    return Path(opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))


def _read_index(indexed: list[tuple[str, str, list[str]]], prefix: str) -> tuple[Routes, _Functions]:
    routes, functions = list[Route](), _Functions()
    for function_id, name, raw_bindings in indexed:
        for trigger in map(json.loads, raw_bindings):
            if trigger["type"] == "httpTrigger":
                routes.append(Route.read(name, trigger, prefix))
            if trigger["type"] in {"httpTrigger", "timerTrigger"}:
                functions[name] = (function_id, trigger["name"])
    return Routes(routes), functions
