"""Runs `manage.py` as the program that it is."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tools.azurite import Azurite

ROOT = Path(__file__).parents[2]
_OURS = ("PROXY_", "SERVICE_API_URI", "AZURE_", "SIMULATOR_KEY")
DATES = ("--starts", "2026-01-01", "--ends", "2036-01-01 18:00", "--time-zone", "Europe/Berlin")


class Said(NamedTuple):
    status: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.errors
        return json.loads(self.output)

    @property
    def complaint(self) -> str:
        """The one sentence of a refusal: the last line, behind click's usage where it shows that."""
        line = self.errors.strip().splitlines()[-1]
        assert line.startswith("Error: ") and "Traceback" not in self.errors, self.errors
        return line


async def program(tables: Azurite | str | None, *arguments: str, **more: str) -> Said:
    """What `python manage.py` says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "manage.py"), *arguments),
        env=_environment(tables, more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return Said(process.returncode or 0, output.decode(), errors.decode())


async def manage(
    tables: Azurite | str | None, *arguments: str, answer: str | None = None, **more: str
) -> Said:
    """Likewise, by a process that is forked from one which has loaded the libraries: ten times as fast.

    `answer` is typed in.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [str(Path(folder, name)) for name in ("in", "out", "err")]
        await asyncio.to_thread(Path(streams[0]).write_text, answer or "")
        asked = (arguments, _environment(tables, more), streams)
        process = _processes.Process(target=_run, args=asked)
        process.start()
        await asyncio.to_thread(process.join)
        output, errors = [Path(name).read_text(encoding="utf-8") for name in streams[1:]]  # noqa: ASYNC240
    assert process.exitcode is not None
    return Said(process.exitcode, output, errors)


if sys.platform == "win32":
    _processes = multiprocessing.get_context("spawn")
else:
    _processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["admin.commands", "admin.rehearsal", "admin.tables", "azure.identity.aio"])


def _run(arguments: tuple[str, ...], environment: dict[str, str], streams: list[str]) -> None:
    """In the child: the first lines of `manage.py`, with these for what it would have been given."""
    for number, (name, flags) in enumerate(zip(streams, (os.O_RDONLY, _WRITING, _WRITING), strict=True)):
        os.dup2(os.open(name, flags), number)
    sys.stdin, sys.argv = os.fdopen(0), ["manage.py", *arguments]
    os.environ.clear()
    os.environ.update(environment)
    from admin.commands import main  # noqa: PLC0415 - once the environment is its own

    main()


_WRITING = os.O_WRONLY | os.O_CREAT


def _environment(tables: Azurite | str | None, more: dict[str, str]) -> dict[str, str]:
    """Nothing that names tables is taken from the tests' own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | more
    if tables is not None:
        environment["PROXY_TABLES"] = tables if isinstance(tables, str) else tables.connection_string
    return environment


async def created(tables: Azurite, *arguments: str) -> dict[str, Any]:
    """A new event; the dates are open ones."""
    fields: dict[str, Any] = (
        await manage(tables, "events", "create", *arguments, "--name", "A hack", *DATES, "--json")
    ).json
    return fields
