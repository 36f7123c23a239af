"""Sends one call to a deployment, and on to the next where that one fails before the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from ..apis import chat, sse
from ..core.errors import ProxyError, UpstreamError, UpstreamTimeout
from ..core.models import Credential, Event, FailureKind, Quirks, Usage
from ..core.trace import Trace
from .candidate import Candidate
from .client import NoKey, NoToken, Upstream
from .connections import Body, ConnectionFailed, Response
from .failures import Failure, error_of, failure, is_failure, refuses_us
from .routing import Routes

LEAST_SECONDS = 1.0
"""With less than this left of its time, a call is not sent to another deployment."""

ON_TIME_SECONDS = 1.0
"""A call that came so recently has all of its time for the first try."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the upstream may take, in seconds; all below the platform's own 230."""

    first_byte: float
    """For one deployment to begin a stream."""
    whole: float
    """From a call's arrival to its whole response, over all tries together."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One chat completion: who sends what to which model."""

    id: str
    arrived_at: datetime
    came_at: float
    """When it arrived, by the clock of `Forwarding`; its body came after that."""
    credential: Credential
    event: Event
    model: str
    request: chat.ChatRequest
    headers: Mapping[bytes, bytes]
    body: bytes
    prompt_tokens: int
    """An upper estimate."""
    trace: Trace


class Progress(msgspec.Struct):
    """How far one call has come. It belongs to that call alone. Times are by `Forwarding`'s clock."""

    began_at: float
    tried: tuple[Candidate, ...] = ()
    attempts: int = 0
    first_byte_at: float | None = None
    is_sent: bool = False
    """Whether a deployment has the prompt and may work on it: one that responded with an error does not."""

    @property
    def deployment(self) -> str:
        """The id of the deployment that was tried last."""
        return self.tried[-1].deployment.id if self.tried else ""


class Forwarded(msgspec.Struct, frozen=True):
    """A response to pass on. Of a stream nothing is read yet, and `candidate.ended()` is still due."""

    response: Response
    candidate: Candidate
    body: bytes | None
    """None: a stream."""
    usage: Usage | None


class Forwarding:
    """Sends calls. It is shared by all of them and keeps nothing of any."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        self.clock = clock

    async def send(self, call: Call, routes: Routes, cap: int | None, progress: Progress) -> Forwarded:
        """Try one deployment after the other, without waiting for any, until a response can be passed on.

        Raises:
            UpstreamBusy: all are cooling down; it says when the first is back.
            UpstreamError: none could be reached, or none gave a valid response.
            UpstreamTimeout: none responded in time, or no time was left to try one.
        """
        last: ProxyError | None = None
        while (candidate := self._next(call, routes, progress)) is not None:
            forwarded = await self._try(call, candidate, cap, progress)
            if isinstance(forwarded, Forwarded):
                return forwarded
            last = forwarded
        refusal = routes.refusal(call.model, last)
        raise refusal from (None if refusal is last else last)

    def _next(self, call: Call, routes: Routes, progress: Progress) -> Candidate | None:
        if progress.tried and self._seconds_left(call) < LEAST_SECONDS:
            return None
        return routes.choose(call.model, call.credential.user, progress.tried)

    async def _try(
        self, call: Call, candidate: Candidate, cap: int | None, progress: Progress
    ) -> Forwarded | ProxyError:
        """Try one deployment, and note how it responded; an error if the next may be tried.

        Raises:
            UpstreamTimeout: no time is left for the first.
        """
        began_at = self.clock()  # not the call's: it may have waited for its quota since
        seconds = self._seconds(call, progress)
        progress.tried = (*progress.tried, candidate)
        candidate.begin()
        try:
            async with asyncio.timeout(seconds):
                forwarded = await self._send(call, candidate, cap, candidate.quirks, progress)
                if forwarded.response.status == 400 and (quirks := _learned(call, forwarded)):
                    forwarded = await self._send(call, candidate, cap, quirks, progress)
        except (Failure, UpstreamError, TimeoutError) as error:
            candidate.ended()
            failed = _failure(error, progress, seconds)
            if isinstance(error, TimeoutError) and self._is_slow_call(candidate, began_at, seconds):
                candidate.left()
            else:
                candidate.failed(failed.trouble, failed.seen, failed.seconds, began_at)
            return failed.error
        except BaseException:
            candidate.ended()
            candidate.left()
            raise
        if forwarded.body is not None:
            candidate.ended()
        candidate.answered(began_at)
        return forwarded

    async def _send(
        self, call: Call, candidate: Candidate, cap: int | None, quirks: Quirks, progress: Progress
    ) -> Forwarded:
        """Raises Failure, UpstreamError."""
        deployment = candidate.deployment
        content = chat.upstream_body(call.body, call.request, deployment, cap, quirks)
        body = Body(content, is_urgent=bool(call.request.stream))
        progress.attempts += 1
        progress.first_byte_at = None
        was_sent = progress.is_sent
        try:
            response = await self._upstream.send(deployment, body, call.headers, call.trace)
        finally:
            progress.is_sent = was_sent or body.is_sent
        progress.first_byte_at = self.clock()
        if response.status // 100 != 2:
            progress.is_sent = was_sent
        try:
            return await _read(call, candidate, response)
        except BaseException:
            response.close()
            raise

    def _is_slow_call(self, candidate: Candidate, began_at: float, seconds: float) -> bool:
        """Whether a try took too long by itself: other calls had responses meanwhile, or it had little time.

        Where the deployment is in trouble already, every try counts against it.
        """
        if candidate.trouble is not None:
            return False
        usual = min(self._timeouts.first_byte, self._timeouts.whole)
        return candidate.answered_at > began_at or seconds < usual

    def _seconds_left(self, call: Call) -> float:
        return call.came_at + self._timeouts.whole - self.clock()

    def _seconds(self, call: Call, progress: Progress) -> float:
        """The time for one try: all that is left for a whole response, and for the beginning of a stream.

        Raises:
            UpstreamTimeout: the call came so slowly that none is left.
        """
        whole, left = self._timeouts.whole, self._seconds_left(call)
        if not progress.tried:
            if left > whole - ON_TIME_SECONDS:
                left = whole
            elif left < LEAST_SECONDS:
                raise UpstreamTimeout(
                    f"The {whole:g} seconds for a call were over before it could be sent to the model. "
                    "Send a shorter body, or try again."
                )
        return min(left, self._timeouts.first_byte) if call.request.stream else left


async def _read(call: Call, candidate: Candidate, response: Response) -> Forwarded:
    """Read a whole response; leave a stream unread. Raises Failure, UpstreamError."""
    is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
    if response.status == 200 and is_stream:
        return Forwarded(response, candidate, None, None)
    if is_failure(response.status):
        raise failure(response)
    try:
        body = await response.read_all()
    except ConnectionFailed as error:
        raise UpstreamError("The answer was cut off. Try again.") from error
    if response.status >= 400 and refuses_us(response.status, body) and not chat.has_own_data(call.body):
        raise failure(response)
    return Forwarded(response, candidate, body, _usage(response, body))


def _usage(response: Response, body: bytes) -> Usage | None:
    """Raises Failure where the status is good and the body is no JSON object."""
    try:
        return sse.usage_of(body)
    except ValueError:
        if response.status >= 400:
            return None
        error = UpstreamError("The model returned an invalid response. Try again.")
        raise Failure(error, FailureKind.FAILED, "invalid response") from None


def _learned(call: Call, forwarded: Forwarded) -> Quirks | None:
    """How a 400 shows that the request must be written; kept for the deployment's next calls."""
    candidate = forwarded.candidate
    quirks = chat.learned_quirks(error_of(forwarded.body or b""), candidate.quirks)
    if quirks is not None and not chat.has_own_data(call.body):
        candidate.quirks = quirks
    return quirks


def _failure(error: Failure | UpstreamError | TimeoutError, progress: Progress, seconds: float) -> Failure:
    match error:
        case Failure():
            return error
        case TimeoutError():
            text = (
                f"The model did not respond within {round(seconds, 1):g} seconds. "
                'Ask for a shorter answer, or use "stream": true.'
            )
            return Failure(UpstreamTimeout(text), FailureKind.SILENT, "timeout")
        case NoKey():
            return Failure(error, FailureKind.REFUSED, "no key")
        case NoToken():
            return Failure(error, FailureKind.SILENT, "no token")
    if progress.first_byte_at is not None:
        return Failure(error, FailureKind.FAILED, "cut")
    return Failure(error, FailureKind.SILENT, "unreachable")
