"""Runs `manage.py` as a child process, with the environment that azd gives to hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from waiting import StopError

_ROOT = Path(__file__).resolve().parents[2]


class Result(NamedTuple):
    status: int
    output: str
    message: str
    """The last line of standard error."""


def manage(*arguments: str) -> Result:
    """Run `python3 manage.py ...`. On its first run it creates its own virtual environment."""
    command = [sys.executable, str(_ROOT / "manage.py"), *arguments]
    done = subprocess.run(  # noqa: S603  # our own script, and no shell reads the arguments
        command, cwd=_ROOT, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Result(done.returncode, done.stdout, lines[-1] if lines else f"exit status {done.returncode}")


def tables_are_unreachable() -> bool:
    """Whether the tables are behind private endpoints, and no public address has access."""
    is_private = os.environ.get("VNET_ENABLED", "").strip().lower() in {"true", "t", "1"}  # as azd reads it
    return is_private and not os.environ.get("ADMIN_IP_ADDRESSES", "").strip(" ,")


def run(*arguments: str) -> str:
    """The output of a command. Raises StopError if it fails."""
    result = manage(*arguments)
    if result.status != 0:
        raise StopError(f"`manage.py {' '.join(arguments[:2])}` failed: {result.message}")
    return result.output


def read(*arguments: str) -> Any:
    """The JSON output of a command. Raises StopError if it fails."""
    return json.loads(run(*arguments, "--json"))
