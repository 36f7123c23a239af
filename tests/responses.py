"""Whole responses, as they arrive on the wire."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp


@dataclass(frozen=True)
class WireResponse:
    """A whole response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool = False
    """Whether the connection was closed before the end of the body."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


async def read_body(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body, and whether the connection was closed before its end."""
    pieces = []
    try:
        async for piece in response.content.iter_any():
            pieces.append(piece)
    except aiohttp.ClientPayloadError:
        return b"".join(pieces), True
    return b"".join(pieces), False


async def response_of(request: aiohttp.client._RequestContextManager) -> WireResponse:
    """Send the request, as `stage.post(...)` makes it, and read the whole response."""
    async with request as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return WireResponse(response.status, headers, *await read_body(response))


def parse_response(data: bytes) -> WireResponse:
    """Parse a response whose connection is closed after it. A chunked body keeps its chunk lines."""
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    return WireResponse(int(status.split()[1]), headers, body)


async def send_raw(url: str, lines: list[bytes], body: bytes = b"") -> WireResponse:
    """Send a request line and headers of any bytes, also those that no client library sends."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    length = b"content-length: %d" % len(body)
    writer.write(b"\r\n".join([*lines, b"host: test", b"connection: close", length, b"", b""]) + body)
    try:
        async with asyncio.timeout(30):
            return parse_response(await reader.read())
    finally:
        writer.close()
