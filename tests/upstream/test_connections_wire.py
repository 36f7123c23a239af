"""The same bytes, read by ours and by aiohttp's own client: both must make the same of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

import aiohttp
import pytest
from yarl import URL

from shared.upstream.connections import Body, ConnectionFailed, Connections, Target
from tests.wire import Peer, speaking

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
JSON = OK + b'content-type: application/json\r\ncontent-length: 11\r\n\r\n{"a":"b c"}'


class Case(NamedTuple):
    answer: bytes
    closes: bool = False
    """The upstream hangs up after it."""
    hangs_theirs: bool = False
    """Where it comes byte by byte, aiohttp's client waits for ever (in 3.14.5)."""


CASES = {
    "a length": Case(JSON),
    "chunks": Case(CHUNKED + b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\r\n"),
    "chunks with a trailer": Case(CHUNKED + b"3\r\nabc\r\n0\r\nx-after: 1\r\n\r\n"),
    "until the close": Case(OK + b"\r\nall that comes", closes=True),
    "until the close, nothing": Case(OK + b"\r\n", closes=True),
    "connection: close": Case(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab", closes=True),
    "connection: close, left open": Case(OK + b"connection: close\r\ncontent-length: 2\r\n\r\nab"),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab"),
    "HTTP/1.0, kept": Case(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab"),
    "no content": Case(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": Case(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    "an empty body": Case(OK + b"content-length: 0\r\n\r\n"),
    "100 before the answer": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + JSON),
    "102 and 103 before the answer": Case(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + JSON
    ),
    "101": Case(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"),
    "a redirect": Case(b"HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
    "a status without a reason": Case(b"HTTP/1.1 200\r\ncontent-length: 1\r\n\r\na"),
    "a status of its own": Case(b"HTTP/1.1 799 Odd\r\ncontent-length: 1\r\n\r\na"),
    "a header twice": Case(OK + b"x-a: 1\r\nx-a: 2\r\ncontent-length: 1\r\n\r\na"),
    "a header over two lines": Case(OK + b"x-a: 1\r\n  2\r\ncontent-length: 1\r\n\r\na"),
    "a header with nothing in it": Case(OK + b"x-a:\r\ncontent-length: 1\r\n\r\na"),
    "a header beyond ASCII": Case(OK + b"x-a: caf\xc3\xa9 \xff\r\ncontent-length: 1\r\n\r\na"),
    "a header without a colon": Case(OK + b"x-a\r\ncontent-length: 1\r\n\r\na", closes=True),
    "lines that end in LF": Case(b"HTTP/1.1 200 OK\ncontent-length: 1\n\na", closes=True),
    "compressed": Case(OK + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00"),
    "128 headers": Case(OK + b"x-a: 1\r\n" * 127 + b"content-length: 1\r\n\r\na"),
    "200 headers": Case(OK + b"x-a: 1\r\n" * 199 + b"content-length: 1\r\n\r\na", closes=True),
    "headers without end": Case(OK + b"x-a: 1\r\n" * 5000, closes=True),
    "a header of 10 kB": Case(OK + b"x-a: " + b"a" * 10_000 + b"\r\n\r\n", closes=True),
    "a name of 10 kB": Case(OK + b"a" * 10_000 + b": 1\r\n\r\n", closes=True),
    "a status line of 10 kB": Case(b"HTTP/1.1 200 " + b"a" * 10_000 + b"\r\n\r\n", closes=True),
    "two lengths": Case(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", closes=True),
    "a length and chunks": Case(
        OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", closes=True
    ),
    "a length that is none": Case(OK + b"content-length: -1\r\n\r\na", closes=True),
    "a chunk's size that is none": Case(CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", closes=True),
    "a bad chunk after a good one": Case(
        CHUNKED + b"3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n", closes=True, hangs_theirs=True
    ),
    "a chunk longer than it says": Case(CHUNKED + b"1\r\nabc\r\n0\r\n\r\n", closes=True, hangs_theirs=True),
    "cut in the status": Case(b"HTTP/1.", closes=True),
    "cut in the head": Case(OK + b"content-le", closes=True),
    "cut in the body": Case(OK + b"content-length: 9\r\n\r\nabc", closes=True),
    "cut between chunks": Case(CHUNKED + b"3\r\nabc\r\n", closes=True),
    "cut in a chunk": Case(CHUNKED + b"9\r\nabc", closes=True),
    "cut before the last CRLF": Case(CHUNKED + b"3\r\nabc\r\n0\r\n", closes=True),
    "only 100": Case(b"HTTP/1.1 100 Continue\r\n\r\n", closes=True),
    "nothing": Case(b"", closes=True),
    "no HTTP": Case(b"SSH-2.0-OpenSSH_9.6\r\n", closes=True),
    "zeros": Case(b"\x00" * 100, closes=True),
    "an alert of TLS": Case(b"\x15\x03\x01\x00\x02\x02\x46", closes=True),
    "HTTP/2": Case(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", closes=True),
    "HTTP/3.7": Case(b"HTTP/3.7 200 OK\r\ncontent-length: 1\r\n\r\na", closes=True),
    "a request": Case(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", closes=True),
    "more than its length": Case(OK + b"content-length: 1\r\n\r\nabc"),
    "two answers": Case(JSON + JSON),
}


class Outcome(NamedTuple):
    """What a client made of it; no status where the call failed."""

    status: int | None
    headers: list[tuple[str, str]]
    body: bytes | None
    """None where it was cut."""
    connections: int
    """After a second request."""


class Client(Protocol):
    async def ask(self) -> tuple[int | None, list[tuple[str, str]], bytes | None]: ...


class Ours:
    def __init__(self, connections: Connections, url: URL) -> None:
        self._connections = connections
        self._target = Target(url, {})

    async def ask(self) -> tuple[int | None, list[tuple[str, str]], bytes | None]:
        try:
            response = await self._connections.send(self._target, b"", Body(b"{}"))
        except ConnectionFailed:
            return None, [], None
        try:
            return response.status, list(response.headers.items()), await response.read_all()
        except ConnectionFailed:
            return response.status, list(response.headers.items()), None
        finally:
            response.close()


class Theirs:
    def __init__(self, session: aiohttp.ClientSession, url: URL) -> None:
        self._session = session
        self._url = url

    async def ask(self) -> tuple[int | None, list[tuple[str, str]], bytes | None]:
        try:
            response = await self._session.post(self._url, data=b"{}", allow_redirects=False)
        except (aiohttp.ClientError, OSError):
            return None, [], None
        try:
            return response.status, list(response.headers.items()), await response.read()
        except (aiohttp.ClientError, OSError):
            return response.status, list(response.headers.items()), None
        finally:
            response.close()


@asynccontextmanager
async def ours(url: URL) -> AsyncIterator[Client]:
    connections = Connections(connect_seconds=5, keep_alive_seconds=50)
    try:
        yield Ours(connections, url)
    finally:
        await connections.close()


@asynccontextmanager
async def theirs(url: URL) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Theirs(session, url)


async def outcome(of: type[Ours] | type[Theirs], case: Case, *, slowly: bool) -> Outcome:
    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.say(case.answer, slowly=slowly)
            if case.closes:
                return

    async with speaking(script) as wire, asyncio.timeout(20):
        url = URL(f"http://127.0.0.1:{wire.port}/")
        async with ours(url) if of is Ours else theirs(url) as client:
            first = await client.ask()
            await client.ask()
        return Outcome(*first, connections=wire.connections)


AT_ONCE = [(case, False) for case in CASES.values()]
SLOWLY = [(case, True) for case in CASES.values() if len(case.answer) < 2000 and not case.hangs_theirs]


def described(value: object) -> str:
    return next((name for name, case in CASES.items() if case is value), "slowly" if value else "at once")


@pytest.mark.parametrize(("case", "slowly"), AT_ONCE + SLOWLY, ids=described)
async def test_a_response_is_read_as_aiohttps_client_reads_it(case: Case, slowly: bool) -> None:
    assert await outcome(Ours, case, slowly=slowly) == await outcome(Theirs, case, slowly=slowly)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.hangs_theirs], ids=described)
async def test_a_late_broken_chunk_ends_the_call(case: Case) -> None:
    assert (await outcome(Ours, case, slowly=True)).body is None
