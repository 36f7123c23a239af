"""The worker process, from the host's side: it carries out orders, and serves HTTP."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from shared.functions.http import Receive, Scope, Send

_SCRIPT: Final = Path(__file__).with_name("cloud_worker.py")
_HOP_BY_HOP: Final = b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
_IDLE_SECONDS: Final = 1  # shorter than the worker's: it must not close a connection that is about to be used


class WorkerProcess:
    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._numbers = count()
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read_replies())

    @classmethod
    @asynccontextmanager
    async def started(
        cls, arguments: list[str], cwd: Path, environment: Mapping[str, str], log: Path
    ) -> AsyncIterator["WorkerProcess"]:
        """Killed when the block ends, as the platform does."""
        command = [sys.executable, "-P", str(_SCRIPT), *arguments]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=cwd,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        worker = cls(process, log)
        try:
            yield worker
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await worker._reading

    def give(self, order: str, **arguments: Any) -> asyncio.Future[Any]:
        """The reply. It raises RuntimeError with the end of the log if the process ends before."""
        number = next(self._numbers)
        reply = self._replies[number] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            self._fail(reply)
        elif self._process.stdin:
            line = json.dumps({"number": number, "order": order, "arguments": arguments})
            self._process.stdin.write(line.encode() + b"\n")
        return reply

    async def _read_replies(self) -> None:
        while self._process.stdout and (line := await self._process.stdout.readline()):
            number, result = json.loads(line)
            if not (reply := self._replies.pop(number)).done():
                reply.set_result(result)
        await self._process.wait()
        for reply in self._replies.values():
            self._fail(reply)

    def _fail(self, reply: asyncio.Future[Any]) -> None:
        if not reply.done():
            end = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            status = self._process.returncode
            reply.set_exception(RuntimeError(f"The worker ended with status {status}:\n{end}"))
            reply.exception()  # no warning if it is awaited nowhere


class CloudWorker:
    """The worker as the front needs it. `functions` has each function's id and parameter, by its name."""

    needs_whole_body = True

    def __init__(self, functions: Mapping[str, tuple[str, str]], process: WorkerProcess, url: str) -> None:
        self._functions = functions
        self._process = process
        self._url = url
        self.address = urlsplit(url).netloc
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
        )

    async def close(self) -> None:
        await self._session.close()

    def invoke(self, function: str, invocation_id: str, data: dict[str, Any]) -> Awaitable[object]:
        function_id, parameter = self._functions[function]
        invocation = {"function_id": function_id, "parameter": parameter, "data": data}
        return self._process.give("invoke", invocation_id=invocation_id, **invocation)

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        body_read = asyncio.Event()
        forwarding = asyncio.create_task(self._forward(scope, _body(receive, body_read), send))
        leaving = asyncio.create_task(_leaves(receive, body_read))
        await asyncio.wait({forwarding, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if forwarding.done():
            return forwarding.result()
        forwarding.cancel()
        await asyncio.wait({forwarding})
        return None

    async def _forward(self, scope: Scope, body: AsyncIterator[bytes], send: Send) -> None:
        target = (scope["raw_path"] + b"?" * bool(scope["query_string"]) + scope["query_string"]).decode()
        kept = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        async with self._session.request(
            scope["method"],
            URL(self._url + target, encoded=True),
            headers=CIMultiDict((name.decode(), value.decode()) for name, value in kept),
            data=body if chunked else await anext(body) or None,
            allow_redirects=False,
        ) as response:
            fields = [one for one in response.raw_headers if one[0].lower() not in _HOP_BY_HOP]
            await send({"type": "http.response.start", "status": response.status, "headers": fields})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


async def _body(receive: Receive, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    while not body_read.is_set():
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("The client left before its body was complete.")
        if not message["more_body"]:
            body_read.set()
        yield message["body"]


async def _leaves(receive: Receive, body_read: asyncio.Event) -> None:
    """Returns when the client leaves."""
    await body_read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
