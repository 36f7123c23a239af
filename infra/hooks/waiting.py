"""Tells what happens, and tries again until something works or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class StopError(Exception):
    """The hook cannot go on; the message says what to do."""


class Attempt(NamedTuple):
    """How one try went. `final` means that trying again is of no use."""

    succeeded: bool
    message: str
    final: bool = False


def say(line: str = "") -> None:
    print(line, flush=True)  # noqa: T201  # what a hook is for: the administrator reads it


def wait_for(what: str, attempt: Callable[[], Attempt], *, seconds: float, pause: float) -> int:
    """Try until it succeeds, and return how often it did not.

    Raises:
        StopError: it did not succeed within `seconds`, or failed for good.
    """
    began, pause, failures = time.monotonic(), min(pause, seconds / 20), 0
    while not (last := attempt()).succeeded:
        waited = time.monotonic() - began
        if last.final:
            raise StopError(f"{what}: {last.message}")
        if waited + pause > seconds:
            raise StopError(f"{what} did not work within {seconds:.0f} s. The last answer: {last.message}")
        say(f"  {waited:3.0f} s  {last.message}")
        time.sleep(pause)
        failures += 1
    return failures


def give_time(variable: str | None, default: float) -> float:
    """The seconds in an environment variable, for an impatient rehearsal; else the default."""
    try:
        return float(variable or default)
    except ValueError:
        return default
