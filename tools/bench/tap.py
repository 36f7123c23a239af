"""A relay before the tables that counts the requests which pass it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Tap:
    def __init__(self, target: int) -> None:
        self.port = 0
        self.requests = 0
        self._target = target

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                _pump(reader, far_writer, self._count), _pump(far_reader, writer, lambda _: None)
            )

    def _count(self, data: bytes) -> None:
        self.requests += data.count(b" HTTP/1.1\r\n")


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, see: Callable[[bytes], None]
) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            see(data)
            writer.write(data)
    writer.close()


@asynccontextmanager
async def tapped(port: int) -> AsyncIterator[Tap]:
    tap = Tap(port)
    server = await asyncio.start_server(tap.connect, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()
