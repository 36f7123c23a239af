"""No secret is in the log, and no response shows anything of the upstream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import KEY, Stage
from tests.responses import WireResponse, response_of, send_raw
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    RawSocket,
    ResetBeforeHeaders,
    StreamError,
    WrongType,
)

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).resolve().parents[2]
USER = "user-that-is-never-logged"
PROMPT = "Prompt-that-is-never-logged"
COMPLETION = "Completion-that-is-never-logged"
QUERY = "query-that-is-never-logged"
AT_DEFAULT = ("-m", "tools.functions_host")
AT_DEBUG = (
    "-c",
    "import logging, sys; logging.basicConfig(level=logging.DEBUG); "
    "from tools.functions_host.__main__ import main; sys.exit(main())",
)
BEHAVIOURS: list[Behaviour] = [
    Answer(COMPLETION),
    FilteredPrompt(),
    RateLimited(retry_after=1),
    *[Failure(status) for status in (401, 404, 422, 500)],
    ResetBeforeHeaders(),
    RawSocket(),
    CutBody(),
    CutStream(),
    StreamError(),
    Garbage(),
    WrongType(),
]


@dataclass
class Process:
    """The app in a separate process, with its whole output."""

    url: str
    process: asyncio.subprocess.Process
    log: bytearray = field(default_factory=bytearray)

    async def read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(65536):
            self.log += data


@asynccontextmanager
async def started(arguments: tuple[str, ...], environment: dict[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        "--app",
        str(ROOT),
        "--port",
        "0",
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    app = Process("", process)
    try:
        async with asyncio.timeout(30):
            while not (found := re.search(rb"Functions host on (http://\S+)\n", app.log)):
                line = await process.stdout.readline()
                assert line, app.log.decode()
                app.log += line
        app.url = found[1].decode()
        reading = asyncio.create_task(app.read())
        yield app
        process.send_signal(signal.SIGTERM)
        await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _make_all_calls(app: Process, stage: Stage, code: str) -> list[WireResponse]:
    credential = f"{code}/{USER}"
    question = {"messages": [{"role": "user", "content": PROMPT}], "user": PROMPT}
    chat = f"{app.url}/v1/chat/completions?code={QUERY}&api-key={credential}"
    responses: list[WireResponse] = []
    async with aiohttp.ClientSession() as http:

        async def call(method: str, url: str, **options: Any) -> None:
            options.setdefault("headers", {"api-key": credential})
            responses.append(await response_of(http.request(method, url, **options)))

        for behaviour in BEHAVIOURS:
            for stream in (False, True):
                fresh = await stage.add_deployment()  # the one before may be cooling down
                stage.simulator.behave(fresh, behaviour)
                await call("POST", chat, json=question | {"stream": stream, "model": fresh})
        for header, value in (
            ("openai-event-code", credential),
            ("authorization", f"Bearer {credential}"),
            ("api-key", f"wrong-{code}/{USER}"),
            ("api-key", f"{code}'/{USER}"),
            ("api-key", f"{code}/{USER}/more"),
        ):
            for path in ("v1/chat/completions", "api/v1/event", "v1/models", f"v1/nothing/{QUERY}"):
                method = "POST" if path.endswith("completions") else "GET"
                body = question if method == "POST" else None
                await call(method, f"{app.url}/{path}?code={QUERY}", headers={header: value}, json=body)
        for text in (
            f"{{{PROMPT}",
            json.dumps([PROMPT]),
            json.dumps(question | {"n": PROMPT}),
            PROMPT * 300_000,
        ):
            await call("POST", chat, data=BytesIO(text.encode()))
        await call("POST", chat, json=question | {"model": f"no-{QUERY}"})
        await call("PUT", chat)
        await call("GET", f"{app.url}/readyz?code={QUERY}")
    return responses


async def _call_beyond_ascii(app: Process, code: str) -> None:
    """The host does not forward such a header. The extension ends the call after some seconds."""
    lines = [
        f"POST /v1/chat/completions?{QUERY} HTTP/1.1".encode(),
        f"api-key: {code}/{USER}\xe9".encode(),
    ]
    response = await send_raw(app.url, lines, PROMPT.encode())
    assert (response.status, response.body) == (500, b"")


async def _disconnect(app: Process, stage: Stage, code: str, model: str) -> None:
    gate = stage.simulator.gate(model, Answer(COMPLETION))
    gate.open(3)
    body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True}
    async with aiohttp.ClientSession() as http:
        response = await http.post(
            f"{app.url}/v1/chat/completions", json=body, headers={"api-key": f"{code}/{USER}"}
        )
        await response.content.readuntil(b"\n\n")
        response.close()
    await stage.simulator.until(lambda calls: calls[-1].left)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("arguments", [AT_DEFAULT, AT_DEBUG], ids=["default-level", "debug-level"])
@pytest.mark.parametrize("state", ["up", "down"])
async def test_no_secret_is_ever_logged_or_sent(
    stage: Stage, environment: dict[str, str], arguments: tuple[str, ...], state: str
) -> None:
    model = await stage.add_deployment()
    event = await stage.add_event()  # its number makes the code unique
    code = f"secret-code-{event}"
    found = await stage.tables.event(event)
    assert found is not None
    renamed = {name: getattr(found, name) for name in ("name", "starts_at", "ends_at")}
    await stage.tables.put_event(type(found)(code=code, default_model=model, **renamed))
    settings = dict(environment)
    if state == "down":
        settings["PROXY_TABLES"] = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", environment["PROXY_TABLES"])
    async with started(arguments, settings) as app:
        responses, _ = await asyncio.gather(_make_all_calls(app, stage, code), _call_beyond_ascii(app, code))
        if state == "up":
            await _disconnect(app, stage, code, model)
    log = app.log.decode("utf-8", "replace")
    host = stage.simulator.url.removeprefix("http://")
    tables_key = environment["PROXY_TABLES"].split("AccountKey=")[1].split(";")[0]
    secrets = (KEY, tables_key, host, USER, PROMPT, COMPLETION, QUERY, code)
    logged = [secret for secret in secrets if secret in log]
    assert logged == [], _lines_with(log, logged)
    assert "call " in log or state == "down"
    for response in responses:
        shown = repr(response.headers) + response.body.decode("utf-8", "replace")
        assert not [name for name in (KEY, tables_key, host, "SIMULATOR_KEY", "Traceback") if name in shown]
    statuses = {response.status for response in responses}
    assert statuses >= ({200, 400, 401, 404, 405} if state == "up" else {401, 503})
    assert 500 not in statuses


def _lines_with(log: str, secrets: list[str]) -> str:
    lines = [line[:300] for line in log.splitlines() if any(secret in line for secret in secrets)]
    return "\n".join(lines[:10])
