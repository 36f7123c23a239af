"""uvicorn, configured for the Functions host. The same in the cloud, in `dev.py run` and in tests."""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from .http import BODY, CLIENT, CUT, WHOLE, Client

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which the host drops an idle connection. So the app never closes one while a
request is on its way."""


_leave_out_http_2 = partial(re.compile(rb"(?i)\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n|$)").sub, b"")
"""Takes the offer of HTTP/2 out of a request's head."""


class _Cycle(RequestResponseCycle):
    """One request and its response."""

    is_cut = False
    """Whether the connection is closed when the application returns, without the end of the response."""
    is_read = False
    """Whether the application has called `receive`."""

    def receive(self) -> Coroutine[Any, Any, Any]:
        self.is_read = True
        return super().receive()

    def send(self, message: Any) -> Coroutine[Any, Any, None]:
        """Send an ASGI message, a whole response, or `CUT`."""
        kind = message["type"]
        if kind == WHOLE:
            return self._send_whole(message)
        return self._cut() if kind == CUT else super().send(message)

    async def _cut(self) -> None:
        """Like a client that has left, so uvicorn expects no more of the response."""
        self.is_cut = self.disconnected = True
        self.message_event.set()
        if (application := asyncio.current_task()) is not None:
            application.add_done_callback(lambda _: self.transport.close())

    async def _send_whole(self, message: Any) -> None:
        """Send a response with one system call. uvicorn needs two."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        status, body = message["status"], message["body"]
        lines = [*map(b": ".join, self.default_headers), *map(b": ".join, message["headers"].items())]
        if status != 204:  # HTTP forbids a length for 204
            lines.append(b"content-length: %d" % len(body))
        if not self.keep_alive:
            lines.append(b"connection: close")
        text = b"".join(lines)
        if text.find(b"\n") >= 0 or text.find(b"\r") >= 0:  # `count` and `in` take longer
            raise RuntimeError("A header contains a line break.")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        sent = b"" if self.scope["method"] == "HEAD" else body
        self.transport.write(b"%b%b\r\n\r\n%b" % (STATUS_LINE[status], b"\r\n".join(lines), sent))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


httptools_impl.RequestResponseCycle = _Cycle  # type: ignore[misc] # uvicorn has no setting for it


class _Protocol(HttpToolsProtocol):
    """One connection. The server closes it when it has been idle for too long: uvicorn starts a timer after
    each response."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.peer = Client()  # with one more attribute, Python would look up all of them in a dictionary

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.peer.leave()

    def data_received(self, data: bytes) -> None:
        """A request that offers HTTP/2 is read as any other. The parser would drop its body."""
        if self.peer.is_between and data.find(b"h2c") >= 0:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _leave_out_http_2(head) + end + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        self.peer.is_between = False
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self.peer.is_between = True
        super().on_message_complete()
        cycle: Any = self.cycle
        if not cycle.is_read:
            cycle.body = cycle.scope[BODY] = bytes(cycle.body)
        if not self.pipeline:
            self.flow.resume_reading()  # to notice that the client leaves

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.flow.resume_reading()
        cycle: Any = self.cycle
        cycle.body = cycle.scope[BODY] = b""  # a body would stay in memory until the next request
        self.peer.idle_since = self.loop.time()

    def _unset_keepalive_if_required(self) -> None:
        self.peer.idle_since = math.inf

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.scope[CLIENT] = self.peer  # type: ignore[literal-required]
        self.headers = []  # trailers come here, and not into the headers of the request


class Server(uvicorn.Server):
    """Serves an ASGI application. The worker keeps its signal handlers."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                log_level="error",  # a client that sends bad bytes must not fill the log
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls it ten times a second."""
        connections: set[Any] = self.server_state.connections
        idle_since = asyncio.get_running_loop().time() - self.config.timeout_keep_alive
        for connection in [one for one in connections if one.peer.idle_since < idle_since]:
            connection.transport.close()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing. uvicorn would take over SIGTERM and SIGINT."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections at once.

    Raises:
        OSError: the port is in use or not permitted.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol is given. Without it, a response may wait for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
