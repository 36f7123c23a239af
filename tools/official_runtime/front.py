"""The stand-in for the host, in front of the worker's HTTP server: streams both ways, as the host's does."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

from tools.functions_host.exchanges import send_answer
from tools.functions_host.routes import Routes
from tools.functions_host.templates import Template

from .orders import Orders

_INVOCATION_ID: Final = "x-ms-invocation-id"
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)
_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)
_IDLE_SECONDS: Final = 1  # shorter than the worker's, which would else close a connection as it is taken


@dataclass(frozen=True, slots=True)
class IndexedFunction:
    function_id: str
    parameter: str
    template: Template
    methods: frozenset[str]


class Front:
    """An ASGI callable."""

    def __init__(self, routes: Routes[IndexedFunction], orders: Orders, http_uri: str) -> None:
        self._routes = routes
        self._orders = orders
        self._http_uri = http_uri
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
        )

    async def close(self) -> None:
        await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.find(scope["method"], scope["raw_path"])
        if found is None:
            return await send_answer(send, 404)
        client = _Client(receive)
        forwarding = asyncio.create_task(self._serve(*found, scope, client, send))
        leaving = asyncio.create_task(client.left())
        await asyncio.wait({forwarding, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if forwarding.done():
            return forwarding.result()
        forwarding.cancel()
        await asyncio.wait({forwarding})
        return None

    async def _serve(
        self, function: IndexedFunction, params: dict[str, str], scope: Scope, client: "_Client", send: Send
    ) -> None:
        headers = _forwarded_headers(scope)
        body = client.body() if "transfer-encoding" in _names(scope) else await client.whole_body()
        invocation_id = str(uuid4())
        # as the host's TryAdd: one that the client sends wins, and its invocation waits for ever
        headers.setdefault(_INVOCATION_ID, invocation_id)
        http = {"method": scope["method"], "url": scope["path"], "params": params}
        self._orders.invoke_beside(function.function_id, invocation_id, function.parameter, {"http": http})
        await self._forward(scope, headers, body, send)

    async def _forward(
        self, scope: Scope, headers: CIMultiDict[str], body: AsyncIterator[bytes] | bytes, send: Send
    ) -> None:
        target = (scope["raw_path"] + b"?" * bool(scope["query_string"]) + scope["query_string"]).decode()
        async with self._session.request(
            scope["method"],
            URL(self._http_uri + target, encoded=True),
            headers=headers,
            data=body or None,
            allow_redirects=False,
        ) as answer:
            kept = [one for one in answer.raw_headers if one[0].lower() not in _HOP_BY_HOP]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
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
                raise ConnectionResetError("the client left before its body was whole")
            yield message.get("body", b"")
            more = message.get("more_body", False)
        self._body_read.set()

    async def whole_body(self) -> bytes:
        return b"".join([chunk async for chunk in self.body()])

    async def left(self) -> None:
        await self._body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _names(scope: Scope) -> set[str]:
    return {name.decode("latin-1") for name, _ in scope["headers"]}


def _forwarded_headers(scope: Scope) -> CIMultiDict[str]:
    kept = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in kept)
