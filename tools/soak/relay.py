"""A relay before the tables that can refuse connections, or hold all bytes, for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tools import ports


class Relay:
    def __init__(self, target: int) -> None:
        self._target = target
        self._refuses = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._open = set[asyncio.StreamWriter]()

    async def listen(self) -> asyncio.Server:
        """On any free port. Close the server to end."""
        return await asyncio.start_server(self._serve, ports.HOST, 0)

    @asynccontextmanager
    async def failing(self, *, refuses: bool) -> AsyncIterator[None]:
        """Cuts and refuses connections, or else holds what they carry, until the block ends."""
        self._refuses = refuses
        if refuses:
            for writer in self._open:
                writer.transport.abort()
        else:
            self._passing.clear()
        yield
        self._refuses = False
        self._passing.set()

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refuses:
            client.transport.abort()
            return
        responses, server = await asyncio.open_connection(ports.HOST, self._target)
        self._open |= {client, server}
        await asyncio.gather(self._pass(requests, server), self._pass(responses, client))
        self._open -= {client, server}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one side has closed the connection
        finally:
            writer.close()
