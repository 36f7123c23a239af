"""A load generator: N connections, each with one request under way at any time, all of it counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

import httptools

from .scenarios import CHAT, PLAIN_1, RESPONSES, Scenario
from .upstream import TIME, USAGE_AT_END

_TOLERATED_SHARE: Final = 0.001
"""Of responses that are wrong: they are reported, and the figures stay valid."""
_DRAIN_SECONDS: Final = 0.5
_FIRST_SECONDS: Final = 30
_CHUNK: Final = {CHAT: b'"delta":{"content"', RESPONSES: b'"type":"response.output_text.delta"'}
"""In each chunk of the upstream's. A proxy may add some without content."""
_END: Final = {CHAT: b"data: [DONE]\n\n", RESPONSES: USAGE_AT_END}
"""Of a whole stream."""


class Failed(Exception):
    """Too many responses are wrong: the figures would mean nothing."""


@dataclass(slots=True)
class Tally:
    """Counts what arrives. `total` and `failures` are of the whole load, the rest since `reset`."""

    responses: int = 0
    chunks: int = 0
    delays: list[float] = field(default_factory=list)
    """Seconds: for a chunk of a paced stream, since the upstream wrote it; for a plain call, all of it."""
    failures: Counter[str] = field(default_factory=Counter)
    total: int = 0

    def reset(self) -> None:
        self.responses = self.chunks = 0
        self.delays = []

    def check(self) -> None:
        """Raises Failed."""
        if self.failures.total() > self.total * _TOLERATED_SHARE:
            raise Failed(", ".join(f"{count} x {failure}" for failure, count in self.failures.most_common(5)))


class _Connection(asyncio.Protocol):
    def __init__(self, scenario: Scenario, requests: Iterator[bytes], tally: Tally) -> None:
        self._scenario = scenario
        self._requests = requests
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self.stopping = False
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.stopping:
            self._tally.failures["connection lost"] += 1
        self._end()

    def on_body(self, data: bytes) -> None:
        if self._scenario.stream:  # the marker of a chunk may come in two parts
            chunk = _CHUNK[self._scenario.api]
            self._tally.chunks += (self._body[1 - len(chunk) :] + data).count(chunk)
        if self._scenario.paced:
            now = perf_counter()
            self._tally.delays.extend(now - float(at) for at in TIME.findall(data))
        self._body += data

    def on_message_complete(self) -> None:
        tally, status = self._tally, self._parser.get_status_code()
        if status != 200:
            tally.failures[f"status {status}: {self._body[:200].decode(errors='replace')}"] += 1
        elif not self._scenario.stream:
            tally.delays.append(perf_counter() - self._sent_at)
        elif not self._body.endswith(_END[self._scenario.api]):
            tally.failures["stream cut"] += 1
        self._body.clear()
        tally.responses += 1
        tally.total += 1
        if self.stopping:
            self.transport.close()
            self._end()
        else:
            self._send()

    def _send(self) -> None:
        self._sent_at = perf_counter()
        self.transport.write(next(self._requests))

    def _end(self) -> None:
        self.stopping = True
        if not self.ended.done():
            self.ended.set_result(None)


@asynccontextmanager
async def running(port: int, scenario: Scenario, sent: Iterator[bytes]) -> AsyncIterator[Tally]:
    """Load on 127.0.0.1 for the length of the block: `sent` over the connections. Raises Failed."""
    tally, opened = Tally(), list[_Connection]()
    try:
        for _ in range(scenario.connections):
            connection = _Connection(scenario, sent, tally)
            await _connect(port, connection)
            opened.append(connection)
        yield tally
    finally:
        await _stop(opened)
    tally.check()


async def first_response(port: int, request: bytes) -> None:
    """One request and its response. Raises Failed, OSError or TimeoutError."""
    tally = Tally()
    connection = _Connection(PLAIN_1, iter([request]), tally)
    connection.stopping = True
    await _connect(port, connection)
    await asyncio.wait_for(connection.ended, _FIRST_SECONDS)
    tally.check()
    if not tally.responses:
        raise Failed("no response")


async def _connect(port: int, connection: _Connection) -> None:
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)


async def _stop(connections: list[_Connection]) -> None:
    """Lets responses end, but for a moment only: a paced stream may last for seconds."""
    for connection in connections:
        connection.stopping = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await asyncio.gather(*(connection.ended for connection in connections))
    for connection in connections:
        connection.transport.abort()
