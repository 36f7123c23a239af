"""A response, and how it goes over the wire chunk by chunk."""

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from aiohttp import web

from .journal import NOTHING, Bell, Entry, Headers, Usage

Ending = Literal["clean", "close", "reset"]
"""How a response ends: in good order, or its connection is closed (FIN) or reset (TCP RST)."""

_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # closing then sends RST, not FIN
_STEP_SECONDS = 0.05
_TYPED = web.ResponseKey("typed", bool)


class Gate:
    """Holds responses where a test wants them, so that no test has to guess with a sleep.

    The status with the headers passes first, then chunk 1, 2, 3... A chunk is a stream event or a whole body.
    """

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._open = -1
        self._entries: list[Entry] = []

    def open(self, chunks: int) -> None:
        """Let the status and the first `chunks` chunks of each response pass (0: only the status)."""
        self._open = max(self._open, chunks)
        self._bell.ring()

    def open_all(self) -> None:
        self.open(sys.maxsize)

    async def arrived(self, calls: int = 1) -> None:
        """Wait until that many calls are at the gate. Raises TimeoutError."""
        async with asyncio.timeout(5):
            await self._bell.until(lambda: len(self._entries) >= calls)

    async def reached(self, chunks: int) -> None:
        """Wait until a call has sent that many chunks (0: the status). Raises TimeoutError."""
        async with asyncio.timeout(5):
            await self._bell.until(lambda: any(entry.has_sent(chunks) for entry in self._entries))

    async def admit(self, entry: Entry, number: int) -> None:
        """Wait until chunk `number` may pass (0: the status)."""
        if number == 0:
            self._entries.append(entry)
            self._bell.ring()
        await self._bell.until(lambda: self._open >= number)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one write, the completion tokens in them, and the usage that they report."""

    data: bytes
    tokens: int = 0
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """`status` None: no HTTP, the chunks go to the bare socket. `length` None: the response is a stream.

    `work` is billed before the first chunk: of a stream, its prompt and its reasoning; else all of it.
    """

    status: int | None
    headers: Headers = ()
    chunks: tuple[Chunk, ...] = ()
    length: int | None = None
    ending: Ending = "clean"
    headers_seconds: float = 0.0
    between_seconds: float = 0.0
    gate: Gate | None = None
    work: Usage = NOTHING
    reasoning_seconds: float = 0.0

    def at_pace(self, tokens_per_second: float) -> "Response":
        """The same, as slow as a model that writes so many tokens a second (0: full speed)."""
        if not tokens_per_second or not any(chunk.tokens for chunk in self.chunks):
            return self
        seconds = self.work.completion_tokens / tokens_per_second
        if self.length is None:
            between = self.between_seconds or 1 / tokens_per_second
            return replace(self, reasoning_seconds=seconds, between_seconds=between)
        return replace(self, headers_seconds=self.headers_seconds + seconds)


async def send(request: web.Request, response: Response, entry: Entry) -> web.StreamResponse:
    """Raises ConnectionError or CancelledError when the client has left."""
    if response.ending == "reset" and request.transport is not None:
        request.transport.set_write_buffer_limits(high=0)  # so that drain() waits for the last byte
    await _work(response, entry)
    await asyncio.sleep(response.headers_seconds)
    if response.gate is not None:
        await response.gate.admit(entry, 0)
    stream = _prepared(response)
    if response.status is None:
        _send_bare(request, response)
    else:
        await stream.prepare(request)
        entry.note(status=response.status)
        await _send_chunks(stream, response, entry)
    await _end(request, stream, response.ending, entry)
    return stream


async def _work(response: Response, entry: Entry) -> None:
    """Bill what precedes the first chunk. Work on a whole response goes on though its client leaves."""
    work, seconds = response.work, response.reasoning_seconds
    steps = max(1, ceil(seconds / _STEP_SECONDS))
    for step in range(1, steps + 1):
        entry.note(billed=replace(work, completion_tokens=work.completion_tokens * step // steps))
        await asyncio.sleep(seconds / steps)


async def strip_headers(_request: web.BaseRequest, stream: web.StreamResponse) -> None:
    """Remove the headers that aiohttp adds: the server's name, and the content type if we have none."""
    stream.headers.pop("Server", None)
    if not stream.get(_TYPED, True):
        stream.headers.pop("Content-Type", None)


def _prepared(response: Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status or 200)
    for name, value in response.headers:
        stream.headers.add(name, value)
    stream[_TYPED] = "content-type" in stream.headers
    stream.content_length = response.length
    return stream


async def _send_chunks(stream: web.StreamResponse, response: Response, entry: Entry) -> None:
    for number, chunk in enumerate(response.chunks, start=1):
        pause = response.between_seconds if number > 1 else 0.0
        await asyncio.sleep(pause)  # even for 0 seconds, so that each event is sent by itself
        if response.gate is not None:
            await response.gate.admit(entry, number)
        call, billed = entry.call, entry.call.billed
        if response.length is None and chunk.tokens:  # a chunk is billed though it stays in a buffer
            entry.note(billed=replace(billed, completion_tokens=billed.completion_tokens + chunk.tokens))
        await stream.write(chunk.data)
        entry.note(chunks=number, tokens=call.tokens + chunk.tokens, usage=chunk.usage or call.usage)


def _send_bare(request: web.Request, response: Response) -> None:
    for chunk in response.chunks:
        if request.transport is not None:
            request.transport.write(chunk.data)


async def _end(request: web.Request, stream: web.StreamResponse, ending: Ending, entry: Entry) -> None:
    if ending == "clean":
        await stream.write_eof()
        entry.note(finished=True)
        return
    if ending == "reset":
        await request.writer.drain()
    entry.note(finished=True)
    _close(request.transport, ending)


def _close(transport: asyncio.Transport | None, ending: Ending) -> None:
    """A close sends what is in the buffer first; a reset does not."""
    if transport is None:
        return
    if ending == "close":
        transport.close()
        return
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
