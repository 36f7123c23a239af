"""The Functions host as an ASGI application, by the rules that the real host was seen to follow.

It finds the function, and sends the worker the two halves of a call: an invocation and a request.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Mapping
from itertools import count
from typing import Any, Final, Protocol
from urllib.parse import quote
from uuid import uuid4

from shared.functions.http import INVOCATION_ID, Message, Receive, Scope, Send

from .routes import Routes, resolve

_MOST_URL_BYTES: Final = 8192
_MOST_HEADERS: Final = 100
_MOST_HEADER_BYTES: Final = 32768
_MOST_BODY_BYTES: Final = "104857600"
_HOME_PAGE: Final = b"<!DOCTYPE html><title>Functions host</title><p>The Functions host is running.</p>"
_HTML: Final = (b"content-type", b"text/html; charset=utf-8")
_CLOSE: Final = (b"connection", b"close")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_FIRST_OF_IDS: Final = str(uuid4())[:24]
_LAST_OF_IDS: Final = count(1)
"""Together a GUID, without the cost of a new random one for each call."""


class Worker(Protocol):
    """Runs the functions, in this process or in another one."""

    needs_whole_body: bool
    """Whether a body with a Content-Length is read before the call is sent."""

    @property
    def address(self) -> str:
        """HOST:PORT of the worker's own server. The app sees it as `Host`."""

    def invoke(self, function: str, invocation_id: str, data: dict[str, Any]) -> Awaitable[object]:
        """Sends the invocation with the trigger's data. The result is done when the invocation ends."""

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the request, and passes on its response."""


class Front:
    def __init__(self, routes: Routes, worker: Worker, environment: Mapping[str, str]) -> None:
        self._routes = routes
        self._worker = worker
        self._most_body_bytes = int(environment.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT") or _MOST_BODY_BYTES)
        self._has_home_page = environment.get("AzureWebJobsDisableHomepage", "").lower() != "true"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Any = send.__self__  # type: ignore[attr-defined] # uvicorn's: wrapping `send` would cost more
        try:
            await self._serve(scope, receive, send)
        finally:
            is_open = exchange.response_started and not (exchange.response_complete or exchange.disconnected)
            if is_open or exchange.is_cut:
                await _reset(exchange.transport)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if status := _fault(scope):
            return await _respond(send, status, _CLOSE)
        raw_path = scope["raw_path"].decode()
        path = resolve(raw_path)
        found = None if "//" in path else self._routes.find(scope["method"], path)
        if found is None:
            return await (self._send_home(send) if path == "/" else _respond(send, 404))
        headers = _forwarded(scope, self._worker.address)
        if int(headers.get(b"content-length", b"0")) > self._most_body_bytes:
            return await _respond(send, 500, _CLOSE)
        if self._worker.needs_whole_body and b"transfer-encoding" not in headers:
            whole = await _read_whole(receive)
            if whole is None:
                return None
            receive = whole
        invocation_id = f"{_FIRST_OF_IDS}{next(_LAST_OF_IDS):012x}"
        headers.setdefault(INVOCATION_ID, invocation_id.encode())  # the client's own wins
        scope["headers"], scope["path"] = [*headers.items()], path
        if path != raw_path or "%" in path:
            scope["raw_path"] = quote(path, safe="/!$&'()*+,;=:@").encode()
        function, params = found
        http = {"method": scope["method"], "url": path, "params": params}
        invocation = self._worker.invoke(function, invocation_id, {"http": http})
        if all(map(bytes.isascii, headers.values())):
            return await self._worker.forward(scope, receive, send)
        await invocation  # the host cannot forward the request
        return await _respond(send, 500)

    async def _send_home(self, send: Send) -> None:
        await (_respond(send, 200, _HTML, body=_HOME_PAGE) if self._has_home_page else _respond(send, 204))


def _fault(scope: Scope) -> int | None:
    """The status for a request that is too large, or that no function may see."""
    headers = scope["headers"]
    if len(scope["raw_path"]) + len(scope["query_string"]) > _MOST_URL_BYTES:
        return 414
    if len(headers) > _MOST_HEADERS or sum([len(n) + len(v) for n, v in headers]) > _MOST_HEADER_BYTES:
        return 431
    return 400 if b"%00" in scope["raw_path"] else None


def _forwarded(scope: Scope, address: str) -> dict[bytes, bytes]:
    """The headers as the app sees them. Values of the same name are joined."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    headers[b"x-forwarded-for"] = scope["client"][0].encode()
    headers[b"x-forwarded-proto"] = b"http"
    headers[b"x-forwarded-host"] = headers.get(b"host", b"")
    headers[b"host"] = address.encode()
    return headers


async def _read_whole(receive: Receive) -> Receive | None:
    """A `receive` that begins with the whole body. None: the client left before."""
    message = await receive()
    while message.get("more_body"):
        more = await receive()
        message = {**more, "body": message["body"] + more.get("body", b"")}
    if message["type"] == "http.disconnect":
        return None
    first = [message]

    async def receive_whole() -> Message:
        return first.pop() if first else await receive()

    return receive_whole


async def _respond(send: Send, status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _reset(transport: asyncio.Transport) -> None:
    """Resets a connection after what was sent, as the real host does when its worker cuts a response."""
    await asyncio.sleep(0)  # uvloop writes at the end of a turn
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
