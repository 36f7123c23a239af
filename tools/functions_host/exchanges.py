"""What is under way: one Exchange per request, and the platform's 230 s rule over all of them."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import Final

from starlette.types import Message, Receive, Send

_LATE: Final = b"<h1>502 - the function did not begin to respond in time</h1>"
_LATE_HEADERS: Final = ((b"content-type", b"text/html; charset=utf-8"), (b"connection", b"close"))


class Exchange:
    """The `send` that a function gets. Once the host has answered in its place, it sends to nowhere."""

    __slots__ = ("_send", "answered_by_host", "begun")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self.answered_by_host = False

    def __call__(self, message: Message) -> Awaitable[None]:
        if self.answered_by_host:
            return _nowhere()
        self.begun = True
        return self._send(message)

    async def answer(self, status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        """Answers in the function's place, unless an answer has begun."""
        if self.begun:
            return
        self.begun = self.answered_by_host = True
        await send_answer(self._send, status, body, *headers)


async def _nowhere() -> None:
    return


async def send_answer(send: Send, status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


class Exchanges:
    """Answers 502 for each exchange that has not begun in time; all wait alike, so the oldest is first."""

    def __init__(self, response_seconds: float | None) -> None:
        self._response_seconds = response_seconds
        self._begin_by: dict[Exchange, float] = {}
        self._watch: asyncio.Task[None] | None = None

    def open(self, send: Send) -> Exchange:
        exchange = Exchange(send)
        if self._response_seconds is not None:
            self._begin_by[exchange] = monotonic() + self._response_seconds
        return exchange

    def close(self, exchange: Exchange) -> None:
        self._begin_by.pop(exchange, None)

    def start(self) -> None:
        if self._response_seconds is not None:
            self._watch = asyncio.create_task(self._end_late_ones(min(1.0, self._response_seconds / 10)))

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _end_late_ones(self, interval_seconds: float) -> None:
        while True:
            await asyncio.sleep(interval_seconds)
            for exchange in self._late(monotonic()):
                await exchange.answer(502, _LATE, *_LATE_HEADERS)

    def _late(self, now: float) -> list[Exchange]:
        late = []
        for exchange, begin_by in self._begin_by.items():
            if begin_by > now:
                break
            late.append(exchange)
        for exchange in late:
            del self._begin_by[exchange]
        return late


def receive_at_most(max_bytes: int, receive: Receive, exchange: Exchange) -> Receive:
    """For a chunked body: above the limit the client gets 413 and the function sees it leave."""
    received = 0

    async def receive_counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received <= max_bytes:
            return message
        await exchange.answer(413, b"", (b"connection", b"close"))
        return {"type": "http.disconnect"}

    return receive_counted
