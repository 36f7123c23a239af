"""A client in a process of its own, and what a person sees of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

STEPS = ("chat", "stream", "tools", "structured", "embeddings", "other")
COLUMNS = ("API", *STEPS, "quota", "cut", "seconds", "packages")
TABLE: dict[str, dict[str, str]] = {}
"""The cells of each client, for the summary of the tests."""

QUIET = {
    "OTEL_SDK_DISABLED": "true",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "COLUMNS": "300",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}
"""No client calls home: the proxy does not exist. The columns keep messages on one line."""
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Run:
    """The results of the steps, and all that a person sees."""

    steps: dict[str, dict[str, str]]
    output: str
    seconds: float
    """That the steps took, without the start of the program; all of its time if it does not end."""
    ended: bool

    def cell(self, step: str) -> str:
        result = self.steps.get(step)
        if result is None:
            return "no end"
        return "-" if not result else "yes" if result.get("text", "").strip() else "no"

    def shows(self, message: str) -> str:
        """How the failure of the only step looks."""
        seen = " ".join(_ESCAPES.sub("", self.output).replace("\\n", " ").split())
        if message in seen:
            return "clear" if self.ended else "clear, waits"
        if not self.ended:
            return "waits"
        if not any(self.steps.values()):
            return "-"
        return "error" if any("error" in result for result in self.steps.values()) else "silent"


@dataclass(frozen=True)
class Client:
    name: str
    command: list[str]
    variables: dict[str, str]

    async def run(self, *steps: str, key: str, seconds: float) -> Run:
        """Runs these steps. After so many seconds, ends the client and all that it started."""
        started = monotonic()
        process = await asyncio.create_subprocess_exec(
            *self.command,
            *steps,
            env=os.environ | QUIET | self.variables | {"EVENT_KEY": key},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        output = asyncio.create_task(process.communicate())
        ended, _ = await asyncio.wait([output], timeout=seconds)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        text = (await output)[0].decode(errors="replace")
        results = dict(_results(text))
        of_steps = sum(float(result.pop("seconds", 0)) for result in results.values())
        return Run(results, text, of_steps if ended else monotonic() - started, bool(ended))


def _results(output: str) -> Iterator[tuple[str, dict[str, str]]]:
    for line in output.splitlines():
        if line.startswith('{"step":'):
            result = json.loads(line)
            yield result.pop("step"), result
