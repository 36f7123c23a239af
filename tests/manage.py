"""Runs `manage.py` as the program that it is."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tools.azurite import Azurite

ROOT = Path(__file__).parent.parent
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


async def manage(
    tables: Azurite | str | None, *arguments: str, answer: str | None = None, **more: str
) -> Said:
    """What it says; `answer` is typed in. Nothing that names tables is taken from the tests' own environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | more
    if tables is not None:
        environment["PROXY_TABLES"] = tables if isinstance(tables, str) else tables.connection_string
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "manage.py"), *arguments),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL if answer is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(None if answer is None else answer.encode())
    return Said(process.returncode or 0, output.decode(), errors.decode())


async def created(tables: Azurite, *arguments: str) -> dict[str, Any]:
    """A new event; the dates are open ones."""
    fields: dict[str, Any] = (
        await manage(tables, "events", "create", *arguments, "--name", "A hack", *DATES, "--json")
    ).json
    return fields
