"""Sends a call to a deployment, and to the next one if that fails before the first byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ..apis.quirks import Quirks
from ..core.deadlines import Deadlines, TimeLimit
from ..core.errors import ProxyError, UpstreamError, UpstreamTimeout
from ..core.models import FailureKind, Usage
from ..core.turns import LARGE_BYTES, Turns
from .call import Call, Progress
from .candidate import Candidate
from .client import NoKey, NoToken, Upstream
from .connections import UpstreamBody
from .failures import Failure, error_of
from .reading import read
from .response import UpstreamResponse
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


class Forwarded(msgspec.Struct, frozen=True):
    """A response to pass on.

    Without a `body`, it is a stream or too long: relay it, and call `candidate.end()` at its end.
    """

    response: UpstreamResponse
    candidate: Candidate
    body: bytes | None
    usage: Usage | None
    begun: bytes | None
    """See `Received`, like the two above."""


class Forwarding:
    """Sends calls. It is shared by all of them and keeps nothing of any. Create it inside a running loop."""

    def __init__(
        self, upstream: Upstream, timeouts: Timeouts, clock: Callable[[], float], turns: Turns
    ) -> None:
        """`turns` are for work on large bodies."""
        self._turns = turns
        self._upstream = upstream
        self._timeouts = timeouts
        self._clock = clock
        self._deadlines = Deadlines()

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
            if progress.slow_tries and not await progress.can_go_on():
                break
            result = await self._try(call, candidate, output_limit, progress)
            if isinstance(result, Forwarded):
                return result
            last = result
        error = routes.refusal(call.model, last)
        raise error from (None if error is last else last)

    def _next(self, call: Call, routes: Routes, progress: Progress) -> Candidate | None:
        if progress.client_has_left or (progress.tried and self._seconds_left(call) < LEAST_SECONDS):
            return None
        return routes.choose(call.model, call.credential, progress.tried, call.place)

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
            with TimeLimit(self._deadlines, seconds):
                quirks = candidate.quirks.current
                forwarded = await self._send(call, candidate, output_limit, quirks, progress)
                if forwarded.response.status == 400:
                    forwarded = await self._send_again(
                        call, candidate, output_limit, progress, quirks, forwarded
                    )
        except (Failure, UpstreamError, TimeoutError) as error:
            candidate.end()
            progress.sent = None
            failure = _failure(error, progress, seconds, bool(call.request.stream))
            is_timeout = isinstance(error, TimeoutError)
            progress.slow_tries += is_timeout and progress.is_sent
            if is_timeout and self._is_slow_call(candidate, began_at, seconds):
                candidate.note_no_result()
            else:
                kind, status, seconds_named = failure.kind, failure.status, failure.cool_down_seconds
                candidate.note_failure(kind, status, seconds_named, began_at, call.credential)
            return failure.error
        except BaseException:
            candidate.end()
            candidate.note_no_result()
            raise
        if forwarded.body is not None:
            candidate.end()
        candidate.note_response(began_at)
        return forwarded

    async def _send_again(
        self,
        call: Call,
        candidate: Candidate,
        output_limit: int | None,
        progress: Progress,
        quirks: Quirks,
        forwarded: Forwarded,
    ) -> Forwarded:
        """Send a call in other forms, if the deployment has refused a member that the proxy can change.

        `forwarded` is the refusal of the call with `quirks`. Raises Failure or UpstreamError.
        """
        tried = [quirks]
        while forwarded.response.status == 400:
            shown = call.api.learned_quirks(error_of(forwarded.body or b""), tried[-1])
            if shown is None or shown in tried:
                return forwarded
            tried.append(shown)
            forwarded = await self._send(call, candidate, output_limit, shown, progress)
        if forwarded.response.status < 400:
            is_plain = call.api.is_plain(call.body, call.request)
            candidate.quirks.learn(tried[-1], call.credential, is_plain=is_plain)
        return forwarded

    async def _send(
        self, call: Call, candidate: Candidate, output_limit: int | None, quirks: Quirks, progress: Progress
    ) -> Forwarded:
        """Raises Failure or UpstreamError."""
        deployment = candidate.deployment
        if len(call.body) > LARGE_BYTES:
            await self._turns.wait()
        content = call.api.upstream_body(call.body, call.request, deployment, output_limit, quirks)
        body = UpstreamBody(content, is_urgent=bool(call.request.stream))
        progress.sent = body
        progress.attempts += 1
        progress.first_byte_at = None
        was_sent = progress.is_sent
        try:
            response = await self._upstream.send(call.api, deployment, body, call.headers, call.trace)
        finally:
            progress.is_sent = was_sent or body.is_sent
        progress.first_byte_at = self._clock()
        if response.status // 100 != 2:
            progress.is_sent = was_sent
        try:
            received = await read(response, call.api, call.body)
        except BaseException:
            response.close()
            raise
        return Forwarded(response, candidate, received.body, received.usage, received.begun)

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


def _failure(
    error: Failure | UpstreamError | TimeoutError, progress: Progress, seconds: float, is_stream: bool
) -> Failure:
    match error:
        case Failure():
            return error
        case TimeoutError():
            shorter = "Try again, or send a shorter request."
            advice = shorter if is_stream else 'Use "stream": true, or ask for a shorter answer.'
            text = f"The model did not respond within {round(seconds, 1):g} seconds. {advice}"
            return Failure(UpstreamTimeout(text), FailureKind.SILENT, "timeout")
        case NoKey():
            return Failure(error, FailureKind.REFUSED, "no key")
        case NoToken():
            return Failure(error, FailureKind.SILENT, "no token")
    if progress.first_byte_at is not None:
        return Failure(error, FailureKind.FAILED, "cut")
    return Failure(error, FailureKind.SILENT, "unreachable")
