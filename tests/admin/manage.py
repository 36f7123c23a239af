"""Runs `manage.py` as a program."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tools.azurite import Azurite

ROOT = Path(__file__).parents[2]
DATES = ("--starts", "2026-01-01", "--ends", "2036-01-01 18:00", "--time-zone", "Europe/Berlin")
UNREACHABLE = (
    "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a;"
)
"""The connection string of tables where nothing listens."""

_SETTINGS = ("PROXY_", "SERVICE_API_URI", "AZURE_", "SIMULATOR_KEY")
_WRITING = os.O_WRONLY | os.O_CREAT


class Result(NamedTuple):
    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.errors
        return json.loads(self.output)

    @property
    def error(self) -> str:
        """The error message: the last line, after the usage that click may print."""
        line = self.errors.strip().splitlines()[-1]
        assert line.startswith("Error: ") and "Traceback" not in self.errors, self.errors
        return line


async def start(tables: Azurite | str | None, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
    """Start `python manage.py`; its output is not buffered."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        str(ROOT / "manage.py"),
        *arguments,
        env=environment(tables, settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run_program(tables: Azurite | str | None, *arguments: str, **settings: str) -> Result:
    process = await start(tables, *arguments, **settings)
    output, errors = await process.communicate()
    return Result(process.returncode or 0, output.decode(), errors.decode())


async def manage(
    tables: Azurite | str | None, *arguments: str, typed: str | None = None, **settings: str
) -> Result:
    """Run `manage.py` in a fork of a process that has loaded the libraries: ten times as fast.

    `typed` is its standard input.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder, name)) for name in ("in", "out", "err")]
        await asyncio.to_thread(Path(streams[0]).write_text, typed or "")
        process = _processes.Process(target=_run, args=(arguments, environment(tables, settings), streams))
        process.start()
        await asyncio.to_thread(process.join)
        output, errors = [Path(name).read_text(encoding="utf-8") for name in streams[1:]]  # noqa: ASYNC240
    assert process.exitcode is not None
    return Result(process.exitcode, output, errors)


if sys.platform == "win32":
    _processes = multiprocessing.get_context("spawn")
else:
    _processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "admin.events.check_steps",
        "admin.deployments.trial",
        "admin.usage.text",
        "admin.connection",
        "azure.identity.aio",
    ]
)


def _run(arguments: tuple[str, ...], settings: dict[str, str], streams: list[str]) -> None:
    """In the child: what `manage.py` does, with other streams, arguments and environment."""
    for number, (name, flags) in enumerate(zip(streams, (os.O_RDONLY, _WRITING, _WRITING), strict=True)):
        os.dup2(os.open(name, flags), number)
    sys.stdin, sys.argv = os.fdopen(0), ["manage.py", *arguments]
    os.environ.clear()
    os.environ.update(settings)
    from admin.commands import main  # noqa: PLC0415 - after the environment is set

    main()


def environment(tables: Azurite | str | None, settings: dict[str, str]) -> dict[str, str]:
    """The environment of the tests without its settings, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    if tables is None:
        return inherited | settings
    connection_string = tables if isinstance(tables, str) else tables.connection_string
    return inherited | settings | {"PROXY_TABLES": connection_string}


async def create_event(tables: Azurite, *arguments: str) -> dict[str, Any]:
    """Create an event that is open."""
    fields: dict[str, Any] = (
        await manage(tables, "events", "create", *arguments, "--name", "A hack", *DATES, "--json")
    ).json
    return fields


@asynccontextmanager
async def serve_bytes(response: bytes) -> AsyncIterator[str]:
    """A server that sends these bytes to every request; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def json_response(status: int, body: object, *headers: str) -> bytes:
    """The bytes of an HTTP response that closes its connection."""
    content = json.dumps(body)
    lines = [
        f"HTTP/1.1 {status} X",
        "content-type: application/json",
        f"content-length: {len(content)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", content]).encode()
