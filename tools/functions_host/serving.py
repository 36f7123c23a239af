"""uvicorn inside a loop that somebody else runs."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .faults import AppFault

# what is under way when the server stops may end by itself for this long, and for as long once it is cut off
_GRACE_SECONDS: Final = 0.5


class PortInUse(AppFault):
    pass


class _Joined:
    """A transport that sends an answer's head together with what follows at once, in one system call.

    uvicorn makes two; the platform's front end, for which the local host stands, would join them.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():  # a client that left meanwhile may have closed it
            self._transport.write(head)


class _Protocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        joined = _Joined(cast(asyncio.Transport, transport), self.loop)
        super().connection_made(cast(asyncio.Transport, joined))


class Server(uvicorn.Server):
    """No signal handlers, no polling, no access log; it stops within about a second, whatever is open."""

    def __init__(self, app: Any, **options: Any) -> None:
        # No proxy stands before it: what X-Forwarded-For says is only what the client says.
        options = {"http": _Protocol, "proxy_headers": False, **options}
        config = uvicorn.Config(app, lifespan="off", ws="none", access_log=False, log_config=None, **options)
        super().__init__(config)
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._grace_seconds = _GRACE_SECONDS

    async def start(self, listener: socket.socket) -> None:
        self._serving = asyncio.create_task(self.serve([listener]))
        await self._ready.wait()
        if not self.started:
            await self._serving  # raises what was in the way

    async def stop(self, *, hard: bool = False) -> None:
        if hard:
            self._grace_seconds = 0
        self._stopping.set()
        await self._serving

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self._ready.set()

    async def main_loop(self) -> None:
        while not self._stopping.is_set():
            await self.on_tick(0)  # renews the date header
            try:
                await asyncio.wait_for(self._stopping.wait(), 1)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._finish_tasks(self._grace_seconds)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await self._finish_tasks(self._grace_seconds)
        for task in self.server_state.tasks:
            task.cancel()
        await self._finish_tasks(_GRACE_SECONDS)

    async def _finish_tasks(self, timeout_seconds: float) -> None:
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=timeout_seconds)


def listen(host: str, port: int) -> socket.socket:
    """Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named because asyncio sets TCP_NODELAY only then; without it an answer may wait 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else error
        raise PortInUse(
            f"port {port} of {host} cannot be had ({reason}); choose another with --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
