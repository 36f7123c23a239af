"""An upstream's response, read from its connection."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError

from .decoding import CannotDecode, Decoder, decoder

LINGER_SECONDS = 1.0
"""How long the end of a response may take to arrive after the last byte of interest."""

FAILURES = (aiohttp.ClientError, HttpProcessingError, aiohttp.EofStream, OSError)
"""What aiohttp raises if a connection fails, or has no valid HTTP."""


class ConnectionFailed(Exception):
    """No connection, a connection that was closed, a response that was cut, or no valid HTTP.

    The text names the kind of failure, but never an address or the content of a request.
    """


class NotDecoded(ConnectionFailed):
    """The response is compressed in a way that the proxy cannot decode."""


class _Closed(aiohttp.ClientConnectionError):
    """`UpstreamResponse.close` was called."""


class Content(aiohttp.StreamReader):
    """The body of a response of which a part is still to come.

    aiohttp's notes where each HTTP chunk ends, takes them one by one, and has a timer for each read.
    """

    __slots__ = ()

    def begin_http_chunk_receiving(self) -> None:
        """Do nothing."""

    def end_http_chunk_receiving(self) -> None:
        """Do nothing."""

    async def readany(self) -> bytes:
        if self._exception is not None:
            raise self._exception
        while not self._buffer and not self._eof:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._read_nowait(-1)

    def _read_nowait(self, _: int) -> bytes:
        data = b"".join(self._buffer)
        self._buffer.clear()
        self._size = 0
        self._protocol.resume_reading()
        return data


class UpstreamResponse:
    """An upstream's response. Its status and headers have arrived; the body is read from it."""

    __slots__ = ("_connection", "_content", "_decoder", "_timer", "_writing", "at_end", "headers", "status")

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
        """Upper and lower case of a name do not matter."""
        self.at_end = False
        """Whether the whole body was read."""
        self._connection = connection
        self._writing = writing
        self._content = content
        self._decoder: Decoder | None = None
        self._timer: asyncio.TimerHandle | None = None

    def decode(self) -> None:
        """Decompress the body, if it is compressed. Call it before the body is read.

        Raises:
            NotDecoded: the encoding is not known.
        """
        encoding = self.headers.get("content-encoding")
        if encoding is not None:
            try:
                self._decoder = decoder(encoding)
            except CannotDecode as error:
                raise NotDecoded("unknown content-encoding") from error

    def read(self) -> Coroutine[Any, Any, bytes]:
        """The bytes that have arrived since the last call; empty at the end.

        Raises:
            ConnectionFailed: the response was cut, cannot be decoded, or `close` was called.
        """
        return self._read() if self._decoder is None else self._read_decoded(self._decoder)

    def read_arrived(self) -> bytes | None:
        """The whole body if all of it has arrived, as after most short responses. None: use `read_all`."""
        content = self._content
        if self._decoder is not None or not content.is_eof() or content.exception() is not None:
            return None
        self.at_end = True
        data = content.read_nowait()
        self._release()
        return data

    async def read_all(self, most_bytes: int = sys.maxsize) -> bytes:
        """The rest of the body. If it is longer than `most_bytes`, a part of it: `at_end` is false then.

        Raises:
            ConnectionFailed: the response was cut, cannot be decoded, or `close` was called.
        """
        pieces, size = [], 0
        while not self.at_end and size <= most_bytes:
            data = await self.read()
            pieces.append(data)
            size += len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self) -> None:
        """End the response before its last byte. The connection is kept if that byte comes soon."""
        if self._content.is_eof() or self._content.exception() is not None:
            self._release()
        else:
            self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.close)
            self._content.on_eof(self._release)

    def close(self) -> None:
        """End the response. A waiting `read` fails. The connection is kept if the whole response came."""
        if not self._content.is_eof():
            self._content.set_exception(_Closed("closed"))
        self._release()

    async def _read_decoded(self, decoder: Decoder) -> bytes:
        try:
            data = decoder.feed(b"")
            while not data and (received := await self._read()):
                data = decoder.feed(received)
            if not data:
                decoder.end()
        except CannotDecode as error:
            self.close()
            raise NotDecoded("invalid content-encoding") from error
        self.at_end = not data
        return data

    async def _read(self) -> bytes:
        content = self._content
        error = content.exception()
        try:
            if error is None or isinstance(error, _Closed):
                data = await content.readany()
            else:
                data = content._read_nowait(-1)  # what came before the connection failed
                if not data:
                    raise error
        except FAILURES as failure:
            self.close()
            raise ConnectionFailed(f"the response was cut: {type(failure).__name__}") from failure
        self.at_end = content.at_eof()
        if self.at_end:
            self._release()
        return data

    def _release(self) -> None:
        """Keep the connection for the next request, if this one is sent and its response is read."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None and not self._writing.done():
            self._writing.cancel()
            self._connection.close()
        self._connection.release()
