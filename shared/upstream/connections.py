"""Sends requests to an upstream with aiohttp's connections and parser, but without its ClientSession.

The library provides the pool, DNS, TLS and the parser. The objects that a session builds for every call (a
request, a writer, a task, a response, cookies, timers) are left out: docs/decisions/0050 has the figures.

A POST is never repeated once a byte of it was written: a model that has received it may work on it, and the
end of a connection does not say whether it does (RFC 9110, 9.2.2). If a kept connection was closed before
that, the request goes out on another one.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Mapping
from functools import cached_property, lru_cache, partial

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from yarl import URL

from .response import FAILURES, ConnectionFailed, Content, UpstreamResponse

AT_ONCE_BYTES = 64 * 1024
"""A longer body is sent in pieces of this size: in one piece it would delay all other calls."""

MOST_TOGETHER = 14
"""The most requests that are written together. With more, each call waits for all the others."""

MOST_UNUSABLE = 3
"""After this many connections on which data came before a request was sent, a send fails."""

_CONTROLS = bytes({*range(32), 127} - {9})


class UpstreamBody:
    """The body of a request, and whether any of it may have been sent. If not, the call is not charged."""

    __slots__ = ("content", "is_sent", "is_urgent", "is_withdrawn")

    def __init__(self, content: bytes, *, is_urgent: bool = False) -> None:
        self.content = content
        self.is_urgent = is_urgent
        """Whether it is sent at once. Others are sent with all requests of the same turn of the loop."""
        self.is_sent = False
        self.is_withdrawn = False
        """Whether it must not be sent any more. The call is then cancelled, but only in the next turn."""


class _Request(aiohttp.ClientRequest):
    @cached_property
    def connection_key(self) -> ConnectionKey:
        """Built once for each target. aiohttp would build it for each request."""
        return super().connection_key


class _Handler(ResponseHandler):
    """One connection. Its attributes are slots: Python looks up aiohttp's in a dictionary each time."""

    __slots__ = (
        "_buffer",
        "_closed",
        "_connection_lost_called",
        "_data_received_cb",
        "_eof",
        "_exception",
        "_payload",
        "_payload_parser",
        "_payload_parser_failed",
        "_read_bufsize",
        "_read_timeout",
        "_read_timeout_handle",
        "_should_close",
        "_skip_payload",
        "_tail",
        "_timeout_ceil_threshold",
        "_timer",
        "_waiter",
    )

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp calls it for each piece of a body, paused or not: a seventh of the cost of a chunk."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


class Target:
    """Where requests go: the key of their connections, and the lines with which each request begins."""

    def __init__(self, url: URL, headers: Mapping[bytes, bytes], method: str = "POST") -> None:
        """Create it inside the running loop. All requests have `headers`.

        Raises:
            ConnectionFailed: `url` is not an HTTP address, or a header cannot be sent.
        """
        if url.scheme not in {"http", "https"} or not url.raw_host:
            raise ConnectionFailed("not an HTTP address")
        self.request = _Request(method, url, loop=asyncio.get_running_loop())
        host = header(b"host", self.request.headers["host"].encode())
        shared = b"".join(header(name, value) for name, value in headers.items())
        self.head = b"%b %b HTTP/1.1\r\n%b%b" % (method.encode(), url.raw_path_qs.encode(), host, shared)


def header(name: bytes, value: bytes) -> bytes:
    """One line of a request's head.

    Raises:
        ConnectionFailed: the value has a control character, which could begin another line.
    """
    if len(value.translate(None, _CONTROLS)) < len(value):
        raise ConnectionFailed(f"the header {name.decode()} has a control character")
    return b"%b: %b\r\n" % (name, value)


class Connections:
    """The connections to all targets. Idle ones are kept for the next request."""

    def __init__(self, connect_seconds: float, keep_alive_seconds: float) -> None:
        """Create it inside the running loop."""
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive_seconds)
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_seconds)
        self._loop = asyncio.get_running_loop()
        self._connector._factory = partial(_Handler, loop=self._loop)  # type: ignore[assignment] # private
        self._waiting: list[tuple[asyncio.WriteTransport, bytes, UpstreamBody]] = []
        """Short requests, to be written together."""
        self._reading: dict[ResponseHandler, aiohttp.StreamReader] = {}
        """The latest response body on each connection that is watched."""

    async def send(self, target: Target, headers: bytes, body: UpstreamBody) -> UpstreamResponse:
        """Post `body`, and wait for the response's status and headers. `headers` are lines made by `header`.

        Raises:
            ConnectionFailed: no connection, or it was closed before a response.
        """
        head = b"%b%bcontent-length: %d\r\n\r\n" % (target.head, headers, len(body.content))
        last: Exception | None = None
        for _ in range(2):
            try:
                connection, protocol = await self._connect(target)
            except FAILURES as error:
                raise ConnectionFailed(f"no connection: {type(error).__name__}") from error
            try:
                return await self._send(connection, protocol, head, body)
            except FAILURES as error:
                last = error
                if body.is_sent:
                    break
        raise ConnectionFailed(f"no response: {type(last).__name__}") from last

    async def _send(
        self, connection: Connection, protocol: ResponseHandler, head: bytes, body: UpstreamBody
    ) -> UpstreamResponse:
        """Raises one of FAILURES."""
        writing = None
        try:
            writing = self._write(protocol, head, body)
            message, content = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # informational
                message, content = await protocol.read()
            if not content.is_eof():
                content.__class__ = Content  # the parser has no setting for it
                self._watch(protocol, content)
        except BaseException:
            if writing is not None:
                writing.cancel()
            connection.close()
            raise
        return UpstreamResponse(connection, writing, message.code, message.headers, content)

    async def close(self) -> None:
        await self._connector.close()

    async def _connect(self, target: Target) -> tuple[Connection, ResponseHandler]:
        """A connection that is open, and ready for a response."""
        early = 0
        while early < MOST_UNUSABLE:
            connection = await self._connector.connect(target.request, [], self._timeout)
            protocol = connection.protocol
            if protocol is None or protocol.should_close:
                early += (
                    1  # the pool checks only that it is open; the early data would be read as our response
                )
            elif protocol._parser is None or not _has_input(protocol.transport):
                protocol.set_response_params(read_until_eof=True, auto_decompress=False)
                return connection, protocol  # new, or still open
            connection.close()
        raise aiohttp.ClientConnectionError("data came before a request was sent")

    def _write(self, protocol: ResponseHandler, head: bytes, body: UpstreamBody) -> asyncio.Task[None] | None:
        """Send the request. A long one is sent by a task, which is returned: the response may come earlier.

        A short request is sent at once if it is urgent. Others are sent together at the end of this turn of
        the loop, so that the reader of several is woken only once (docs/decisions/0057).
        """
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
        """End a read when the connection closes. After a broken chunk, aiohttp's would wait forever."""
        if protocol not in self._reading:
            if protocol.closed is None:  # already: what came before is still read
                _end_read(content)
                return
            protocol.closed.add_done_callback(partial(self._closed, protocol))
        self._reading[protocol] = content

    def _closed(self, protocol: ResponseHandler, closed: asyncio.Future[None]) -> None:
        if not closed.cancelled():
            closed.exception()  # aiohttp raises it in the reader too, so asyncio need not log it
        _end_read(self._reading.pop(protocol))


def _end_read(content: aiohttp.StreamReader) -> None:
    """The connection is closed. If that was within the body, a read fails from now on."""
    if not content.is_eof() and content.exception() is None:
        content.set_exception(aiohttp.ClientPayloadError("closed within the body"))


def _has_input(transport: asyncio.Transport | None) -> bool:
    """Whether the upstream has closed an idle connection or sent data. The loop reports it in its next turn.

    A request that is written after the close is lost, and could not be repeated safely.
    """
    if transport is None:
        return True
    number = transport.get_extra_info("socket").fileno()
    if sys.platform == "win32":
        return bool(select.select([number], [], [], 0)[0])
    return bool(_input_of(number).poll(0))


@lru_cache(maxsize=4096)
def _input_of(number: int) -> select.poll:
    """Polls a socket for input. Kept by its number, which later sockets use again."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return poll


def _write_whole(transport: asyncio.WriteTransport, head: bytes, body: UpstreamBody) -> None:
    """Write nothing if the call was cancelled: its connection is closed then."""
    if not transport.is_closing() and not body.is_withdrawn:
        body.is_sent = True
        transport.write(head + body.content)


async def _write_pieces(protocol: ResponseHandler, head: bytes, body: UpstreamBody) -> None:
    """Write as fast as the upstream reads. Errors are ignored: reading the response fails as well."""
    if protocol.transport is None or protocol.transport.is_closing() or body.is_withdrawn:
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
