"""One stream from the upstream to the client: its pieces, its end, and the one record of its end."""

from __future__ import annotations

import asyncio
import gc
import json
import math
from collections.abc import Callable

import pytest

from shared.apis.api import UNKNOWN_OUTPUT
from shared.apis.chat_stream import ChatStream
from shared.apis.sse import HEARTBEAT, MAX_EVENT_BYTES, data, split
from shared.core.models import Usage
from shared.upstream.long_response import MOST_PASSED_BYTES, LongResponse
from shared.upstream.relay import (
    MOST_DRAINED_BYTES,
    MOST_DRAINS,
    ClientNotReading,
    Ending,
    Relay,
    Relayed,
    StreamLimits,
)
from shared.upstream.response import ConnectionFailed

HELLO = b'data: {"choices":[{"delta":{"content":"Hello"}}],"usage":null}\n\n'
OUTPUT_BYTES = len('Hello"}}],"usage":null}') - len('"},')
"""Up to the end of the event, because there is no `finish_reason`."""
HELLO_PLAIN = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
NEVER = 3600.0
OFTEN = 0.01


def ended(ending: Ending, usage: Usage | None, count: int) -> Relayed:
    """The record of a stream with `count` times `HELLO`."""
    return Relayed(ending, usage, count * OUTPUT_BYTES)


class Source:
    """An upstream that returns `pieces` one by one and then the end. It raises a piece that is an exception.

    With `silent` there is no end: it waits until it is closed, and then fails like a closed connection.
    """

    def __init__(self, *pieces: bytes | Exception, silent: bool = False) -> None:
        self._pieces = list(pieces)
        self._silent = silent
        self.closings = self.releases = 0
        self.waiting = asyncio.Event()
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece
        if not self._silent:
            return b""
        self.waiting.set()
        await self.arrived.wait()
        self.arrived.clear()
        if self.closed.is_set():
            raise ConnectionFailed("closed")
        return await self.read()

    def more(self, *pieces: bytes | Exception) -> None:
        """Wake a silent source."""
        self._pieces += pieces
        self.arrived.set()

    def release(self) -> None:
        self.releases += 1
        self.close()

    def close(self) -> None:
        self.closings += 1
        self.closed.set()
        self.arrived.set()


class Client:
    """Records the pieces that it gets. After `stops_at` pieces, it raises `error` or waits forever."""

    def __init__(self, stops_at: int | None = None, error: Exception | None = None) -> None:
        self.pieces: list[bytes] = []
        self.attempts: list[bytes] = []
        self.stopped = asyncio.Event()
        self._stops_at = stops_at
        self._error = error

    async def send(self, piece: bytes) -> None:
        self.attempts.append(piece)
        if len(self.pieces) == self._stops_at:
            self.stopped.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        self.pieces.append(piece)


class Record:
    """Records the end of the stream."""

    def __init__(self) -> None:
        self.calls: list[Relayed] = []

    def __call__(self, relayed: Relayed) -> None:
        self.calls.append(relayed)

    @property
    def only(self) -> Relayed:
        (relayed,) = self.calls
        return relayed


def relay(
    source: Source,
    ended: Callable[[Relayed], None],
    *,
    hide: bool = True,
    heartbeat: float = NEVER,
    idle: float = NEVER,
    longest: float = NEVER,
) -> Relay:
    limits = StreamLimits(heartbeat, idle, longest, error_seconds=OFTEN, cut_seconds=0)
    return Relay(source, ChatStream(hide=hide), limits, on_end=ended)


async def pump_all(
    source: Source,
    *,
    hide: bool = True,
    heartbeat: float = NEVER,
    idle: float = NEVER,
    longest: float = NEVER,
) -> tuple[list[bytes], Relayed]:
    """Relay a whole stream. Returns the pieces that the client gets, and the record."""
    client, record = Client(), Record()
    relaying = relay(source, record, hide=hide, heartbeat=heartbeat, idle=idle, longest=longest)
    assert await relaying.pump(client.send) is record.only.ending
    assert source.closings >= 1
    return client.pieces, record.only


def error_of(event: bytes) -> dict[str, object]:
    error = json.loads(data(event))["error"]
    assert isinstance(error, dict)
    return error


async def test_a_whole_stream_is_relayed_without_the_usage_that_the_client_did_not_request() -> None:
    pieces, relayed = await pump_all(Source(HELLO, HELLO, USAGE, DONE))
    assert pieces == [HELLO_PLAIN, HELLO_PLAIN, DONE]
    assert relayed == ended(Ending.FINISHED, Usage(7, 5), 2)


async def test_requested_usage_is_relayed() -> None:
    pieces, relayed = await pump_all(Source(HELLO, USAGE, DONE), hide=False)
    assert pieces == [HELLO, USAGE, DONE]
    assert relayed.usage == Usage(7, 5)


async def test_parts_of_an_event_are_joined() -> None:
    stream = HELLO + USAGE + DONE
    pieces, relayed = await pump_all(Source(*(stream[at : at + 1] for at in range(len(stream)))))
    assert pieces == [HELLO_PLAIN, DONE]
    assert relayed == ended(Ending.FINISHED, Usage(7, 5), 1)


@pytest.mark.parametrize(
    ("last", "sent"),
    [
        (b"data: [DONE]", DONE),
        (b"data: [DONE]\n", DONE),
        (b"data: [DONE]\r\r", b"data: [DONE]\r\r"),  # a whole event
        (b"data: [DONE]\r\n\r", DONE),
        (DONE, DONE),
    ],
)
@pytest.mark.parametrize(
    "after",
    [
        [],
        [ConnectionFailed("reset")],
        [b": bye\n\n"],
        [HELLO, USAGE],
        [b'data: {"error":{"message":"no"}}\n\n', ConnectionFailed("reset")],
    ],
)
@pytest.mark.parametrize("silent", [False, True])
async def test_a_stream_ends_with_done_whatever_follows(
    last: bytes, sent: bytes, after: list[bytes | Exception], silent: bool
) -> None:
    source = Source(HELLO, last, *after, silent=silent)
    pieces, relayed = await pump_all(source, heartbeat=OFTEN)
    assert pieces == [HELLO_PLAIN, sent]
    assert relayed == ended(Ending.FINISHED, None, 1)
    assert (source.releases, source.waiting.is_set()) == (1, False)


async def test_what_follows_done_in_the_same_piece_is_not_relayed() -> None:
    pieces, relayed = await pump_all(Source(HELLO + DONE + HELLO + USAGE))
    assert pieces == [HELLO_PLAIN + DONE]
    assert relayed == ended(Ending.FINISHED, None, 1)


@pytest.mark.parametrize("end", [[], [ConnectionFailed("cut")]])
async def test_a_stream_that_stops_before_done_ends_with_one_error_event(end: list[Exception]) -> None:
    pieces, relayed = await pump_all(Source(HELLO, *end))
    assert pieces[0] == HELLO_PLAIN
    assert [error_of(event)["code"] for event in pieces[1:]] == ["upstream_error"]
    assert relayed == ended(Ending.CUT, None, 1)


async def test_a_cut_stream_is_recorded_before_the_error_is_sent() -> None:
    source, client, record = Source(HELLO), Client(stops_at=1), Record()
    pump = asyncio.create_task(relay(source, record).pump(client.send))
    await client.stopped.wait()
    assert [error_of(event)["code"] for event in client.attempts[1:]] == ["upstream_error"]
    assert record.only == ended(Ending.CUT, None, 1)
    pump.cancel()
    await asyncio.wait([pump])


async def test_an_empty_stream_ends_with_one_error_event() -> None:
    pieces, relayed = await pump_all(Source())
    assert [error_of(event)["code"] for event in pieces] == ["upstream_error"]
    assert relayed == ended(Ending.CUT, None, 0)


async def test_half_an_event_is_not_joined_to_the_error() -> None:
    pieces, relayed = await pump_all(Source(HELLO, HELLO[:30]))
    events = split(b"".join(pieces))
    assert events[0] == HELLO_PLAIN
    assert [error_of(event)["code"] for event in events[1:]] == ["upstream_error"]
    assert relayed.ending is Ending.CUT


async def test_usage_before_the_cut_is_recorded() -> None:
    _, relayed = await pump_all(Source(HELLO, USAGE))
    assert relayed == ended(Ending.CUT, Usage(7, 5), 1)


LONG = b'data: {"choices":[{"delta":{"audio":"' + b"x" * (2 * MAX_EVENT_BYTES)


async def test_a_long_event_is_relayed_in_pieces() -> None:
    event = LONG + b'"}}]}\n\n'
    pieces = [event[at : at + 65536] for at in range(0, len(event), 65536)]
    sent, relayed = await pump_all(Source(*pieces, DONE))
    assert b"".join(sent) == event + DONE
    assert len(sent) > len(event) / 65536 / 2
    assert relayed.ending is Ending.FINISHED
    assert relayed.output_bytes >= 2 * MAX_EVENT_BYTES


async def test_an_error_ends_the_event_that_the_client_has_in_part() -> None:
    sent, relayed = await pump_all(Source(LONG))
    assert sent[-1].startswith(b"\n\n")
    assert error_of(sent[-1])["code"] == "upstream_error"
    assert relayed.ending is Ending.CUT


async def test_no_comment_is_sent_within_a_long_event() -> None:
    sent, _ = await pump_all(Source(LONG, silent=True), heartbeat=OFTEN, idle=OFTEN * 20)
    assert HEARTBEAT not in sent


async def test_comments_are_sent_while_the_upstream_is_silent() -> None:
    source, record = Source(HELLO, HELLO[:10], silent=True), Record()
    beats = asyncio.Semaphore(0)
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(piece)
        if piece == HEARTBEAT:
            beats.release()

    pump = asyncio.create_task(relay(source, record, heartbeat=OFTEN).pump(send))
    for _ in range(3):
        await beats.acquire()
    assert pieces[:4] == [HELLO_PLAIN, HEARTBEAT, HEARTBEAT, HEARTBEAT]
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert record.only == ended(Ending.ABANDONED, None, 1)


async def test_a_heartbeat_that_waits_for_the_client_is_not_followed_by_another() -> None:
    source, record = Source(HELLO, silent=True), Record()
    client = Client(stops_at=1)
    pump = asyncio.create_task(relay(source, record, heartbeat=OFTEN, idle=OFTEN * 10).pump(client.send))
    await client.stopped.wait()
    await source.closed.wait()
    assert client.pieces == [HELLO_PLAIN]
    assert client.attempts.count(HEARTBEAT) == 1
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert len(record.calls) == 1


async def test_failed_heartbeats_do_not_end_the_stream_and_log_nothing() -> None:
    loop, failures, record = asyncio.get_running_loop(), list[object](), Record()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    beats = asyncio.Semaphore(0)

    async def send(_: bytes) -> None:
        beats.release()
        raise OSError("gone")

    pump = asyncio.create_task(relay(Source(silent=True), record, heartbeat=OFTEN).pump(send))
    for _ in range(3):
        await beats.acquire()
    pump.cancel()
    await asyncio.wait([pump])
    gc.collect()  # when a failed task is collected, it logs an exception that is still unread
    loop.set_exception_handler(None)
    assert failures == []
    assert record.only.ending is Ending.ABANDONED


async def test_no_heartbeat_follows_the_error_event() -> None:
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(piece)
        if b'"error"' in piece:
            await asyncio.sleep(OFTEN * 10)

    limits = StreamLimits(OFTEN, NEVER, NEVER, error_seconds=NEVER, cut_seconds=0)
    await Relay(Source(HELLO, ConnectionFailed("cut")), ChatStream(hide=True), limits, on_end=Record()).pump(
        send
    )
    assert [piece for piece in pieces if b'"error"' in piece] == pieces[-1:]


async def test_nothing_is_sent_after_the_end() -> None:
    source, record = Source(silent=True), Record()
    pieces: list[bytes] = []
    started, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(piece: bytes) -> None:
        try:
            if piece == HEARTBEAT:
                started.set()
                await release.wait()
            pieces.append(piece)
        finally:
            if piece == HEARTBEAT:
                ended.set()

    pump = asyncio.create_task(relay(source, record, heartbeat=OFTEN).pump(send))
    await started.wait()
    source.close()
    await pump
    release.set()
    await ended.wait()
    assert [error_of(event)["code"] for event in pieces] == ["upstream_error"]


async def test_a_long_silence_ends_the_stream_with_a_timeout() -> None:
    source = Source(HELLO, silent=True)
    pieces, relayed = await pump_all(source, idle=OFTEN)
    assert pieces[0] == HELLO_PLAIN
    assert error_of(pieces[1]) == {
        "message": "The model sent nothing for 0.01 seconds, so the stream was ended. Ask again.",
        "type": "server_error",
        "param": None,
        "code": "upstream_timeout",
    }
    assert len(pieces) == 2
    assert relayed == ended(Ending.CUT, None, 1)


@pytest.mark.parametrize(
    ("pieces", "events"), [([], 0), ([HELLO], 1), ([HELLO, HELLO[:20]], 1)], ids=["none", "one", "half"]
)
async def test_a_stream_that_takes_too_long_ends_with_an_error_event_and_counts_as_cut(
    pieces: list[bytes], events: int
) -> None:
    sent, relayed = await pump_all(Source(*pieces, silent=True), longest=OFTEN)
    assert sent[:-1] == [HELLO_PLAIN] * events
    assert error_of(sent[-1]) == {
        "message": "The answer took longer than 0.01 seconds, so the stream was ended. Ask for a shorter answer.",
        "type": "server_error",
        "param": None,
        "code": "upstream_timeout",
    }
    assert relayed == ended(Ending.CUT, None, events)


async def test_a_client_that_reads_nothing_does_not_hold_a_stream_beyond_its_limit() -> None:
    source, client, record = Source(HELLO, USAGE, DONE), Client(stops_at=0), Record()
    with pytest.raises(ClientNotReading):
        await relay(source, record, longest=OFTEN).pump(client.send)
    assert [error_of(event)["code"] for event in client.attempts[1:]] == ["upstream_timeout"]
    assert record.only == ended(Ending.CUT, None, 1)
    assert source.closings >= 1


async def disconnect(source: Source, client: Client, reached: asyncio.Event) -> Relayed:
    """Disconnect the client as soon as `reached` is set. Returns the record."""
    record = Record()
    pump = asyncio.create_task(relay(source, record).pump(client.send))
    await reached.wait()
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert source.closings >= 1
    return record.only


async def test_a_client_that_disconnects_while_the_upstream_is_silent_is_recorded_once() -> None:
    source = Source(HELLO, USAGE, silent=True)
    assert await disconnect(source, Client(), source.waiting) == ended(Ending.ABANDONED, Usage(7, 5), 1)


@pytest.mark.parametrize(
    ("pieces", "stops_at", "expected"),
    [
        ([HELLO, USAGE, DONE], 0, ended(Ending.ABANDONED, None, 1)),
        ([HELLO, HELLO, USAGE, DONE], 1, ended(Ending.ABANDONED, None, 2)),
        ([HELLO, USAGE, DONE], 1, ended(Ending.ABANDONED, Usage(7, 5), 1)),
        ([HELLO, DONE[:-1]], 1, ended(Ending.ABANDONED, None, 1)),
        ([HELLO], 1, ended(Ending.CUT, None, 1)),
    ],
    ids=["first-event", "next-event", "done", "rest", "error-event"],
)
@pytest.mark.parametrize("error", [None, OSError("gone"), RuntimeError("closed")])
async def test_a_client_that_disconnects_or_fails_at_any_point_is_recorded_once(
    pieces: list[bytes], stops_at: int, expected: Relayed, error: Exception | None
) -> None:
    source, client = Source(*pieces), Client(stops_at, error)
    if error is None:
        assert await disconnect(source, client, client.stopped) == expected
        return
    record = Record()
    with pytest.raises(type(error), match=str(error)):
        await relay(source, record).pump(client.send)
    assert record.only == expected
    assert source.closings >= 1


async def test_the_last_bytes_of_other_streams_are_sent_before_a_stream_is_recorded() -> None:
    order: list[str] = []

    async def send(_: bytes) -> None:
        order.append("sent")

    relays = [relay(Source(HELLO + DONE), lambda _: order.append("recorded")) for _ in range(3)]
    await asyncio.gather(*(one.pump(send) for one in relays))
    assert order == ["sent"] * 3 + ["recorded"] * 3


async def test_a_stream_counts_as_finished_if_the_client_disconnects_after_its_end() -> None:
    record = Record()

    async def send(_: bytes) -> None:
        asyncio.get_running_loop().call_soon(pump.cancel)

    pump = asyncio.create_task(relay(Source(HELLO + USAGE + DONE), record).pump(send))
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert record.only == ended(Ending.FINISHED, Usage(7, 5), 1)


async def test_a_stream_that_is_cancelled_before_it_starts_is_recorded_on_close() -> None:
    source, record = Source(HELLO), Record()
    stream = relay(source, record)
    pump = asyncio.create_task(stream.pump(Client().send))
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    stream.close()
    assert record.only == ended(Ending.ABANDONED, None, 0)
    assert source.closings == 1


async def test_close_after_the_end_records_nothing_more() -> None:
    source, record = Source(HELLO, DONE), Record()
    stream = relay(source, record)
    await stream.pump(Client().send)
    stream.close()
    stream.close()
    assert record.only.ending is Ending.FINISHED


async def test_an_unexpected_exception_of_the_source_is_raised_and_recorded() -> None:
    source, record = Source(HELLO, ZeroDivisionError()), Record()
    with pytest.raises(ZeroDivisionError):
        await relay(source, record).pump(Client().send)
    assert record.only == ended(Ending.ABANDONED, None, 1)


async def test_a_stream_whose_source_cannot_be_closed_is_recorded() -> None:
    class Stuck(Source):
        def close(self) -> None:
            raise OSError("stuck")

    record = Record()
    with pytest.raises(OSError, match="stuck"):
        await relay(Stuck(HELLO, USAGE, DONE), record).pump(Client().send)
    assert record.only == ended(Ending.FINISHED, Usage(7, 5), 1)


# ---- cut streams


@pytest.mark.parametrize("source", [Source(HELLO), Source(HELLO, b'data: {"error":{"message":"no"}}\n\n')])
async def test_a_cut_stream_waits_before_its_end_but_is_recorded_before(source: Source) -> None:
    record, client = Record(), Client()
    limits = StreamLimits(NEVER, NEVER, NEVER, cut_seconds=NEVER)
    pump = asyncio.create_task(Relay(source, ChatStream(hide=True), limits, on_end=record).pump(client.send))
    await source.closed.wait()
    await asyncio.sleep(OFTEN)
    assert b'"error"' in client.pieces[-1]
    assert record.only == ended(Ending.CUT, None, 1)
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert len(record.calls) == 1


# ---- streams whose clients left


async def leave(source: Source, seconds: float, reached: asyncio.Event | None = None) -> tuple[Relay, Record]:
    """Disconnect the client when the source is silent, or `reached` is set."""
    record = Record()
    limits = StreamLimits(NEVER, NEVER, NEVER, cut_seconds=0)
    relaying = Relay(source, ChatStream(hide=True), limits, on_end=record, drain_seconds=seconds)
    pump = asyncio.create_task(relaying.pump(Client().send))
    await (reached or source.waiting).wait()
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    return relaying, record


async def test_a_stream_whose_client_left_is_read_until_its_usage() -> None:
    source = Source(HELLO, silent=True)
    relaying, record = await leave(source, NEVER)
    assert not record.calls
    draining = asyncio.create_task(relaying.drain())
    source.more(HELLO, USAGE, DONE)
    await draining
    assert record.only == ended(Ending.ABANDONED, Usage(7, 5), 2)
    assert source.closed.is_set()


@pytest.mark.parametrize(
    ("more", "count"),
    [([HELLO, DONE], 2), ([HELLO, ConnectionFailed("cut")], 2), ([HELLO, b""], 2), ([], 1)],
    ids=["done", "failed", "end", "silent"],
)
async def test_a_stream_that_is_read_on_ends_without_its_usage(
    more: list[bytes | Exception], count: int
) -> None:
    source = Source(HELLO, silent=True)
    relaying, record = await leave(source, OFTEN)
    source.more(*more)
    await relaying.drain()
    assert record.only == ended(Ending.ABANDONED, None, count)
    assert source.closed.is_set()


async def test_a_stream_that_is_read_on_is_bounded_in_bytes() -> None:
    source = Source(HELLO, silent=True)
    relaying, record = await leave(source, NEVER)
    source.more(*[HELLO * 10_000] * 100)
    await relaying.drain()
    assert record.only.usage is None
    assert record.only.output_bytes < 2 * MOST_DRAINED_BYTES


@pytest.mark.parametrize("pieces", [[USAGE], [b'data: {"error":{"message":"no"}}\n\n']])
async def test_a_stream_with_usage_or_an_error_is_not_read_on(pieces: list[bytes]) -> None:
    source = Source(HELLO, *pieces, silent=True)
    _, record = await leave(source, NEVER)
    assert record.only.ending is Ending.ABANDONED
    assert source.closed.is_set()


async def test_a_stream_that_is_read_on_ends_when_it_is_cancelled() -> None:
    source = Source(HELLO, silent=True)
    relaying, record = await leave(source, NEVER)
    source.waiting.clear()
    draining = asyncio.create_task(relaying.drain())
    await source.waiting.wait()
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert record.only == ended(Ending.ABANDONED, None, 1)
    assert Relay.drains == 0


async def test_only_so_many_streams_are_read_on_at_once() -> None:
    left = [await leave(Source(HELLO, silent=True), NEVER) for _ in range(MOST_DRAINS + 2)]
    tasks = [asyncio.create_task(relaying.drain()) for relaying, _ in left]
    await asyncio.sleep(0)
    assert [len(record.calls) for _, record in left] == [0] * MOST_DRAINS + [1, 1]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [len(record.calls) for _, record in left] == [1] * len(left)
    assert Relay.drains == 0


async def test_a_stream_whose_client_does_not_read_is_read_until_its_usage() -> None:
    source, client, record = Source(HELLO, USAGE, DONE), Client(stops_at=0), Record()
    limits = StreamLimits(NEVER, NEVER, OFTEN, error_seconds=OFTEN)
    relaying = Relay(source, ChatStream(hide=True), limits, on_end=record, drain_seconds=NEVER)
    with pytest.raises(ClientNotReading):
        await relaying.pump(client.send)
    await relaying.drain()
    assert record.only == ended(Ending.CUT, Usage(7, 5), 1)


@pytest.mark.parametrize(
    ("more", "usage", "size"),
    [
        ([USAGE, DONE], Usage(7, 5), 0),
        ([DONE], None, 2 * OUTPUT_BYTES),
        ([], None, UNKNOWN_OUTPUT),
    ],
    ids=["usage", "done", "silent"],
)
async def test_the_output_of_a_client_that_is_slow_to_read_is_unknown_until_all_of_it_came(
    more: list[bytes], usage: Usage | None, size: int
) -> None:
    source, client, record = Source(HELLO, HELLO, *more, silent=True), Client(stops_at=1), Record()
    limits = StreamLimits(NEVER, NEVER, NEVER, slow_seconds=-1.0)  # each client is slow
    relaying = Relay(source, ChatStream(hide=True), limits, on_end=record, slow_drain_seconds=OFTEN)
    pump = asyncio.create_task(relaying.pump(client.send))
    await client.stopped.wait()
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert not record.calls
    await relaying.drain()
    assert record.only.usage == usage
    assert usage or record.only.output_bytes == size


# ---- whole responses that are too long to be kept

BEGUN = b'{"choices":[{"message":{"content":"' + b"x" * 2000
REST = b'"}}],"usage":{"prompt_tokens":7,"completion_tokens":5}}'


async def pump_whole(source: Source) -> tuple[list[bytes], Relayed]:
    client, record = Client(), Record()
    limits = StreamLimits(OFTEN, OFTEN * 10, NEVER)
    relaying = Relay(source, LongResponse(), limits, on_end=record, begun=BEGUN)
    assert await relaying.pump(client.send) is record.only.ending
    return client.pieces, record.only


async def test_a_long_response_is_relayed_piece_by_piece() -> None:
    source = Source(b"x" * 1000, REST)
    pieces, relayed = await pump_whole(source)
    assert pieces == [BEGUN, b"x" * 1000, REST]
    size = sum(map(len, pieces))
    assert relayed == Relayed(Ending.FINISHED, Usage(7, 5), size)
    assert source.releases == 1


@pytest.mark.parametrize("source", [Source(b"x", ConnectionFailed("cut")), Source(b"x", silent=True)])
async def test_a_long_response_that_is_cut_gets_no_event_and_no_comment(source: Source) -> None:
    pieces, relayed = await pump_whole(source)
    assert pieces == [BEGUN, b"x"]
    assert relayed == Relayed(Ending.CUT, None, len(BEGUN) + 1)


async def test_a_long_response_whose_client_left_ends_although_the_upstream_is_silent() -> None:
    source, client, record = Source(b"x", silent=True), Client(stops_at=0), Record()
    limits = StreamLimits(NEVER, OFTEN, NEVER)
    relaying = Relay(source, LongResponse(), limits, on_end=record, drain_seconds=math.inf, begun=BEGUN)
    pumping = asyncio.create_task(relaying.pump(client.send))
    await client.stopped.wait()
    pumping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pumping
    async with asyncio.timeout(5):
        await relaying.drain()
    assert record.only == Relayed(Ending.ABANDONED, None, len(BEGUN) + 1)
    assert source.closed.is_set()
    assert Relay.drains == 0


async def test_a_response_that_is_far_too_long_is_cut_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    pieces, relayed = await pump_whole(Source(*[b"x" * 1_000_000] * (MOST_PASSED_BYTES // 1_000_000 + 1)))
    assert sum(map(len, pieces)) <= MOST_PASSED_BYTES
    assert relayed.ending is Ending.CUT
    assert f"longer than {MOST_PASSED_BYTES} bytes" in caplog.text
