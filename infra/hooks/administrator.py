"""Runs `manage.py` as a child, with the environment that azd gives to hooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from waiting import StopError

_ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    status: int
    output: str
    complaint: str
    """The last line of what it said on standard error."""


def manage(*arguments: str) -> Answer:
    """Run `python3 manage.py ...`; it sets up its own virtual environment on first use."""
    command = [sys.executable, str(_ROOT / "manage.py"), *arguments]
    done = subprocess.run(  # noqa: S603  # our own script, and arguments that no shell reads
        command, cwd=_ROOT, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Answer(done.returncode, done.stdout, lines[-1] if lines else f"exit status {done.returncode}")


def is_out_of_reach() -> bool:
    """Whether the tables are behind private endpoints, with no way in for an administrator."""
    is_private = os.environ.get("VNET_ENABLED", "").lower() == "true"
    return is_private and not os.environ.get("ADMIN_IP_ADDRESSES")


def must(*arguments: str) -> str:
    """The output of a command that has to work.

    Raises:
        StopError: it did not.
    """
    answer = manage(*arguments)
    if answer.status != 0:
        raise StopError(f"`manage.py {' '.join(arguments[:2])}` failed: {answer.complaint}")
    return answer.output


def read(*arguments: str) -> Any:
    """What a command says with `--json`."""
    return json.loads(must(*arguments, "--json"))
