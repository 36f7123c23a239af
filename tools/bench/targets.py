"""The processes that take part: how each is started and ended, and what it uses of the machine."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Final

from admin.tables import Tables
from shared.core.models import Deployment
from shared.tables.service import open_service
from tools import ports
from tools.demo import new_event
from tools.processes import ROOT, ChildError, attached

from .load import Failed, first_response
from .scenarios import MODELS, PLAIN_1, event_code, requests

WORKER: Final = "app in the worker"
"""In the worker library of the cloud, which needs Python 3.13."""
LOCAL: Final = "app, run locally"
"""In the local Functions host, as `dev.py run` serves it."""
PASSTHROUGH, UPSTREAM = "pass-through", "upstream"

_START_SECONDS: Final = 120
_END_SECONDS: Final = 8
_KEY_SETTING: Final = "BENCH_KEY"


@dataclass(frozen=True, slots=True)
class Program:
    """A target, ours or another proxy, before it is started."""

    name: str
    """Of another proxy, with its version."""
    command: Callable[[Path, int, int], list[str]]
    """The command line, given an empty folder to run in, the port to serve on and the upstream's port.

    It may write a configuration into the folder.
    """
    env: Mapping[str, str] = field(default_factory=dict)
    """All of it, but for a HOME of its own if it has none."""
    key: str | None = None
    """The only key that it takes, as a bearer token; None where any user of the event may call."""


def our_program(name: str, tables: str = "") -> Program:
    """`tables` is a connection string."""
    module = {UPSTREAM: "upstream", PASSTHROUGH: "passthrough", WORKER: "app_in_worker"}.get(name)

    def command(_: Path, port: int, upstream: int) -> list[str]:
        python = Path(sys.executable)
        if module:
            return attached(python, f"tools.bench.{module}", str(port), str(upstream))
        return attached(python, "tools.functions_host", "--app", str(ROOT), "--port", str(port))

    settings = {"PYTHONPATH": str(ROOT), "PROXY_TABLES": tables, _KEY_SETTING: "key"}
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}  # as in the cloud, except for the first start
    return Program(name, command, {**os.environ, **settings, **compiled})


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    port: int
    pid: int
    log: Path
    key: str | None
    first_response_seconds: float
    """From the start of its process to its first chat completion."""

    def cpu_seconds(self) -> float:
        """User and system time of all its threads; nan where the system has no /proc."""
        with suppress(OSError):
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
            return sum(map(int, stat.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        return nan


async def seed(tables: str, upstream_port: int, *, events: int = 1, deployments: int = 1) -> None:
    """Writes events, whose limits are set but out of reach, and deployments of each model."""
    demo = replace(new_event(datetime.now(UTC)), models=MODELS)
    event = replace(demo, requests_per_day=10_000_000, tokens_per_day=10_000_000_000)
    store = Tables(open_service(tables, None))
    try:
        await store.create_tables()
        for number in range(events):
            await store.add_event(replace(event, code=event_code(number)))
        for model, number in product(MODELS, range(deployments)):
            endpoint = f"http://127.0.0.1:{upstream_port}"
            await store.add_deployment(Deployment(model, f"d-{number}", endpoint, model, auth=_KEY_SETTING))
    finally:
        await store.close()


@asynccontextmanager
async def started(program: Program, folder: Path, upstream_port: int = 0) -> AsyncIterator[Target]:
    """Raises ChildError: it does not start, or its first response is wrong. Its log goes to a file."""
    home, port = Path(tempfile.mkdtemp(dir=folder)), ports.free()
    command, log = program.command(home, port, upstream_port), home / "log"
    with log.open("wb") as output:
        began = perf_counter()
        env = {"HOME": str(home), **program.env}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=output, stderr=output, cwd=home, env=env
        )
    try:
        try:
            await _accepts(process, port)
            await first_response(port, next(requests(PLAIN_1, program.key)))
        except (OSError, TimeoutError, Failed) as error:
            text = f"{program.name} does not respond ({error!r}). Its last lines:\n{last_lines(log)}"
            raise ChildError(text) from error
        seconds = perf_counter() - began
        yield Target(program.name, port, process.pid, log, program.key, seconds)
    finally:
        await _end(process)


async def _accepts(process: Process, port: int) -> None:
    """Waits until it takes connections. Raises Failed or TimeoutError."""
    async with asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            if ports.accepts_connections(port):
                return
            await asyncio.sleep(0.002)
    raise Failed(f"it ended with exit status {process.returncode}")


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    if sys.platform == "win32":  # all are ours there, and end when their standard input closes
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.close()
    else:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
    return "\n".join(lines[-12:])
