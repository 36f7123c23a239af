"""An upstream that sends exactly the bytes that a test chooses, and records the requests."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    wire: Wire

    async def request(self) -> bytes:
        """The body of the next request; empty when the client has closed the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        self.wire.heads.append(head)
        self.wire.bodies.append(body)
        await self.wire.notify()
        return body

    async def send(self, data: bytes, *, slowly: bool = False) -> None:
        """`slowly`: each byte in a packet of its own."""
        for piece in [data[at : at + 1] for at in range(len(data))] if slowly else [data]:
            self.writer.write(piece)
            await self.writer.drain()
            if slowly:
                await asyncio.sleep(0)

    async def until_closed(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Wire:
    """The requests on all connections of one upstream."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, reached: Callable[[Wire], object]) -> None:
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(lambda: reached(self))

    async def all_closed(self) -> None:
        await self.until(lambda wire: not wire.open)


@asynccontextmanager
async def scripted_upstream(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Run `script` for each connection and then close it."""
    wire = Wire()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire.connections += 1
        wire.open += 1
        await wire.notify()
        try:
            with suppress(ConnectionError):
                await script(Peer(reader, writer, wire))
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            wire.open -= 1
            await wire.notify()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue is full, so that further connections wait."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
        try:
            yield port
        finally:
            for client in waiting:
                client.close()
