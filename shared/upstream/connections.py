"""Posts to an upstream over aiohttp's connections and its parser, without its ClientSession.

The pool, DNS, TLS and the parser are the library's; what a session builds for every call (a request, a
writer, a task, a response, cookies, timers) is not. A POST is never repeated: the upstream may have seen it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import StreamWriter
from yarl import URL

AT_ONCE_BYTES: Final = 64 * 1024
"""A longer body goes out in pieces of this size: a large one at once would hold up everybody else."""

MOST_TOGETHER: Final = 14
"""Requests that wait for one another. With more, calls stay in step, and each waits for all the others."""

MOST_SPOILT: Final = 3
"""Kept connections on which something came that nobody asked for, in a row."""

_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, aiohttp.EofStream, OSError)
_CONTROLS: Final = bytes({*range(32), 127} - {9})


class ConnectionFailed(Exception):
    """The other side could not be reached, hung up, cut its answer, or does not speak HTTP.

    The text names the kind of failure, never an address or what was sent.
    """


class Body(Protocol):
    """A request's bytes, and whether any of them may have gone out."""

    content: bytes
    is_urgent: bool
    """Goes out at once; another waits for what else is ready now."""
    is_sent: bool


class _Request(aiohttp.ClientRequest):
    @cached_property
    def connection_key(self) -> ConnectionKey:
        """Of all requests to one target: aiohttp would put it together for each."""
        return super().connection_key


class Target:
    """Where requests go, prepared once: what finds their connection, and how each of them begins."""

    def __init__(self, url: URL, headers: Mapping[bytes, bytes]) -> None:
        """`headers` are those that all requests share. To be made inside the running loop.

        Raises:
            ConnectionFailed: no address of HTTP, or a header that cannot be sent.
        """
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise ConnectionFailed("no address of HTTP")
        self.request = _Request("POST", url, loop=asyncio.get_running_loop())
        host = header(b"host", self.request.headers["host"].encode())
        shared = b"".join(header(name, value) for name, value in headers.items())
        self.head = b"POST %b HTTP/1.1\r\n%b%b" % (url.raw_path_qs.encode(), host, shared)


def header(name: bytes, value: bytes) -> bytes:
    """One line of a head.

    Raises:
        ConnectionFailed: the value holds a control character, which could begin another line.
    """
    if len(value.translate(None, _CONTROLS)) < len(value):
        raise ConnectionFailed(f"the header {name.decode()} holds a control character")
    return b"%b: %b\r\n" % (name, value)


class Response:
    """An answer: its status and headers are here, its body is read from it."""

    __slots__ = ("_connection", "_content", "_writing", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        writing: asyncio.Task[None] | None,
        status: int,
        headers: Mapping[str, str],
        content: aiohttp.StreamReader,
    ) -> None:
        self.status = status
        self.headers = headers
        """Of any case."""
        self._connection = connection
        self._writing = writing
        self._content = content

    async def read(self) -> bytes:
        """What has arrived since the last call; empty at the end.

        Raises:
            ConnectionFailed: the answer was cut, or `close` was called.
        """
        try:
            data = await self._content.readany()
        except _FAILURES as error:
            raise self._cut(error) from error
        if self._content.at_eof():
            self._leave()
        return data

    async def read_all(self) -> bytes:
        """The rest of the body.

        Raises:
            ConnectionFailed: the answer was cut, or `close` was called.
        """
        content = self._content
        try:
            data = content.read_nowait() if content.is_eof() else await content.read()
        except _FAILURES as error:
            raise self._cut(error) from error
        self._leave()
        return data

    def close(self) -> None:
        """End it now, for whoever reads it too. A connection whose answer did not come whole is closed."""
        if not self._content.is_eof():
            self._content.set_exception(aiohttp.ClientConnectionError("closed"))
        self._leave()

    def _cut(self, error: Exception) -> ConnectionFailed:
        self.close()
        return ConnectionFailed(f"the answer was cut: {type(error).__name__}")

    def _leave(self) -> None:
        """Keep the connection for the next request, where both sides are done with this one."""
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
            self._connection.close()
        self._connection.release()


class Connections:
    """Connections to all targets, kept for the next request while idle. One for the life of the process."""

    def __init__(self, connect_seconds: float, keep_alive_seconds: float) -> None:
        """To be made inside the running loop."""
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive_seconds)
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_seconds)
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.WriteTransport, bytes, Body]] = []
        """Short requests that will be written together."""
        self._reading: dict[ResponseHandler, aiohttp.StreamReader] = {}
        """The latest body on each connection that is watched."""

    async def send(self, target: Target, headers: bytes, body: Body) -> Response:
        """Post `body` and wait for the answer's head. `headers` are further lines, made by `header`.

        Raises:
            ConnectionFailed: the other side could not be reached, or hung up before its answer.
        """
        try:
            connection = await self._connect(target)
        except _FAILURES as error:
            raise ConnectionFailed(f"no connection: {type(error).__name__}") from error
        head = b"%b%bcontent-length: %d\r\n\r\n" % (target.head, headers, len(body.content))
        writing = None
        try:
            protocol = _prepared(connection)
            writing = self._write(protocol, head, body)
            status, fields, content = await _answer(protocol)
            if not content.is_eof():
                self._watch(protocol, content)
        except BaseException as error:
            if writing is not None:
                writing.cancel()
            connection.close()
            if isinstance(error, _FAILURES):
                raise ConnectionFailed(f"no answer: {type(error).__name__}") from error
            raise
        return Response(connection, writing, status, fields, content)

    async def close(self) -> None:
        await self._connector.close()

    async def _connect(self, target: Target) -> Connection:
        for _ in range(MOST_SPOILT):
            connection = await self._connector.connect(target.request, [], self._timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            # The pool looks only whether it is open. What came unasked would be taken for our answer.
            connection.close()
        raise aiohttp.ClientConnectionError("data came before a request was sent")

    def _write(self, protocol: ResponseHandler, head: bytes, body: Body) -> asyncio.Task[None] | None:
        """Send a short request: an urgent one at once, others together at the end of the turn of the loop, so
        that a reader of several is woken once (docs/decisions/0057). A task sends a long one: the response
        may come before its end."""
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ServerDisconnectedError
        if len(body.content) > AT_ONCE_BYTES:
            return self._loop.create_task(_write_pieces(protocol, head, body))
        if body.is_urgent:
            _write_whole(transport, head, body)
            return None
        if not self._waiting:
            self._loop.call_soon(self._write_waiting)
        self._waiting.append((transport, head, body))
        if len(self._waiting) >= MOST_TOGETHER:
            self._write_waiting()
        return None

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport, head, body in waiting:
            _write_whole(transport, head, body)

    def _watch(self, protocol: ResponseHandler, content: aiohttp.StreamReader) -> None:
        """For where a chunk is broken: aiohttp closes the connection, and leaves its reader to wait."""
        if protocol not in self._reading:
            if protocol.closed is None:
                raise aiohttp.ServerDisconnectedError
            protocol.closed.add_done_callback(partial(self._closed, protocol))
        self._reading[protocol] = content

    def _closed(self, protocol: ResponseHandler, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # taken note of: the reader is told by aiohttp
        content = self._reading.pop(protocol)
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("closed within the body"))


def _prepared(connection: Connection) -> ResponseHandler:
    protocol = connection.protocol
    if protocol is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    return protocol


def _write_whole(transport: asyncio.WriteTransport, head: bytes, body: Body) -> None:
    """Unless the call was given up meanwhile, which closes its connection."""
    if not transport.is_closing():
        body.is_sent = True
        transport.write(head + body.content)


async def _write_pieces(protocol: ResponseHandler, head: bytes, body: Body) -> None:
    """As fast as the other side takes them. What goes wrong is told by the answer, or by its lack."""
    if protocol.transport is None or protocol.transport.is_closing():
        return
    writer = StreamWriter(protocol, asyncio.get_running_loop())
    body.is_sent = True
    try:
        await writer.write(head)
        for start in range(0, len(body.content), AT_ONCE_BYTES):
            await writer.write(body.content[start : start + AT_ONCE_BYTES])
            await writer.drain()
    except (aiohttp.ClientError, OSError):
        return


async def _answer(protocol: ResponseHandler) -> tuple[int, Mapping[str, str], aiohttp.StreamReader]:
    """The final answer's head, and its body as it comes."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            return message.code, message.headers, content
