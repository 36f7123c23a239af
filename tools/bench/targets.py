"""The processes that take part, and what they have to have: an event and a deployment in the tables."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from admin.tables import Tables
from shared.core.models import Deployment, Event
from shared.tables.service import open_service
from tools import ports
from tools.processes import ROOT, ChildError, attached

from .load import Failed, first_answer
from .peers import program
from .peers.peer import Peer
from .requests import EVENT, MODEL, Kind, requests
from .results import LOCAL, WORKER

_START_SECONDS: Final = 30
_PEER_START_SECONDS: Final = 120
_KEY_SETTING: Final = "BENCH_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    port: int
    pid: int
    first_answer_seconds: float
    """From the start of its process to its first chat completion."""
    log: Path
    credential: str | None = None
    """What it has to be asked with; None where that is a user of the event."""

    def last_lines(self) -> str:
        return _end_of(self.log)


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
        await tables.add_event(event)
        await tables.add_deployment(deployment)
    finally:
        await tables.close()


@asynccontextmanager
async def mock(folder: Path) -> AsyncIterator[Target]:
    async with _ours("upstream", folder, "tools.bench.mock") as target:
        yield target


@asynccontextmanager
async def passthrough(folder: Path, upstream_port: int) -> AsyncIterator[Target]:
    upstream = f"http://127.0.0.1:{upstream_port}"
    async with _ours("pass-through", folder, "tools.bench.passthrough", upstream) as target:
        yield target


@asynccontextmanager
async def local(folder: Path, connection_string: str) -> AsyncIterator[Target]:
    env = _settings(connection_string)
    async with _ours(LOCAL, folder, "tools.functions_host", "--port", "0", env=env) as target:
        yield target


@asynccontextmanager
async def worker(folder: Path, connection_string: str) -> AsyncIterator[Target]:
    """The app in the cloud's worker library, which needs Python 3.13."""
    async with _ours(WORKER, folder, "tools.bench.worker", env=_settings(connection_string)) as target:
        yield target


def _settings(connection_string: str) -> dict[str, str]:
    return {"PROXY_TABLES": connection_string, _KEY_SETTING: "key"}


@asynccontextmanager
async def peer(one: Peer, folder: Path, upstream_port: int) -> AsyncIterator[Target]:
    """It gets nothing of our environment but PATH: what it would do with a secret is not ours to know."""
    home, port = Path(tempfile.mkdtemp(dir=folder)), ports.free()
    command = [sys.executable, "-I", program.__file__, *one.command(home, port, upstream_port)]
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), **one.env}
    async with _started(one.name, home, command, home, env, given=port, credential=one.credential) as target:
        yield target


@asynccontextmanager
async def _ours(
    name: str, folder: Path, module: str, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Target]:
    command = attached(Path(sys.executable), module, *arguments)
    home = Path(tempfile.mkdtemp(dir=folder))
    async with _started(name, home, command, ROOT, {**os.environ, **(env or {})}) as target:
        yield target


@asynccontextmanager
async def _started(
    name: str,
    home: Path,
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *,
    given: int | None = None,
    credential: str | None = None,
) -> AsyncIterator[Target]:
    """Its log goes to a file, as fast as it can be written. Without a `given` port it prints the one it has.

    Raises ChildError when it does not answer.
    """
    log = home / "log"
    with log.open("wb") as output:
        began = perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=output if given else PIPE, stderr=output, cwd=cwd, env=env
        )
    try:
        try:
            port = await (_served(process, given) if given else _told(process))
            await first_answer(port, next(requests(Kind.PLAIN, users=1, credential=credential)))
        except (OSError, TimeoutError, ValueError, Failed) as error:
            raise ChildError(
                f"{name} does not answer ({error!r}); its last lines:\n{_end_of(log)}"
            ) from error
        yield Target(name, port, process.pid, perf_counter() - began, log, credential)
    finally:
        await _end(process)


async def _told(process: Process) -> int:
    """The port that it prints when it has one."""
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    line = (await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)).decode()
    return urlsplit(line.split()[-1]).port or 0 if line else 0


async def _served(process: Process, port: int) -> int:
    """The port that it was given, once it takes connections. Raises Failed or TimeoutError."""
    async with asyncio.timeout(_PEER_START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return port
    raise Failed(f"it ended with exit status {process.returncode}")


def _end_of(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
    return "\n".join(lines[-12:])


async def _end(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 - likewise
    process.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 8)
        return
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
