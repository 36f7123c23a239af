"""The processes that take part: how each is started and ended, and what it uses of the machine."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from admin.tables import Tables
from shared.core.models import Deployment, Event
from shared.tables.service import open_service
from tools import ports
from tools.processes import ROOT, ChildError, attached

from . import program
from .load import Failed, first_response
from .peers import Peer
from .scenarios import EVENT, MODEL, PLAIN_1, requests

WORKER: Final = "app in the worker"
"""In the worker library of the cloud, which needs Python 3.13."""
LOCAL: Final = "app, run locally"
"""In the local Functions host, as `dev.py run` serves it."""
PASSTHROUGH, UPSTREAM = "pass-through", "upstream"

_START_SECONDS: Final = 30
_PEER_START_SECONDS: Final = 120
_END_SECONDS: Final = 8
_KEY_SETTING: Final = "BENCH_KEY"


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    port: int
    pid: int
    log: Path
    credential: str | None
    """The only one that it takes; None where that is any user of the event."""
    first_response_seconds: float
    """From the start of its process to its first chat completion."""

    def cpu_seconds(self) -> float:
        """User and system time of all its threads; nan where the system has no /proc."""
        with suppress(OSError):
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
            return sum(map(int, stat.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        return nan

    def resident_bytes(self) -> int:
        """The memory it occupies, shared libraries included; 0 where the system has no /proc."""
        with suppress(OSError):
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts targets by their names, each with an empty folder of its own in `folder`."""

    folder: Path
    tables: str = ""
    """Their connection string."""
    upstream_port: int = 0
    peers: Mapping[str, Peer] = field(default_factory=dict)

    def start(self, name: str) -> AbstractAsyncContextManager[Target]:
        """Entering raises ChildError: it does not start, or its first response is wrong."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        if name in self.peers:
            return self._start_peer(self.peers[name], home)
        modules = {
            UPSTREAM: ["tools.bench.upstream"],
            PASSTHROUGH: ["tools.bench.passthrough", f"http://127.0.0.1:{self.upstream_port}"],
            LOCAL: ["tools.functions_host", "--port", "0"],
            WORKER: ["tools.bench.app_in_worker"],
        }
        env = {**os.environ, "PROXY_TABLES": self.tables, _KEY_SETTING: "key"}
        return _started(name, attached(Path(sys.executable), *modules[name]), home, env)

    def _start_peer(self, peer: Peer, home: Path) -> AbstractAsyncContextManager[Target]:
        """It gets nothing of our environment but PATH, so no secret reaches it."""
        port = ports.free()
        command = [sys.executable, "-I", program.__file__, *peer.command(home, port, self.upstream_port)]
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), **peer.env}
        return _started(peer.name, command, home, env, port=port, credential=peer.credential)

    async def seed(self) -> None:
        """Writes one event, whose limits are set but out of reach, and one deployment."""
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
        url = f"http://127.0.0.1:{self.upstream_port}"
        tables = Tables(open_service(self.tables, None))
        try:
            await tables.create_tables()
            await tables.put_event(event)
            await tables.put_deployment(Deployment(MODEL, MODEL, url, MODEL, auth=_KEY_SETTING))
        finally:
            await tables.close()


@asynccontextmanager
async def _started(
    name: str,
    command: Sequence[str],
    home: Path,
    env: Mapping[str, str],
    *,
    port: int = 0,
    credential: str | None = None,
) -> AsyncIterator[Target]:
    """Its log goes to a file, which costs it least. Without a `port` it prints the address that it has."""
    log, cwd = home / "log", home if port else ROOT
    with log.open("wb") as output:
        began = perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=output if port else PIPE, stderr=output, cwd=cwd, env=env
        )
    try:
        try:
            port = await (_accepts(process, port) if port else _printed_port(process))
            await first_response(port, next(requests(PLAIN_1, credential)))
        except (OSError, TimeoutError, ValueError, Failed) as error:
            text = f"{name} does not respond ({error!r}). Its last lines:\n{last_lines(log)}"
            raise ChildError(text) from error
        yield Target(name, port, process.pid, log, credential, perf_counter() - began)
    finally:
        await _end(process)


async def _printed_port(process: Process) -> int:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    line = (await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)).decode()
    return urlsplit(line.split()[-1]).port or 0 if line else 0


async def _accepts(process: Process, port: int) -> int:
    """The port, once it takes connections. Raises Failed or TimeoutError."""
    async with asyncio.timeout(_PEER_START_SECONDS):
        while process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return port
            await asyncio.sleep(0.01)
    raise Failed(f"it ended with exit status {process.returncode}")


async def _end(process: Process) -> None:
    assert process.stdin is not None  # noqa: S101 - likewise
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
    return "\n".join(lines[-12:])
