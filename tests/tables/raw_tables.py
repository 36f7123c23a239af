"""A table service that gives every request the same bytes as its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from shared.tables.service import open_service
from shared.tables.tables import Tables
from tools.azurite import connection_string

JSON = b"content-type: application/json"


def answer(status: int, body: bytes = b"", *headers: bytes, length: int | None = None) -> bytes:
    """An HTTP response. With `length`, its announced length is not that of the body."""
    size = b"content-length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([b"HTTP/1.1 %d X" % status, *headers, size, b"connection: close", b"", body])


@asynccontextmanager
async def answering(response: bytes | None) -> AsyncIterator[Tables]:
    """Tables whose service answers with `response`; with None it accepts connections and never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            if response is None:
                await reader.read()
            else:
                writer.write(response)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tables = Tables(open_service(connection_string(port), None))
    try:
        yield tables
    finally:
        await tables.close()
        server.close()
