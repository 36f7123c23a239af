"""The processes that take part, and what they have to have: an event and a deployment in the tables."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from shared.models import Deployment, Event
from shared.tables import Tables, open_service
from tools.processes import ROOT, ChildError, attached

from .load import Failed, first_answer
from .requests import EVENT, MODEL, Kind, requests

_START_SECONDS: Final = 30
_KEY_SETTING: Final = "BENCH_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    port: int
    pid: int
    first_answer_seconds: float
    """From the start of its process to its first chat completion."""


async def seed(connection_string: str, upstream_port: int) -> None:
    """One event with every limit of a day set, none of them within reach, and one deployment."""
    now = datetime.now(UTC)
    event = Event(
        code=EVENT,
        name="Benchmark",
        starts_at=now - timedelta(days=1),
        ends_at=now + timedelta(days=1),
        models=(MODEL, "gpt-4o"),
        default_model=MODEL,
        max_output_tokens=1000,
        requests_per_day=10_000_000,
        tokens_per_day=10_000_000_000,
    )
    deployment = Deployment(MODEL, MODEL, f"http://127.0.0.1:{upstream_port}", MODEL, auth=_KEY_SETTING)
    tables = Tables(open_service(connection_string, None))
    try:
        await tables.create_tables()
        await tables.put_event(event)
        await tables.put_deployment(deployment)
    finally:
        await tables.close()


@asynccontextmanager
async def mock(folder: Path) -> AsyncIterator[Target]:
    async with _started("upstream", folder, "tools.bench.mock") as target:
        yield target


@asynccontextmanager
async def passthrough(folder: Path, upstream_port: int) -> AsyncIterator[Target]:
    upstream = f"http://127.0.0.1:{upstream_port}"
    async with _started("pass-through", folder, "tools.bench.passthrough", upstream) as target:
        yield target


@asynccontextmanager
async def app(folder: Path, connection_string: str) -> AsyncIterator[Target]:
    env = {"PROXY_TABLES": connection_string, _KEY_SETTING: "key"}
    async with _started("app", folder, "tools.functions_host", "--port", "0", env=env) as target:
        yield target


@asynccontextmanager
async def _started(
    name: str, folder: Path, module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Target]:
    """Its log goes to a file, as fast as it can be written. Raises ChildError when it does not answer."""
    command = attached(Path(sys.executable), module, *arguments)
    path = folder / f"{name}.log"
    with path.open("wb") as log:
        began = perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=log, cwd=ROOT, env={**os.environ, **(env or {})}
        )
    try:
        try:
            port = await asyncio.wait_for(_port(process), _START_SECONDS)
            await first_answer(port, next(requests(Kind.PLAIN, users=1)))
        except (OSError, TimeoutError, ValueError, Failed) as error:
            said = path.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise ChildError(f"{name} does not answer ({error!r}); its last lines:\n{said}") from error
        yield Target(name, port, process.pid, perf_counter() - began)
    finally:
        await _end(process)


async def _port(process: Process) -> int:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    line = (await process.stdout.readline()).decode()
    return urlsplit(line.split()[-1]).port or 0 if line else 0


async def _end(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 - likewise
    process.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 8)
        return
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
