"""Relays a stream from the upstream to the client: whole events, as they arrive, and an honest end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ..apis import sse
from ..core.errors import UpstreamError, UpstreamTimeout
from ..core.models import Usage
from .connections import ConnectionFailed

Send = Callable[[bytes], Awaitable[None]]

_CUT = "The answer was cut off and is incomplete. Ask again."


class Source(Protocol):
    """The upstream's response, as `connections.Response` is."""

    async def read(self) -> bytes: ...

    def close(self) -> None: ...


class Ending(StrEnum):
    """How a call ended."""

    FINISHED = "finished"
    CUT = "cut"
    """by the upstream, or by our deadline"""
    ABANDONED = "abandoned"
    """by the client"""


@dataclass(frozen=True, slots=True)
class Relayed:
    """How a stream ended. `chunks` counts the chunks that were relayed, in case no usage was reported."""

    ending: Ending
    usage: Usage | None
    chunks: int


class ClientNotReading(Exception):
    """The client reads nothing more, not even the reason why its stream was ended."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How long a stream may take and be silent, in seconds.

    All are below the platform's functionTimeout (host.json), which ends every call of the worker.
    """

    heartbeat_seconds: float
    idle_seconds: float
    longest_seconds: float
    error_seconds: float = 2.0
    """For the client to take the error that ends its stream."""


class Relay:
    """Pumps one stream. `ended` is called exactly once, without an await, whatever happens."""

    def __init__(
        self,
        source: Source,
        limits: StreamLimits,
        *,
        hide_usage: bool,
        ended: Callable[[Relayed], None],
    ) -> None:
        self._source = source
        self._events = sse.EventSplitter()
        self._reader = sse.UsageReader(hide=hide_usage)
        self._limits = limits
        self._ended: Callable[[Relayed], None] | None = ended
        self._ending = Ending.ABANDONED
        """How it ends if nothing more comes of it."""
        self._timed_out = False
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._beat: asyncio.Task[None] | None = None

    async def pump(self, send: Send) -> None:
        """Relay until the end. A failure of the upstream becomes an event: the status is sent already.

        Streams that end together are accounted for after all their last bytes (docs/decisions/0058).

        Raises:
            asyncio.CancelledError: the caller ended it, because the client left.
            ClientNotReading: it was ended, and the client did not take the reason.
        """
        self._watch(send)
        try:
            await self._relay_in_time(send)
            self._ending = Ending.CUT if self._reader.failed else Ending.FINISHED
            await asyncio.sleep(0)  # the last bytes of others go out before this one is accounted for
        except (UpstreamError, UpstreamTimeout, ConnectionFailed, sse.EventTooLong) as error:
            self._ending = Ending.CUT
            self._stop_watch()
            self.close()
            await self._send_error(send, self._failure(error))
        finally:
            self._stop_watch()
            self.close()

    def close(self) -> None:
        """Close the upstream and account for the stream, if that is not done."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                self._source.close()
            finally:
                ended(Relayed(self._ending, self._reader.usage, self._reader.chunks))

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
        while data := await self._source.read():
            self._heard_at = self._loop.time()
            if out := self._reader.read(self._events.feed(data)):
                self._heard_at = math.inf  # waiting for a slow client does not count as upstream silence
                await send(out)
                self._heard_at = self._loop.time()
        rest = self._reader.read(self._events.rest())
        if not self._reader.done and not self._reader.failed:
            # Half an event is not sent: the error would be read as its other half.
            raise UpstreamError(_CUT)
        if rest:
            await send(rest)

    async def _send_error(self, send: Send, error: UpstreamError | UpstreamTimeout) -> None:
        timeout = asyncio.timeout(self._limits.error_seconds)
        try:
            async with timeout:
                await send(sse.error_event(error.body()))
        except TimeoutError as late:
            if not timeout.expired():
                raise
            raise ClientNotReading from late

    def _stop_watch(self) -> None:
        """Nothing may follow the end."""
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _watch(self, send: Send) -> None:
        """Check once in a heartbeat for silence: no timer is needed for each chunk."""
        wait = min(self._limits.heartbeat_seconds, self._limits.idle_seconds)
        silent_seconds = max(0.0, self._loop.time() - self._heard_at)
        # The next check is when this silence will have lasted for one more heartbeat.
        self._timer = self._loop.call_later(wait - silent_seconds % wait, self._check, send)

    def _check(self, send: Send) -> None:
        silent_seconds = self._loop.time() - self._heard_at
        if silent_seconds >= self._limits.idle_seconds:
            self._timed_out = True
            self._source.close()
            return
        if silent_seconds >= self._limits.heartbeat_seconds and (self._beat is None or self._beat.done()):
            self._beat = self._loop.create_task(_beat(send))
            self._beat.add_done_callback(_ignore_failure)
        self._watch(send)

    def _failure(self, error: Exception) -> UpstreamError | UpstreamTimeout:
        if self._timed_out:
            return UpstreamTimeout(
                f"The model sent nothing for {self._limits.idle_seconds:g} seconds, so the stream was ended. "
                "Ask again."
            )
        if isinstance(error, UpstreamError | UpstreamTimeout):
            return error
        if isinstance(error, ConnectionFailed):
            return UpstreamError(_CUT)
        return UpstreamError("The model returned an invalid stream. Ask again.")


async def _beat(send: Send) -> None:
    await send(sse.HEARTBEAT)


def _ignore_failure(beat: asyncio.Task[None]) -> None:
    """A heartbeat that cannot be sent needs no report: the stream itself will fail as well."""
    if not beat.cancelled():
        beat.exception()
