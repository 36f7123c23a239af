"""A relay before the tables. It records their requests, and can hold back, lose or refuse what passes."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

from tools import ports
from tools.azurite import connection_string


@dataclass
class TableTap:
    """`async with TableTap(azurite.port).open() as tap`. Without `target` it closes each connection."""

    target: int | None = None
    most: float = math.inf
    """After so many requests, it closes their connections."""
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear it to hold requests back."""
    returning: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear it to hold responses back."""
    request_arrived: asyncio.Event = field(default_factory=asyncio.Event)
    loses_responses: bool = False
    """It closes the connection instead of passing a response."""
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def connection_string(self) -> str:
        return connection_string(self.port)

    def reads_of(self, text: str) -> int:
        return sum(text in request for request in self.requests)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Self]:
        self.passing.set()
        self.returning.set()
        server = await asyncio.start_server(self._serve, ports.HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Cuts all connections, and refuses new ones until the block ends."""
        target, self.target = self.target, None
        for writer in self._open:
            writer.transport.abort()
        yield
        self.target = target

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.target is None:
            writer.close()
            return
        with suppress(OSError):
            responses, requests = await asyncio.open_connection(ports.HOST, self.target)
            self._open |= {requests, writer}
            await asyncio.gather(self._forward(reader, requests), self._return(responses, writer))
            self._open -= {requests, writer}

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                lines = (line for line in data.split(b"\r\n") if line.endswith(b"HTTP/1.1"))
                self.requests += [line.decode("latin-1") for line in lines]
                self.request_arrived.set()
                await self.passing.wait()
                if len(self.requests) > self.most:
                    break
                writer.write(data)
        writer.close()

    async def _return(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self.returning.wait()
                if self.loses_responses:
                    break
                writer.write(data)
        writer.close()
