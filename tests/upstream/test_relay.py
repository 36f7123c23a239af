"""One stream from the upstream to the client: what is sent, how it ends, and that each end is accounted once."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable

import pytest

from shared.apis.sse import HEARTBEAT, MAX_EVENT_BYTES, data, split
from shared.core.models import Usage
from shared.upstream.connections import ConnectionFailed
from shared.upstream.relay import ClientNotReading, Ending, Relay, Relayed, StreamLimits

HELLO = b'data: {"choices":[{"delta":{"content":"Hello"}}],"usage":null}\n\n'
HELLO_PLAIN = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
NEVER = 3600.0
OFTEN = 0.01


class Source:
    """An upstream that gives `pieces` one by one, and after the last the end; an exception is raised.

    With `silent` it gives no end: it waits until it is closed, then fails as a closed connection does.
    """

    def __init__(self, *pieces: bytes | Exception, silent: bool = False) -> None:
        self._pieces = list(pieces)
        self._silent = silent
        self.closings = 0
        self.waiting = asyncio.Event()
        self.closed = asyncio.Event()

    async def read(self) -> bytes:
        if self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            return piece
        if self._silent:
            self.waiting.set()
            await self.closed.wait()
            raise ConnectionFailed("closed")
        return b""

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


class Client:
    """Keeps what it is sent. It can wait for ever, or fail, at the `stops_at`th sending."""

    def __init__(self, stops_at: int | None = None, error: Exception | None = None) -> None:
        self.got: list[bytes] = []
        self.tried: list[bytes] = []
        self.stopped = asyncio.Event()
        self._stops_at = stops_at
        self._error = error

    async def send(self, piece: bytes) -> None:
        self.tried.append(piece)
        if len(self.got) == self._stops_at:
            self.stopped.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        self.got.append(piece)


class Ended:
    """The accounting: every call of it."""

    def __init__(self) -> None:
        self.calls: list[Relayed] = []

    def __call__(self, relayed: Relayed) -> None:
        self.calls.append(relayed)

    @property
    def once(self) -> Relayed:
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
    limits = StreamLimits(heartbeat, idle, longest, error_seconds=OFTEN)
    return Relay(source, limits, hide_usage=hide, on_end=ended)


async def pumped(
    source: Source, *, hide: bool = True, idle: float = NEVER, longest: float = NEVER
) -> tuple[list[bytes], Relayed]:
    """What the client got of a whole stream, and what was accounted."""
    client, ended = Client(), Ended()
    await relay(source, ended, hide=hide, idle=idle, longest=longest).pump(client.send)
    assert source.closings >= 1
    return client.got, ended.once


def error_of(event: bytes) -> dict[str, object]:
    error = json.loads(data(event))["error"]
    assert isinstance(error, dict)
    return error


async def test_a_whole_stream_is_relayed_without_the_usage_that_the_client_did_not_request() -> None:
    got, ended = await pumped(Source(HELLO, HELLO, USAGE, DONE))
    assert got == [HELLO_PLAIN, HELLO_PLAIN, DONE]
    assert ended == Relayed(Ending.FINISHED, Usage(7, 5), 2)


async def test_requested_usage_is_relayed() -> None:
    got, ended = await pumped(Source(HELLO, USAGE, DONE), hide=False)
    assert got == [HELLO, USAGE, DONE]
    assert ended.usage == Usage(7, 5)


async def test_pieces_of_events_are_joined() -> None:
    stream = HELLO + USAGE + DONE
    got, ended = await pumped(Source(*(stream[at : at + 1] for at in range(len(stream)))))
    assert got == [HELLO_PLAIN, DONE]
    assert ended == Relayed(Ending.FINISHED, Usage(7, 5), 1)


@pytest.mark.parametrize(
    "last", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\r", b"data: [DONE]\r\n\r"]
)
async def test_a_last_event_without_its_blank_line_is_relayed(last: bytes) -> None:
    got, ended = await pumped(Source(HELLO, last))
    assert got == [HELLO_PLAIN, last]
    assert ended.ending is Ending.FINISHED


async def test_data_after_done_is_relayed() -> None:
    got, ended = await pumped(Source(DONE, b": bye\n\n"))
    assert got == [DONE, b": bye\n\n"]
    assert ended.ending is Ending.FINISHED


@pytest.mark.parametrize("end", [[], [ConnectionFailed("cut")]])
async def test_a_stream_that_stops_before_done_ends_in_one_error_event(end: list[Exception]) -> None:
    got, ended = await pumped(Source(HELLO, *end))
    assert got[0] == HELLO_PLAIN
    assert [error_of(event)["code"] for event in got[1:]] == ["upstream_error"]
    assert ended == Relayed(Ending.CUT, None, 1)


async def test_a_broken_stream_is_accounted_for_before_the_error_is_sent() -> None:
    source, client, ended = Source(HELLO), Client(stops_at=1), Ended()
    pump = asyncio.create_task(relay(source, ended).pump(client.send))
    await client.stopped.wait()
    assert [error_of(event)["code"] for event in client.tried[1:]] == ["upstream_error"]
    assert ended.once == Relayed(Ending.CUT, None, 1)
    pump.cancel()
    await asyncio.wait([pump])


async def test_an_empty_stream_ends_in_one_error_event() -> None:
    got, ended = await pumped(Source())
    assert [error_of(event)["code"] for event in got] == ["upstream_error"]
    assert ended == Relayed(Ending.CUT, None, 0)


async def test_half_an_event_is_not_joined_to_the_error() -> None:
    got, ended = await pumped(Source(HELLO, HELLO[:30]))
    events = split(b"".join(got))
    assert events[0] == HELLO_PLAIN
    assert [error_of(event)["code"] for event in events[1:]] == ["upstream_error"]
    assert ended.ending is Ending.CUT


async def test_a_cut_stream_gets_no_done() -> None:
    got, _ = await pumped(Source(HELLO))
    assert b"[DONE]" not in b"".join(got)


async def test_usage_before_the_cut_is_accounted_for() -> None:
    _, ended = await pumped(Source(HELLO, USAGE))
    assert ended == Relayed(Ending.CUT, Usage(7, 5), 1)


async def test_an_endless_event_is_cut_and_none_of_it_is_sent() -> None:
    got, ended = await pumped(Source(HELLO, b"x" * (MAX_EVENT_BYTES + 1)))
    assert got[0] == HELLO_PLAIN
    assert error_of(got[1])["message"] == "The model returned an invalid stream. Ask again."
    assert ended.ending is Ending.CUT


async def test_comments_are_sent_while_the_upstream_is_silent() -> None:
    source, ended = Source(HELLO, HELLO[:10], silent=True), Ended()
    beats = asyncio.Semaphore(0)
    got: list[bytes] = []

    async def send(piece: bytes) -> None:
        got.append(piece)
        if piece == HEARTBEAT:
            beats.release()

    pump = asyncio.create_task(relay(source, ended, heartbeat=OFTEN).pump(send))
    for _ in range(3):
        await beats.acquire()
    assert got[:4] == [HELLO_PLAIN, HEARTBEAT, HEARTBEAT, HEARTBEAT]
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert ended.once == Relayed(Ending.ABANDONED, None, 1)


async def test_a_heartbeat_that_cannot_be_sent_is_not_followed_by_another() -> None:
    source, ended = Source(HELLO, silent=True), Ended()
    client = Client(stops_at=1)
    pump = asyncio.create_task(relay(source, ended, heartbeat=OFTEN, idle=OFTEN * 10).pump(client.send))
    await client.stopped.wait()
    await source.closed.wait()
    assert client.got == [HELLO_PLAIN]
    assert client.tried.count(HEARTBEAT) == 1
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert len(ended.calls) == 1


async def test_failed_heartbeats_change_nothing_and_log_nothing() -> None:
    loop, failures, ended = asyncio.get_running_loop(), list[object](), Ended()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    beats = asyncio.Semaphore(0)

    async def send(_: bytes) -> None:
        beats.release()
        raise OSError("gone")

    pump = asyncio.create_task(relay(Source(silent=True), ended, heartbeat=OFTEN).pump(send))
    for _ in range(3):
        await beats.acquire()
    pump.cancel()
    await asyncio.wait([pump])
    gc.collect()  # a failed task that nobody looked at complains when it is collected
    loop.set_exception_handler(None)
    assert failures == []
    assert ended.once.ending is Ending.ABANDONED


async def test_no_heartbeat_follows_the_error_event() -> None:
    got: list[bytes] = []

    async def send(piece: bytes) -> None:
        got.append(piece)
        if b'"error"' in piece:
            await asyncio.sleep(OFTEN * 10)

    limits = StreamLimits(OFTEN, NEVER, NEVER, error_seconds=NEVER)
    await Relay(Source(HELLO, ConnectionFailed("cut")), limits, hide_usage=True, on_end=Ended()).pump(send)
    assert [piece for piece in got if b'"error"' in piece] == got[-1:]


async def test_nothing_is_sent_after_the_end() -> None:
    source, ended = Source(silent=True), Ended()
    got: list[bytes] = []
    held, release, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def send(piece: bytes) -> None:
        try:
            if piece == HEARTBEAT:
                held.set()
                await release.wait()
            got.append(piece)
        finally:
            if piece == HEARTBEAT:
                left.set()

    pump = asyncio.create_task(relay(source, ended, heartbeat=OFTEN).pump(send))
    await held.wait()
    source.close()
    await pump
    release.set()
    await left.wait()
    assert [error_of(event)["code"] for event in got] == ["upstream_error"]


async def test_a_long_silence_ends_the_stream_with_a_timeout() -> None:
    source = Source(HELLO, silent=True)
    got, ended = await pumped(source, idle=OFTEN)
    assert got[0] == HELLO_PLAIN
    assert error_of(got[1]) == {
        "message": "The model sent nothing for 0.01 seconds, so the stream was ended. Ask again.",
        "type": "server_error",
        "param": None,
        "code": "upstream_timeout",
    }
    assert len(got) == 2
    assert ended == Relayed(Ending.CUT, None, 1)


@pytest.mark.parametrize(
    ("pieces", "events"), [([], 0), ([HELLO], 1), ([HELLO, HELLO[:20]], 1)], ids=["none", "one", "half"]
)
async def test_a_stream_that_takes_too_long_ends_with_an_error_event_and_counts_as_cut(
    pieces: list[bytes], events: int
) -> None:
    got, ended = await pumped(Source(*pieces, silent=True), longest=OFTEN)
    assert got[:-1] == [HELLO_PLAIN] * events
    assert error_of(got[-1]) == {
        "message": "The answer took longer than 0.01 seconds, so the stream was ended. Ask for a shorter answer.",
        "type": "server_error",
        "param": None,
        "code": "upstream_timeout",
    }
    assert ended == Relayed(Ending.CUT, None, events)


async def test_a_client_that_reads_nothing_does_not_hold_a_stream_beyond_its_limit() -> None:
    source, client, ended = Source(HELLO, USAGE, DONE), Client(stops_at=0), Ended()
    with pytest.raises(ClientNotReading):
        await relay(source, ended, longest=OFTEN).pump(client.send)
    assert [error_of(event)["code"] for event in client.tried[1:]] == ["upstream_timeout"]
    assert ended.once == Relayed(Ending.CUT, None, 1)
    assert source.closings >= 1


async def cancelled(source: Source, client: Client, reached: asyncio.Event) -> Relayed:
    """What is accounted when the client leaves once `reached`."""
    ended = Ended()
    pump = asyncio.create_task(relay(source, ended).pump(client.send))
    await reached.wait()
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert source.closings >= 1
    return ended.once


async def test_a_client_that_leaves_while_the_upstream_is_silent_is_accounted_for_once() -> None:
    source = Source(HELLO, USAGE, silent=True)
    assert await cancelled(source, Client(), source.waiting) == Relayed(Ending.ABANDONED, Usage(7, 5), 1)


@pytest.mark.parametrize(
    ("pieces", "stops_at", "expected"),
    [
        ([HELLO, USAGE, DONE], 0, Relayed(Ending.ABANDONED, None, 1)),
        ([HELLO, HELLO, USAGE, DONE], 1, Relayed(Ending.ABANDONED, None, 2)),
        ([HELLO, USAGE, DONE], 1, Relayed(Ending.ABANDONED, Usage(7, 5), 1)),
        ([HELLO, DONE[:-1]], 1, Relayed(Ending.ABANDONED, None, 1)),
        ([HELLO], 1, Relayed(Ending.CUT, None, 1)),
    ],
    ids=["first event", "next event", "done", "rest", "error event"],
)
@pytest.mark.parametrize("error", [None, OSError("gone"), RuntimeError("closed")])
async def test_a_client_that_leaves_or_fails_at_any_point_is_accounted_for_once(
    pieces: list[bytes], stops_at: int, expected: Relayed, error: Exception | None
) -> None:
    source, client = Source(*pieces), Client(stops_at, error)
    if error is None:
        assert await cancelled(source, client, client.stopped) == expected
        return
    ended = Ended()
    with pytest.raises(type(error), match=str(error)):
        await relay(source, ended).pump(client.send)
    assert ended.once == expected
    assert source.closings >= 1


async def test_the_last_bytes_of_other_streams_are_sent_before_a_stream_is_accounted_for() -> None:
    seen: list[str] = []

    async def send(_: bytes) -> None:
        seen.append("sent")

    relays = [relay(Source(HELLO + DONE), lambda _: seen.append("accounted")) for _ in range(3)]
    await asyncio.gather(*(one.pump(send) for one in relays))
    assert seen == ["sent"] * 3 + ["accounted"] * 3


async def test_a_client_that_leaves_with_the_whole_stream_has_a_finished_stream() -> None:
    ended = Ended()

    async def send(_: bytes) -> None:
        asyncio.get_running_loop().call_soon(pump.cancel)

    pump = asyncio.create_task(relay(Source(HELLO + USAGE + DONE), ended).pump(send))
    with pytest.raises(asyncio.CancelledError):
        await pump
    assert ended.once == Relayed(Ending.FINISHED, Usage(7, 5), 1)


async def test_a_pump_cancelled_before_it_starts_is_accounted_for_on_close() -> None:
    source, ended = Source(HELLO), Ended()
    one = relay(source, ended)
    pump = asyncio.create_task(one.pump(Client().send))
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    one.close()
    assert ended.once == Relayed(Ending.ABANDONED, None, 0)
    assert source.closings == 1


async def test_close_after_the_end_accounts_for_nothing_more() -> None:
    source, ended = Source(HELLO, DONE), Ended()
    one = relay(source, ended)
    await one.pump(Client().send)
    one.close()
    one.close()
    assert ended.once.ending is Ending.FINISHED


async def test_an_unexpected_exception_of_the_source_is_raised_and_accounted_for() -> None:
    source, ended = Source(HELLO, ZeroDivisionError()), Ended()
    with pytest.raises(ZeroDivisionError):
        await relay(source, ended).pump(Client().send)
    assert ended.once == Relayed(Ending.ABANDONED, None, 1)


async def test_a_source_that_cannot_be_closed_is_accounted_for() -> None:
    class Stuck(Source):
        def close(self) -> None:
            raise OSError("stuck")

    ended = Ended()
    with pytest.raises(OSError, match="stuck"):
        await relay(Stuck(HELLO, USAGE, DONE), ended).pump(Client().send)
    assert ended.once == Relayed(Ending.FINISHED, Usage(7, 5), 1)
