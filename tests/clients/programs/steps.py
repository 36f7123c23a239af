"""Runs the steps that the command line names. Prints a line of JSON for each: its text or error, and its seconds.

The programs beside this file run in environments of their own, so it uses the standard library only.
"""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

URL, KEY, MODEL = (os.environ[name] for name in ("EVENT_ENDPOINT", "EVENT_KEY", "EVENT_MODEL"))
EMBEDDING_MODEL = os.environ["EVENT_EMBEDDING_MODEL"]
QUESTION = "What is a glove box?"
TOOL_QUESTION = "What is the temperature in Oslo?"


def temperature(city: str) -> str:
    """Return the temperature in a city."""
    return f"{city} has seven degrees."


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "name": "temperature",
    "description": "The temperature in a city.",
    "parameters": SCHEMA,
}


def run(*steps: Callable[[], Any], **others: Callable[[], Any]) -> None:
    known = {step.__name__: step for step in steps} | others
    with asyncio.Runner() as runner:
        for name in sys.argv[1:]:
            result = {"step": name, **_result(runner, known[name])} if name in known else {"step": name}
            sys.stdout.write(f"\n{json.dumps(result)}\n")
            sys.stdout.flush()


def _result(runner: asyncio.Runner, step: Callable[[], Any]) -> dict[str, str]:
    began = monotonic()
    try:
        text = step()
        result = {"text": str(runner.run(text) if inspect.isawaitable(text) else text)}
    except Exception as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    return {**result, "seconds": f"{monotonic() - began:.1f}"}


def command(*words: str, folder: str | None = None, **variables: str) -> str:
    """The output of a program in an empty folder, shown as it arrives. Raises RuntimeError if it fails."""
    lines = []
    with tempfile.TemporaryDirectory() as empty:
        cwd = folder or empty
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=os.environ | {"PWD": cwd} | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in process.stdout or ():
            sys.stderr.write(line)
            lines.append(line)
        if process.wait():
            raise RuntimeError(f"exit status {process.returncode}")
    return "".join(lines)


def package(name: str) -> Path:
    """The folder of an npm package of this client."""
    return Path(os.environ["CLIENT_NODE_MODULES"]) / name
