"""The worker process, for the stand-in of the host: invocations are orders, requests go over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from shared.functions.http import Receive, Scope, Send

from .orders import Orders

_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
_IDLE_SECONDS: Final = 1  # shorter than the worker's: it must not close a connection that is about to be used


class WorkerProcess:
    """`functions` has the id and the parameter of each function, by its name."""

    needs_whole_body = True

    def __init__(self, functions: Mapping[str, tuple[str, str]], orders: Orders, url: str) -> None:
        self._functions = functions
        self._orders = orders
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

    def invoke(self, function: str, invocation_id: str, http: dict[str, Any]) -> Awaitable[object]:
        function_id, parameter = self._functions[function]
        return self._orders.invoke_beside(function_id, invocation_id, parameter, {"http": http})

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = _Client(receive)
        forwarding = asyncio.create_task(self._forward(scope, client, send))
        leaving = asyncio.create_task(client.left())
        await asyncio.wait({forwarding, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if forwarding.done():
            return forwarding.result()
        forwarding.cancel()
        await asyncio.wait({forwarding})
        return None

    async def _forward(self, scope: Scope, client: "_Client", send: Send) -> None:
        target = (scope["raw_path"] + b"?" * bool(scope["query_string"]) + scope["query_string"]).decode()
        kept = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        async with self._session.request(
            scope["method"],
            URL(self._url + target, encoded=True),
            headers=CIMultiDict((name.decode(), value.decode()) for name, value in kept),
            data=client.body() if chunked else await anext(client.body()) or None,
            allow_redirects=False,
        ) as response:
            fields = [one for one in response.raw_headers if one[0].lower() not in _HOP_BY_HOP]
            await send({"type": "http.response.start", "status": response.status, "headers": fields})
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})


class _Client:
    """What comes from the client: its body, and then that it leaves."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._body_read = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("The client left before its body was complete.")
            more = message["more_body"]
            if not more:
                self._body_read.set()
            yield message["body"]

    async def left(self) -> None:
        await self._body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
