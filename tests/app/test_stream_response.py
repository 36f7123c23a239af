"""A stream whose client leaves: the upstream is read on, so that the call is charged as reported."""

from __future__ import annotations

import asyncio

from shared.apis.chat_stream import ChatStream
from shared.app.responses import StreamResponse
from shared.functions.http import Request, Response
from shared.upstream.relay import Ending, Relay, Relayed, StreamLimits
from tests.tools.sample_apps import host_of
from tests.upstream.test_relay import HELLO, NEVER, Record, Source


async def test_a_stream_that_is_read_on_ends_with_its_server() -> None:
    source, record = Source(HELLO, silent=True), Record()

    async def handler(req: Request) -> Response:
        limits = StreamLimits(NEVER, NEVER, NEVER)
        return StreamResponse(
            200, {}, Relay(source, ChatStream(hide=True), limits, on_end=record, drain_seconds=NEVER)
        )

    async with host_of(handler) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"Hello")
        source.waiting.clear()
        writer.close()
        await source.waiting.wait()
    assert record.only == Relayed(Ending.ABANDONED, None, record.only.output_bytes)
    assert Relay.drains == 0
