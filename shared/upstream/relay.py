"""Relays a stream to the client: whole stream events, as they arrive, and an error if it is incomplete."""

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
    """By the upstream, or by a time limit of the proxy."""
    ABANDONED = "abandoned"
    """By the client."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The result of a stream. `chunks` counts the relayed chunks, from which a missing usage is estimated."""

    ending: Ending
    usage: Usage | None
    chunks: int


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


class Relay:
    """Relays one stream. `on_end` is called exactly once, however the stream ends."""

    def __init__(
        self,
        source: Source,
        limits: StreamLimits,
        *,
        hide_usage: bool,
        on_end: Callable[[Relayed], None],
    ) -> None:
        self._source = source
        self._events = sse.EventSplitter()
        self._reader = sse.UsageReader(hide=hide_usage)
        self._limits = limits
        self._on_end: Callable[[Relayed], None] | None = on_end
        self._ending = Ending.ABANDONED
        """The ending, if the client leaves now."""
        self._is_idle = False
        """Whether the upstream was silent for too long."""
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        """When the last data came from the upstream."""
        self._heartbeat: asyncio.Task[None] | None = None

    async def pump(self, send: Send) -> None:
        """Relay until the end. A failure becomes a stream event, because the status is sent already.

        Raises:
            asyncio.CancelledError: the client left.
            ClientNotReading: the stream failed, and the client did not read the error.
        """
        self._watch(send)
        try:
            await self._relay_in_time(send)
            self._ending = Ending.CUT if self._reader.failed else Ending.FINISHED
            await asyncio.sleep(0)  # send the last bytes of other streams first (docs/decisions/0058)
        except (UpstreamError, UpstreamTimeout, ConnectionFailed, sse.EventTooLong) as error:
            self._ending = Ending.CUT
            self._stop_watch()
            self.close()
            await self._send_error(send, self._error(error))
        finally:
            self._stop_watch()
            self.close()

    def close(self) -> None:
        """Close the upstream's response and call `on_end`, if that is not done yet."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            try:
                self._source.close()
            finally:
                on_end(Relayed(self._ending, self._reader.usage, self._reader.chunks))

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
            # The incomplete event is not sent: the client would read the error as a part of it.
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
        if silent_seconds >= self._limits.heartbeat_seconds and (
            self._heartbeat is None or self._heartbeat.done()
        ):
            self._heartbeat = self._loop.create_task(_send_heartbeat(send))
            self._heartbeat.add_done_callback(_ignore_failure)
        self._watch(send)

    def _error(self, error: Exception) -> UpstreamError | UpstreamTimeout:
        """The error for the client."""
        if self._is_idle:
            return UpstreamTimeout(
                f"The model sent nothing for {self._limits.idle_seconds:g} seconds, so the stream was ended. "
                "Ask again."
            )
        if isinstance(error, UpstreamError | UpstreamTimeout):
            return error
        if isinstance(error, ConnectionFailed):
            return UpstreamError(_CUT)
        return UpstreamError("The model returned an invalid stream. Ask again.")


async def _send_heartbeat(send: Send) -> None:
    await send(sse.HEARTBEAT)


def _ignore_failure(heartbeat: asyncio.Task[None]) -> None:
    """If a heartbeat cannot be sent, the stream itself fails as well."""
    if not heartbeat.cancelled():
        heartbeat.exception()
