"""Relays a response to the client as it arrives: the events of a stream, or a whole response that is long."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

from ..apis import sse
from ..apis.api import UNKNOWN_OUTPUT, StreamReader
from ..core.errors import UpstreamError, UpstreamTimeout
from ..core.models import Usage
from .response import ConnectionFailed

Send = Callable[[bytes], Awaitable[None]]

MOST_DRAINS = 64
"""The most streams in this process that are read on after their clients left."""
MOST_DRAINED_BYTES = 4 * 1024 * 1024
"""The most that is read of one stream after its client left."""
LEAST_WAIT = 0.05
"""A shorter wait does not count, because sending takes time as well."""

_CUT = "The answer was cut off and is incomplete. Ask again."


class Source(Protocol):
    """The upstream's response, as `UpstreamResponse` is."""

    async def read(self) -> bytes: ...

    def release(self) -> None: ...

    def close(self) -> None: ...


class Ending(StrEnum):
    """How a call ended."""

    FINISHED = "finished"
    CUT = "cut"
    """By the upstream, or by a time limit of the proxy."""
    ABANDONED = "abandoned"
    """By the client."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The result of a stream."""

    ending: Ending
    usage: Usage | None
    """As the upstream reported it; None if it did not."""
    output_bytes: int
    """At least the size of the output that the upstream made, so also at least its number of tokens."""


class ClientNotReading(Exception):
    """The client did not read the error that ended its stream."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How long a stream may last and be silent, in seconds.

    All are below `functionTimeout` (host.json), which ends every call of the worker.
    """

    heartbeat_seconds: float
    idle_seconds: float
    longest_seconds: float
    error_seconds: float = 2.0
    """How long the client may take to read the error that ends its stream."""
    cut_seconds: float = 0.5
    """Between that error and the cut. Without it, the host's reset overtakes the error (decision 3)."""
    slow_seconds: float = 1.0
    """A client that keeps a stream waiting for longer, in all, is slow: all buffers up to it are full."""


class Relay:
    """Relays one response. `on_end` is called exactly once, however it ends.

    `reader` reads the response. `begun` is the first part of a whole response that is too long to be kept;
    without it, the response is a stream. If the client leaves, the response is read on until its usage comes,
    for `drain_seconds`, or `slow_drain_seconds` after a slow client, but no longer than it may be silent.
    """

    drains: ClassVar[int] = 0
    """How many streams of this process are read on at the moment."""

    def __init__(
        self,
        source: Source,
        reader: StreamReader,
        limits: StreamLimits,
        *,
        on_end: Callable[[Relayed], None],
        drain_seconds: float = 0.0,
        slow_drain_seconds: float = 0.0,
        begun: bytes | None = None,
    ) -> None:
        self._source = source
        self._is_stream = begun is None
        self._reader = reader
        self._begun = begun
        self._limits = limits
        self._drain_seconds = drain_seconds
        self._slow_drain_seconds = slow_drain_seconds
        self._client_seconds = 0.0  # in which the client kept the stream waiting
        self._on_end: Callable[[Relayed], None] | None = on_end
        self._ending = Ending.ABANDONED
        """The ending, if the client leaves now."""
        self._is_idle = False
        """Whether the upstream was silent for too long."""
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        """When the last data came from the upstream. Infinite while the client is slow to read."""
        self._heartbeat: asyncio.Future[None] | None = None

    async def pump(self, send: Send) -> Ending:
        """Relay until the end. A failure becomes a stream event, because the status is sent already.

        Returns FINISHED, or CUT: then end the response without its last chunk, so that every client notices.

        Raises:
            asyncio.CancelledError: the client left. `drain` may follow.
            ClientNotReading: the stream failed, and the client did not read the error. `drain` may follow.
        """
        self._watch(send)
        try:
            await self._relay_in_time(send)
            self._ending = Ending.CUT if self._reader.failed else Ending.FINISHED
            await asyncio.sleep(0)  # send the last bytes of other streams first (docs/decisions/0058)
        except (UpstreamError, UpstreamTimeout, ConnectionFailed) as error:
            self._ending = Ending.CUT
            self._stop_watch()
            if not self._may_drain():
                self.close()
            await self._send_error(send, self._error(error))
        finally:
            self._stop_watch()
            if not self._may_drain():
                self.close()
        if self._ending is Ending.CUT and self._is_stream:
            await asyncio.sleep(self._limits.cut_seconds)
        return self._ending

    async def drain(self) -> None:
        """After the client left: read on until the usage comes, but not for long. Then `on_end` is called."""
        try:
            if self._may_drain():
                Relay.drains += 1
                try:
                    async with asyncio.timeout(min(self._seconds_to_drain, self._limits.idle_seconds)):
                        await self._drain()
                finally:
                    Relay.drains -= 1
        except (TimeoutError, ConnectionFailed, UpstreamError):
            pass  # the usage stays unknown
        finally:
            self.close()

    def close(self) -> None:
        """Close the upstream's response and call `on_end`, if that is not done yet."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            reader = self._reader
            try:
                if reader.done:
                    self._source.release()
                else:
                    self._source.close()
            finally:
                # With a slow client, any part of the output may wait at the upstream.
                size = UNKNOWN_OUTPUT if self._is_behind and not reader.done else reader.output_bytes
                on_end(Relayed(self._ending, reader.usage, size))

    @property
    def _is_behind(self) -> bool:
        return self._client_seconds > self._limits.slow_seconds

    @property
    def _seconds_to_drain(self) -> float:
        return max(self._drain_seconds, self._slow_drain_seconds if self._is_behind else 0.0)

    def _may_drain(self) -> bool:
        """Whether the client left or does not read, and the usage may still come."""
        return (
            self._seconds_to_drain > 0
            and self._on_end is not None
            and (self._ending is Ending.ABANDONED or self._heard_at == math.inf)
            and not (self._reader.usage or self._reader.done or self._reader.failed)
            and Relay.drains < MOST_DRAINS
        )

    async def _drain(self) -> None:
        reader, size = self._reader, 0
        while reader.usage is None and not reader.done and size < MOST_DRAINED_BYTES:
            data = await self._source.read()
            if not data:
                reader.end()
                return
            reader.feed(data)
            size += len(data) if self._is_stream else 0  # a whole response has its own limit

    async def _relay_in_time(self, send: Send) -> None:
        limit = self._limits.longest_seconds
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                await self._relay(send)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise UpstreamTimeout(
                f"The answer took longer than {limit:g} seconds, so the stream was ended. "
                "Ask for a shorter answer."
            ) from error

    async def _relay(self, send: Send) -> None:
        reader = self._reader
        data = await self._source.read() if self._begun is None else self._begun
        while data:
            self._heard_at = came_at = self._loop.time()
            if out := reader.feed(data):
                self._heard_at = math.inf
                try:
                    await send(out)
                finally:
                    if (waited := self._loop.time() - came_at) > LEAST_WAIT:
                        self._client_seconds += waited
                self._heard_at = came_at + waited
            if reader.done:
                return
            data = await self._source.read()
        # An incomplete event is not sent: the client would read the error as a part of it.
        if not reader.end() and not reader.failed:
            raise UpstreamError(_CUT)

    async def _send_error(self, send: Send, error: UpstreamError | UpstreamTimeout) -> None:
        if not self._is_stream:
            return
        event = self._reader.error_event(error)
        timeout = asyncio.timeout(self._limits.error_seconds)
        try:
            async with timeout:
                await send(b"\n\n" + event if self._reader.in_event else event)
        except TimeoutError as late:
            if not timeout.expired():
                raise
            raise ClientNotReading from late

    def _stop_watch(self) -> None:
        """After this, no heartbeat is sent."""
        self._timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    def _watch(self, send: Send) -> None:
        """Check for silence once per heartbeat. So no chunk needs a timer of its own."""
        wait = min(self._limits.heartbeat_seconds, self._limits.idle_seconds)
        silent_seconds = max(0.0, self._loop.time() - self._heard_at)
        # The next check is when this silence has lasted for one more heartbeat.
        self._timer = self._loop.call_later(wait - silent_seconds % wait, self._check, send)

    def _check(self, send: Send) -> None:
        silent_seconds = self._loop.time() - self._heard_at
        if silent_seconds >= self._limits.idle_seconds:
            self._is_idle = True
            self._source.close()
            return
        if silent_seconds >= self._limits.heartbeat_seconds and self._may_send_heartbeat():
            self._heartbeat = asyncio.ensure_future(send(sse.HEARTBEAT))
            self._heartbeat.add_done_callback(_ignore_failure)
        self._watch(send)

    def _may_send_heartbeat(self) -> bool:
        """Not within an event, nor in a whole response, nor while another heartbeat waits for the client."""
        if not self._is_stream or self._reader.in_event:
            return False
        return self._heartbeat is None or self._heartbeat.done()

    def _error(self, error: Exception) -> UpstreamError | UpstreamTimeout:
        """The error for the client."""
        if self._is_idle:
            return UpstreamTimeout(
                f"The model sent nothing for {self._limits.idle_seconds:g} seconds, so the stream was ended. "
                "Ask again."
            )
        return error if isinstance(error, UpstreamError | UpstreamTimeout) else UpstreamError(_CUT)


def _ignore_failure(heartbeat: asyncio.Future[None]) -> None:
    """If a heartbeat cannot be sent, the stream itself fails as well."""
    if not heartbeat.cancelled():
        heartbeat.exception()
