"""Sends a call to a deployment, and to the next one if that fails before the first byte."""

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
from .failures import Failure, error_of, is_failure, refuses_proxy, response_failure
from .routing import Routes

LEAST_SECONDS = 1.0
"""A call with less time left is not sent to another deployment."""

ON_TIME_SECONDS = 1.0
"""The first try of a call that arrived this recently has all the time of a call."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the upstream may take, in seconds. All are below the 230 of the platform."""

    first_byte: float
    """Until a deployment begins a stream."""
    whole: float
    """From the arrival of a call to its whole response, all tries together."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One chat completion of a client."""

    id: str
    arrived_at: datetime
    clock_at_arrival: float
    """The clock of `Forwarding` when the call arrived, before its body was read."""
    credential: Credential
    event: Event
    model: str
    request: chat.ChatRequest
    headers: Mapping[bytes, bytes]
    body: bytes
    prompt_tokens: int
    """An estimate, rarely too low."""
    trace: Trace


class Progress(msgspec.Struct):
    """How far one call has come. Not shared with other calls. Times are of the clock of `Forwarding`."""

    began_at: float
    tried: tuple[Candidate, ...] = ()
    attempts: int = 0
    first_byte_at: float | None = None
    is_sent: bool = False
    """Whether a deployment has the prompt and may work on it. After an error response it does not."""

    @property
    def deployment(self) -> str:
        """The id of the deployment that was tried last."""
        return self.tried[-1].deployment.id if self.tried else ""


class Forwarded(msgspec.Struct, frozen=True):
    """A response to pass on.

    A stream has no `body`: nothing of it is read yet. Call `candidate.end()` at its end.
    """

    response: Response
    candidate: Candidate
    body: bytes | None
    usage: Usage | None


class Forwarding:
    """Sends calls. It is shared by all of them and keeps nothing of any."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        self._clock = clock

    async def send(
        self, call: Call, routes: Routes, output_limit: int | None, progress: Progress
    ) -> Forwarded:
        """Try one deployment after the other until a response can be passed on. Never waits for a cool-down.

        Raises:
            UpstreamBusy: all are cooling down. It says when to retry.
            UpstreamError: none could be reached, or none returned a valid response.
            UpstreamTimeout: none responded in time, or no time was left for a try.
        """
        last: ProxyError | None = None
        while (candidate := self._next(call, routes, progress)) is not None:
            result = await self._try(call, candidate, output_limit, progress)
            if isinstance(result, Forwarded):
                return result
            last = result
        error = routes.refusal(call.model, last)
        raise error from (None if error is last else last)

    def _next(self, call: Call, routes: Routes, progress: Progress) -> Candidate | None:
        if progress.tried and self._seconds_left(call) < LEAST_SECONDS:
            return None
        return routes.choose(call.model, call.credential.user, progress.tried)

    async def _try(
        self, call: Call, candidate: Candidate, output_limit: int | None, progress: Progress
    ) -> Forwarded | ProxyError:
        """Try one deployment, and note its result. Returns an error if another deployment can be tried.

        Raises:
            UpstreamTimeout: no time is left for the first try.
        """
        began_at = self._clock()
        seconds = self._seconds(call, progress)
        progress.tried = (*progress.tried, candidate)
        candidate.begin()
        try:
            async with asyncio.timeout(seconds):
                forwarded = await self._send(call, candidate, output_limit, candidate.quirks, progress)
                if forwarded.response.status == 400 and (quirks := _learn_quirks(call, forwarded)):
                    forwarded = await self._send(call, candidate, output_limit, quirks, progress)
        except (Failure, UpstreamError, TimeoutError) as error:
            candidate.end()
            failure = _failure(error, progress, seconds)
            if isinstance(error, TimeoutError) and self._is_slow_call(candidate, began_at, seconds):
                candidate.note_no_result()
            else:
                candidate.note_failure(failure.kind, failure.status, failure.cool_down_seconds, began_at)
            return failure.error
        except BaseException:
            candidate.end()
            candidate.note_no_result()
            raise
        if forwarded.body is not None:
            candidate.end()
        candidate.note_response(began_at)
        return forwarded

    async def _send(
        self, call: Call, candidate: Candidate, output_limit: int | None, quirks: Quirks, progress: Progress
    ) -> Forwarded:
        """Raises Failure or UpstreamError."""
        deployment = candidate.deployment
        content = chat.upstream_body(call.body, call.request, deployment, output_limit, quirks)
        body = Body(content, is_urgent=bool(call.request.stream))
        progress.attempts += 1
        progress.first_byte_at = None
        was_sent = progress.is_sent
        try:
            response = await self._upstream.send(deployment, body, call.headers, call.trace)
        finally:
            progress.is_sent = was_sent or body.is_sent
        progress.first_byte_at = self._clock()
        if response.status // 100 != 2:
            progress.is_sent = was_sent
        try:
            return await _read(call, candidate, response)
        except BaseException:
            response.close()
            raise

    def _is_slow_call(self, candidate: Candidate, began_at: float, seconds: float) -> bool:
        """Whether a timeout is due to the call, not to the deployment.

        So it is if other calls had responses during this try, or if it had less time than usual. If the last
        call to the deployment failed as well, the timeout counts against it.
        """
        if candidate.failure is not None:
            return False
        usual = min(self._timeouts.first_byte, self._timeouts.whole)
        return candidate.responded_at > began_at or seconds < usual

    def _seconds_left(self, call: Call) -> float:
        return call.clock_at_arrival + self._timeouts.whole - self._clock()

    def _seconds(self, call: Call, progress: Progress) -> float:
        """The time for one try: all that is left of the call's time, but for a stream at most `first_byte`.

        Raises:
            UpstreamTimeout: the call arrived so slowly that no time is left.
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
    """Read a whole response; leave a stream unread. Raises Failure or UpstreamError."""
    content_type = response.headers.get("content-type", "")
    if response.status == 200 and content_type.startswith("text/event-stream") and content_type.isascii():
        return Forwarded(response, candidate, None, None)
    if is_failure(response.status):
        raise response_failure(response)
    try:
        body = await response.read_all()
    except ConnectionFailed as error:
        raise UpstreamError("The answer was cut off. Try again.") from error
    if response.status >= 400 and refuses_proxy(response.status, body) and not chat.has_own_data(call.body):
        raise response_failure(response)
    return Forwarded(response, candidate, body, _usage(response, body))


def _usage(response: Response, body: bytes) -> Usage | None:
    """The usage in a response. Raises Failure if a good status comes with an invalid body."""
    try:
        return sse.usage_of(body)
    except ValueError:
        if response.status >= 400:
            return None
        error = UpstreamError("The model returned an invalid response. Try again.")
        raise Failure(error, FailureKind.FAILED, "invalid response") from None


def _learn_quirks(call: Call, forwarded: Forwarded) -> Quirks | None:
    """The quirks that a 400 shows, if any. Later calls to the deployment use them too."""
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
