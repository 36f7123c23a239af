"""A stream on its way from the upstream to the client: whole events, as they arrive, and an honest end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Protocol

from ..apis import sse
from ..core.deadlines import Deadlines
from ..core.errors import UpstreamError, UpstreamTimeout
from ..core.models import Usage

Send = Callable[[bytes], Awaitable[None]]


class Source(Protocol):
    """The upstream's answer, as `upstream.Answer` is."""

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
    """What became of a stream. `chunks` counts what was relayed, for when the usage was never told."""

    ending: Ending
    usage: Usage | None
    chunks: int


class ClientDeaf(Exception):
    """The client takes nothing more, not even the reason why its stream was ended."""


class StreamLimits:
    """How long a stream may take and be silent, in seconds. For all streams: they share its timers."""

    def __init__(
        self,
        heartbeat_seconds: float,
        idle_seconds: float,
        longest_seconds: float,
        last_words_seconds: float = 2.0,
    ) -> None:
        """All of it below the platform's functionTimeout (host.json): that ends every call of the worker."""
        self.heartbeat_seconds = heartbeat_seconds
        self.idle_seconds = idle_seconds
        self.longest = Deadlines(longest_seconds, partial(_too_long, longest_seconds))
        self.last_words = Deadlines(last_words_seconds, ClientDeaf)


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
        """Relay until the end. A failure of the upstream becomes an event, for the status is long sent.

        Streams that end together are accounted for after all their last words (docs/decisions/0059).

        Raises:
            asyncio.CancelledError: the caller ended it, because the client left.
            ClientDeaf: it was ended, and the client could not be told.
        """
        self._watch(send)
        try:
            with self._limits.longest.block():
                await self._relay(send)
            self._ending = Ending.CUT if self._reader.failed else Ending.FINISHED
            await asyncio.sleep(0)  # the last words of others go out before this one is accounted for
        except (UpstreamError, UpstreamTimeout, sse.EventTooLong) as error:
            self._ending = Ending.CUT
            self._be_silent()
            self.close()
            with self._limits.last_words.block():
                await send(sse.error_event(self._failure(error).body()))
        finally:
            self._be_silent()
            self.close()

    def close(self) -> None:
        """Close the upstream and account for what was relayed, if that is not done."""
        ended, self._ended = self._ended, None
        if ended is not None:
            try:
                self._source.close()
            finally:
                ended(Relayed(self._ending, self._reader.usage, self._reader.chunks))

    async def _relay(self, send: Send) -> None:
        while data := await self._source.read():
            self._heard_at = self._loop.time()
            if out := self._reader.read(self._events.feed(data)):
                self._heard_at = math.inf  # a client that takes its time is not the model's silence
                await send(out)
                self._heard_at = self._loop.time()
        rest = self._reader.read(self._events.rest())
        if not self._reader.done and not self._reader.failed:
            # Half an event stays here: the error would be read as its other half.
            raise UpstreamError("The model's answer was cut off. What came is not complete.")
        if rest:
            await send(rest)

    def _be_silent(self) -> None:
        """Nothing may follow the end."""
        self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def _watch(self, send: Send) -> None:
        """Look again after each heartbeat: so no timer has to be set for each chunk."""
        wait = min(self._limits.heartbeat_seconds, self._limits.idle_seconds)
        silent_seconds = max(0.0, self._loop.time() - self._heard_at)
        # The next look is when this silence will have lasted for one more heartbeat.
        self._timer = self._loop.call_later(wait - silent_seconds % wait, self._look, send)

    def _look(self, send: Send) -> None:
        silent_seconds = self._loop.time() - self._heard_at
        if silent_seconds >= self._limits.idle_seconds:
            self._timed_out = True
            self._source.close()
            return
        if silent_seconds >= self._limits.heartbeat_seconds and (self._beat is None or self._beat.done()):
            self._beat = self._loop.create_task(_beat(send))
            self._beat.add_done_callback(_noted)
        self._watch(send)

    def _failure(self, error: Exception) -> UpstreamError | UpstreamTimeout:
        if self._timed_out:
            return UpstreamTimeout(
                f"The model was silent for {self._limits.idle_seconds:g} seconds, so the stream was ended."
            )
        if isinstance(error, UpstreamError | UpstreamTimeout):
            return error
        return UpstreamError("The model sent what is no stream.")


def _too_long(seconds: float) -> UpstreamTimeout:
    text = f"The answer took longer than {seconds:g} seconds, so the stream was ended. Ask again for less."
    return UpstreamTimeout(text)


async def _beat(send: Send) -> None:
    await send(sse.HEARTBEAT)


def _noted(beat: asyncio.Task[None]) -> None:
    """A failed heartbeat is no news: whoever cannot be sent it cannot be sent the stream either."""
    if not beat.cancelled():
        beat.exception()
