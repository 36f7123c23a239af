"""The steps of the set-up: commands that may take long and may fail, told to the user while they run."""

import errno
import shutil
import sys
from collections.abc import Sequence
from time import monotonic

from tools.processes import ROOT, Child

_SAY_EVERY_SECONDS = 10
_TOO_LITTLE = 20_000_000  # bytes
_DISK_FULL = "The disk is full: make room, then run the command again."


class SetupError(Exception):
    """The set-up cannot be done here; the message says what to do, for the user to read."""


def step(what: str, command: Sequence[str], told: str) -> None:
    """Runs a command that may take long, and lets the user see that it is alive."""
    say(f"Set-up: {what} ...")
    started = said = monotonic()
    child = Child(what, command)
    try:
        while not child.wait(0.2):
            if monotonic() - said > _SAY_EVERY_SECONDS:
                said = monotonic()
                say(f"  still {what}, {said - started:.0f} s")
    finally:
        child.kill()
    if child.status != 0:
        raise SetupError(_about_failure(told, child.last_lines()))
    say(f"  done in {monotonic() - started:.0f} s")


def _about_failure(told: str, output: str) -> str:
    if shutil.disk_usage(ROOT).free < _TOO_LITTLE or "No space left on device" in output:
        return _DISK_FULL  # which not every program tells: venv says only that something failed
    return f"{told} What it said last:\n{output}"


def about(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return _DISK_FULL
    return f"Could not set up this checkout: {error}."


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
