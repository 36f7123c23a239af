"""A stream whose client leaves: the upstream is read on, so that the call is charged as reported."""

from __future__ import annotations

import asyncio

import pytest

from shared.apis.chat_stream import ChatStream
from shared.app.outgoing import StreamResponse
from shared.core.models import Usage
from shared.functions.http import Request, Response
from shared.upstream.relay import Ending, Relay, Relayed, StreamLimits
from tests.conftest import nothing_left_in_flight
from tests.tools.sample_apps import host_of
from tests.upstream.test_relay import DONE, HELLO, NEVER, USAGE, Record, Source


async def left_stream(source: Source, record: Record, drain_seconds: float) -> None:
    """Begin a stream, read one event, leave, and wait until the app has noticed it."""

    async def handler(req: Request) -> Response:
        limits = StreamLimits(NEVER, NEVER, NEVER)
        relay = Relay(source, ChatStream(hide=True), limits, on_end=record, drain_seconds=drain_seconds)
        response = StreamResponse(200, {}, relay)
        response.client = req.client
        return response

    async with host_of(handler) as host, nothing_left_in_flight():
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"Hello")
        source.waiting.clear()
        writer.close()
        if drain_seconds:
            await source.waiting.wait()
            assert not record.calls
            source.more(HELLO, USAGE, DONE)
        await source.closed.wait()


@pytest.mark.parametrize(("seconds", "usage"), [(NEVER, Usage(7, 5)), (0, None)])
async def test_the_usage_of_a_stream_whose_client_left_comes_if_it_is_read_on(
    seconds: float, usage: Usage | None
) -> None:
    record = Record()
    await left_stream(Source(HELLO, silent=True), record, seconds)
    assert (record.only.ending, record.only.usage) == (Ending.ABANDONED, usage)


async def test_a_stream_that_is_read_on_ends_with_its_server() -> None:
    source, record = Source(HELLO, silent=True), Record()

    async def handler(req: Request) -> Response:
        limits = StreamLimits(NEVER, NEVER, NEVER)
        relay = Relay(source, ChatStream(hide=True), limits, on_end=record, drain_seconds=NEVER)
        response = StreamResponse(200, {}, relay)
        response.client = req.client
        return response

    async with host_of(handler) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"Hello")
        source.waiting.clear()
        writer.close()
        await source.waiting.wait()
    assert record.only == Relayed(Ending.ABANDONED, None, record.only.output_bytes)
    assert Relay.drains == 0
