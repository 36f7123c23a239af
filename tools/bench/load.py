"""A load generator: N connections, each with one request under way at any time, all of it counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final, cast

import httptools

from .mock import TIME

MOST_ANSWERS: Final = 500_000
"""More than any machine gives in the time of a run: a load ends here in any case."""

TOLERATED_SHARE: Final = 0.001
"""Of answers that are wrong. They are told, and leave the figures what they are."""

_DRAIN_SECONDS: Final = 0.5
_CHUNK: Final = b'"delta":{"content"'
"""In each chunk of the upstream's; a proxy may add some without content."""


class Failed(Exception):
    """Too much of what came back is not what was asked for; the figures would mean nothing."""


@dataclass(slots=True)
class Tally:
    """What came back since `reset`. Chunks and delays are those of streams."""

    answers: int = 0
    chunks: int = 0
    """Of whole streams; `arrived` counts those under way too."""
    delays: list[float] = field(default_factory=list)
    """Seconds: of a paced chunk from the upstream's write to its arrival; of a plain call, all of it."""
    failures: Counter[str] = field(default_factory=Counter)
    """Of all the time, and so is `total`."""
    total: int = 0
    under_way: list[list[bytes]] = field(default_factory=list)
    """What has come of each connection's present answer."""

    def reset(self) -> None:
        self.answers = self.chunks = 0
        self.chunks = -self.arrived()
        self.delays = []

    def arrived(self) -> int:
        """Chunks, for targets so slow that few streams end within a sample."""
        return self.chunks + sum(b"".join(parts).count(_CHUNK) for parts in self.under_way)

    def check(self) -> None:
        """Raises Failed."""
        if self.failures.total() > self.total * TOLERATED_SHARE:
            raise Failed(", ".join(f"{count} x {what}" for what, count in self.failures.items()))


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], tally: Tally, *, paced: bool) -> None:
        self._requests = requests
        self._tally = tally
        self._paced = paced
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        tally.under_way.append(self._parts)
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
        self._parts.append(data)
        if self._paced:
            now = perf_counter()
            self._tally.delays.extend(now - float(at) for at in TIME.findall(data))

    def on_message_complete(self) -> None:
        tally, body = self._tally, b"".join(self._parts)
        self._parts.clear()
        if (status := self._parser.get_status_code()) != 200:
            tally.failures[f"status {status}: {body[:200].decode(errors='replace')}"] += 1
        elif not body.startswith(b"data:"):
            tally.delays.append(perf_counter() - self._sent_at)
        else:
            tally.chunks += body.count(_CHUNK)
            if not body.endswith(b"data: [DONE]\n\n"):
                tally.failures["stream cut"] += 1
        tally.answers += 1
        tally.total += 1
        if self.stopping or tally.total >= MOST_ANSWERS:
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
async def running(
    port: int, requests: Iterator[bytes], connections: int, *, paced: bool = False
) -> AsyncIterator[Tally]:
    """Load on 127.0.0.1 for the length of the block. Raises Failed when any answer was not right."""
    loop, tally = asyncio.get_running_loop(), Tally()
    opened: list[_Connection] = []
    try:
        for _ in range(connections):
            connection = _Connection(requests, tally, paced=paced)
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)  # type: ignore[misc]
            opened.append(connection)
        yield tally
    finally:
        await _stop(opened)
    tally.check()


async def _stop(connections: list[_Connection]) -> None:
    """Lets answers end, but for a moment only: a paced stream may last for seconds."""
    for connection in connections:
        connection.stopping = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            await asyncio.gather(*(connection.ended for connection in connections))
    for connection in connections:
        connection.transport.abort()


async def first_answer(port: int, request: bytes) -> None:
    """One request and its answer. Raises Failed."""
    tally = Tally()
    connection = _Connection(iter([request, b""]), tally, paced=False)
    connection.stopping = True
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
    await asyncio.wait_for(connection.ended, 30)
    tally.check()
    if not tally.answers:
        raise Failed("no answer")
