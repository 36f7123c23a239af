"""Responses of all forms: our connections must read them as the client of aiohttp does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from shared.upstream.connections import Connections, Target, UpstreamBody
from shared.upstream.response import ConnectionFailed
from tests.wire import Peer, scripted_upstream

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
JSON = OK + b'content-type: application/json\r\ncontent-length: 11\r\n\r\n{"a":"b c"}'


class Case(NamedTuple):
    data: bytes
    closes: bool = False
    """The upstream closes the connection after the data."""
    has_early_data: bool = False
    """Data comes before the next request. aiohttp may read it as the response to that request."""
    aiohttp_hangs: bool = False
    """If the data arrives byte by byte, the client of aiohttp 3.14.5 waits forever."""


CASES = {
    "a length": Case(JSON),
    "chunks": Case(CHUNKED + b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n"),
    "chunks with a trailer": Case(CHUNKED + b"3\r\nabc\r\n0\r\nx-after: 1\r\n\r\n"),
    "until the close": Case(OK + b"\r\nall that comes", closes=True),
    "until the close, empty": Case(OK + b"\r\n", closes=True),
    "connection: close": Case(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab", closes=True),
    "connection: close, left open": Case(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab"),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab"),
    "HTTP/1.0, kept open": Case(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab"),
    "no content": Case(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": Case(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    "an empty body": Case(OK + b"content-length: 0\r\n\r\n"),
    "100 before the response": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + JSON),
    "102 and 103 before the response": Case(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + JSON
    ),
    "101": Case(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"),
    "a redirect": Case(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    "a status without a reason": Case(b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na"),
    "an unknown status": Case(b"HTTP/1.1 799 Odd\r\ncontent-length: 1\r\n\r\na"),
    "a header twice": Case(OK + b"x-a: 1\r\nx-a: 2\r\ncontent-length: 1\r\n\r\na"),
    "a header over two lines": Case(OK + b"x-a: 1\r\n  2\r\ncontent-length: 1\r\n\r\na"),
    "an empty header": Case(OK + b"x-a:\r\ncontent-length: 1\r\n\r\na"),
    "a header beyond ASCII": Case(OK + b"x-a: caf\xc3\xa9 \xff\r\ncontent-length: 1\r\n\r\na"),
    "a header without a colon": Case(OK + b"x-a\r\ncontent-length: 1\r\n\r\na", closes=True),
    "lines that end in LF": Case(b"HTTP/1.1 200 OK\ncontent-length: 1\n\na", closes=True),
    "compressed": Case(OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00"),
    "128 headers": Case(OK + b"x-a: 1\r\n" * 127 + b"content-length: 1\r\n\r\na"),
    "200 headers": Case(OK + b"x-a: 1\r\n" * 199 + b"content-length: 1\r\n\r\na", closes=True),
    "too many headers": Case(OK + b"x-a: 1\r\n" * 5000, closes=True),
    "a header of 10 kB": Case(OK + b"x-a: " + b"a" * 10_000 + b"\r\n\r\n", closes=True),
    "a name of 10 kB": Case(OK + b"a" * 10_000 + b": 1\r\n\r\n", closes=True),
    "a status line of 10 kB": Case(b"HTTP/1.1 200 " + b"a" * 10_000 + b"\r\n\r\n", closes=True),
    "two lengths": Case(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", closes=True),
    "a length and chunks": Case(
        OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", closes=True
    ),
    "an invalid length": Case(OK + b"content-length: -1\r\n\r\na", closes=True),
    "an invalid chunk size": Case(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", closes=True),
    "a bad chunk after a good one": Case(
        CHUNKED + b"3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n", closes=True, aiohttp_hangs=True
    ),
    "a chunk longer than its size": Case(CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", closes=True, aiohttp_hangs=True),
    "cut in the status": Case(b"HTTP/1.", closes=True),
    "cut in the head": Case(OK + b"content-le", closes=True),
    "cut in the body": Case(OK + b"content-length: 9\r\n\r\nabc", closes=True),
    "cut between chunks": Case(CHUNKED + b"3\r\nabc\r\n", closes=True),
    "cut in a chunk": Case(CHUNKED + b"9\r\nabc", closes=True),
    "cut before the last CRLF": Case(CHUNKED + b"3\r\nabc\r\n0\r\n", closes=True),
    "only 100": Case(b"HTTP/1.1 100 Continue\r\n\r\n", closes=True),
    "nothing": Case(b"", closes=True),
    "another protocol": Case(b"SSH-2.0-OpenSSH_9.6\r\n", closes=True),
    "zeros": Case(b"\x00" * 100, closes=True),
    "a TLS alert": Case(b"\x15\x03\x01\x00\x02\x02\x46", closes=True),
    "HTTP/2": Case(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", closes=True),
    "HTTP/3.7": Case(b"HTTP/3.7 200 OK\r\ncontent-length: 1\r\n\r\na", closes=True),
    "a request": Case(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", closes=True),
    "a body longer than its length": Case(OK + b"content-length: 1\r\n\r\nabc"),
    "two responses": Case(JSON + JSON, has_early_data=True),
}


class Outcome(NamedTuple):
    """How a client read the response. The status is None if the call failed."""

    status: int | None
    headers: list[tuple[str, str]]
    body: bytes | None
    """None if it was cut."""
    connections: int | None
    """After a second request. None if only ours notices that the first one cannot be used for it."""


Read = tuple[int | None, list[tuple[str, str]], bytes | None]
Call = Callable[[], Awaitable[Read]]


@asynccontextmanager
async def our_client(url: URL) -> AsyncIterator[Call]:
    async def call() -> Read:
        try:
            response = await connections.send(Target(url, {}), b"", UpstreamBody(b"{}"))
        except ConnectionFailed:
            return None, [], None
        try:
            return response.status, list(response.headers.items()), await response.read_all()
        except ConnectionFailed:
            return response.status, list(response.headers.items()), None
        finally:
            response.close()

    connections = Connections(connect_seconds=5, keep_alive_seconds=50)
    try:
        yield call
    finally:
        await connections.close()


@asynccontextmanager
async def aiohttp_client(url: URL) -> AsyncIterator[Call]:
    async def call() -> Read:
        try:
            response = await session.post(url, data=b"{}", allow_redirects=False)
        except (aiohttp.ClientError, OSError):
            return None, [], None
        try:
            return response.status, list(response.headers.items()), await response.read()
        except (aiohttp.ClientError, OSError):
            return response.status, list(response.headers.items()), None
        finally:
            response.close()

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield call


Client = Callable[[URL], AbstractAsyncContextManager[Call]]


async def outcome(client: Client, case: Case, *, slowly: bool) -> Outcome:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(case.data, slowly=slowly)
            if case.closes:
                return

    async with scripted_upstream(script) as wire, asyncio.timeout(20):
        async with client(URL(f"http://127.0.0.1:{wire.port}/")) as call:
            first = await call()
            await call()
        differs = case.closes or case.has_early_data
        return Outcome(*first, connections=None if differs else wire.connections)


AT_ONCE = [(case, False) for case in CASES.values()]
SLOWLY = [(case, True) for case in CASES.values() if len(case.data) < 2000 and not case.aiohttp_hangs]


def name_of(value: object) -> str:
    return next((name for name, case in CASES.items() if case is value), "slowly" if value else "at once")


@pytest.mark.parametrize(("case", "slowly"), AT_ONCE + SLOWLY, ids=name_of)
async def test_a_response_is_read_as_by_the_client_of_aiohttp(case: Case, slowly: bool) -> None:
    assert await outcome(our_client, case, slowly=slowly) == await outcome(
        aiohttp_client, case, slowly=slowly
    )


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.aiohttp_hangs], ids=name_of)
async def test_an_invalid_chunk_after_a_valid_one_ends_the_call(case: Case) -> None:
    assert (await outcome(our_client, case, slowly=True)).body is None
