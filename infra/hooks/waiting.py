"""Retries a step until it succeeds or its time is over, and prints each failure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple


class StopError(Exception):
    """The hook cannot continue. The message says what is wrong."""


class Attempt(NamedTuple):
    succeeded: bool
    message: str
    final: bool = False
    """Whether a retry cannot help."""


def say(line: str = "") -> None:
    print(line, flush=True)  # noqa: T201  # the administrator reads the output of a hook


def wait_for(step: str, attempt: Callable[[], Attempt], *, seconds: float, pause: float) -> int:
    """Retry until `attempt` succeeds, and return the number of failures.

    Raises:
        StopError: no attempt succeeded within `seconds`, or one failed for good.
    """
    began, pause, failures = time.monotonic(), min(pause, seconds / 20), 0
    while not (last := attempt()).succeeded:
        waited = time.monotonic() - began
        if last.final:
            raise StopError(f"{step} failed: {last.message}")
        if waited + pause > seconds:
            raise StopError(f"{step} did not succeed within {seconds:.0f} s. Last error: {last.message}")
        say(f"  {waited:3.0f} s  {last.message}")
        time.sleep(pause)
        failures += 1
    return failures


def time_limit(default: float) -> float:
    """Seconds to wait: HOOK_SECONDS if it is a number, else the default."""
    try:
        return float(os.environ.get("HOOK_SECONDS") or default)
    except ValueError:
        return default
