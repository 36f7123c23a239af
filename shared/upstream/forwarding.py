"""The way of one call to a deployment, and on to the next where that one fails before the first byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from ..apis import chat as request
from ..apis import sse
from ..core.deadlines import Block, Deadlines
from ..core.errors import ProxyError, UpstreamError, UpstreamTimeout
from ..core.models import AS_ASKED, Credential, Event, Trouble, Usage, Ways
from ..core.trace import Trace, trace_headers
from . import client as upstream
from .candidate import Candidate
from .client import Answer, Body, Fault, Timeouts, Upstream
from .routing import Routes

LEAST_SECONDS: Final = 1.0
"""With less than this of the time left, no deployment is tried."""

ON_TIME_SECONDS: Final = 1.0
"""A call that came so lately has the whole time still before it: so most first tries share a timer."""


class Call(msgspec.Struct):
    """One chat completion on its way: what is asked for, and how far it has come."""

    id: str
    arrived_at: datetime
    credential: Credential
    event: Event
    model: str
    asked: request.ChatRequest
    headers: Mapping[bytes, bytes]
    body: bytes
    prompt_tokens: int
    """Estimated from above."""
    routes: Routes
    began_at: float
    """By the forwarding's clock, as the others here."""
    due_at: float
    """When its answer is due, or of a stream the beginning."""
    trace: Trace
    tried: tuple[Candidate, ...] = ()
    attempts: int = 0
    first_byte_at: float | None = None
    is_sent: bool = False
    """Whether a deployment has its prompt and may work on it: one that answered with an error does not."""

    @property
    def deployment(self) -> str:
        """The id of the one that was tried last."""
        return self.tried[-1].deployment.id if self.tried else ""


class Received(msgspec.Struct, frozen=True):
    """An answer to pass on. Of a stream nothing was read yet, and its candidate is still to be `ended`."""

    answer: Answer
    candidate: Candidate
    body: bytes | None
    """None: a stream."""
    usage: Usage | None


class Forwarding:
    """Sends calls. Shared by all of them: nothing here belongs to one."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        usual = (timeouts.whole, min(timeouts.first_byte, timeouts.whole))
        self._deadlines = {seconds: Deadlines(seconds, TimeoutError) for seconds in usual}
        self.clock = clock

    def begin(
        self,
        id: str,  # noqa: A002 - what it is
        arrived_at: datetime,
        who: Credential,
        event: Event,
        model: str,
        asked: request.ChatRequest,
        headers: Mapping[bytes, bytes],
        body: bytes,
        prompt_tokens: int,
        routes: Routes,
        came_at: float,
    ) -> Call:
        """A call of which nothing was sent yet; by our clock it came at `came_at`, its body after that."""
        trace, now, due = trace_headers(headers), self.clock(), came_at + self._timeouts.whole
        return Call(
            id, arrived_at, who, event, model, asked, headers, body, prompt_tokens, routes, now, due, trace
        )

    def times(self, call: Call) -> tuple[float | None, float]:
        """Milliseconds from the beginning to the status of the answer, where one came, and until now."""
        first = None if call.first_byte_at is None else (call.first_byte_at - call.began_at) * 1000
        return first, (self.clock() - call.began_at) * 1000

    async def send(self, call: Call, cap: int | None) -> Received:
        """The first answer that can be passed on, from one deployment after the other. Never waits for one.

        Raises:
            UpstreamBusy: all of them are cooling down; it says when the first is back.
            UpstreamError: none could be reached, or none gave an answer.
            UpstreamTimeout: none answered in time, or none was left to ask any.
        """
        last: ProxyError | None = None
        while (candidate := self._next(call)) is not None:
            received = await self._try(call, candidate, cap)
            if isinstance(received, Received):
                return received
            last = received
        refusal = call.routes.refusal(call.model, last)
        raise refusal from (None if refusal is last else last)

    def _next(self, call: Call) -> Candidate | None:
        if call.tried and call.due_at - self.clock() < LEAST_SECONDS:
            return None
        return call.routes.choose(call.model, call.credential.user, call.tried)

    async def _try(self, call: Call, candidate: Candidate, cap: int | None) -> Received | ProxyError:
        """One deployment, which is told how it went; an error where the next may be tried.

        Raises:
            UpstreamTimeout: no time is left for the first.
        """
        began_at = self.clock()  # not the call's: it may have waited for its quota since
        seconds = self._seconds(call, began_at)
        call.tried = (*call.tried, candidate)
        candidate.begin()
        try:
            with self._deadline(seconds):
                received = await self._ask(call, candidate, cap, candidate.ways)
                if received.answer.status == 400 and (ways := _other_way(call, received)):
                    received = await self._ask(call, candidate, cap, ways)
        except (Fault, UpstreamError, TimeoutError) as error:
            candidate.ended()
            fault = _fault(error, call, seconds)
            if isinstance(error, TimeoutError) and self._is_calls_own(candidate, began_at, seconds):
                candidate.left()
            else:
                candidate.failed(fault.trouble, fault.seen, fault.seconds, began_at)
            return fault.error
        except BaseException:
            candidate.ended()
            candidate.left()
            raise
        if received.body is not None:
            candidate.ended()
        candidate.answered(began_at)
        return received

    async def _ask(self, call: Call, candidate: Candidate, cap: int | None, ways: Ways) -> Received:
        """Raises Fault, UpstreamError."""
        deployment = candidate.deployment
        content = request.upstream_body(call.body, call.asked, deployment, cap)
        content = content if ways is AS_ASKED else request.adapted(content, ways)
        body = Body(content, is_urgent=bool(call.asked.stream))
        call.attempts += 1
        call.first_byte_at = None
        was_sent = call.is_sent
        try:
            answer = await self._upstream.send(deployment, body, call.headers, call.trace)
        finally:
            call.is_sent = was_sent or body.is_sent
        call.first_byte_at = self.clock()
        if answer.status // 100 != 2:
            call.is_sent = was_sent
        try:
            if answer.status == 200 and answer.is_stream:
                return Received(answer, candidate, None, None)
            if upstream.is_useless(answer.status):
                raise upstream.fault(answer)
            content = await answer.read_all()
            if answer.status >= 400 and _is_ours(call, answer, content):
                raise upstream.fault(answer)
            return Received(answer, candidate, content, _usage(answer, content))
        except BaseException:
            answer.close()
            raise

    def _deadline(self, seconds: float) -> Block:
        """The first try of most calls may take equally long: they share a timer."""
        return (self._deadlines.get(seconds) or Deadlines(seconds, TimeoutError)).block()

    def _is_calls_own(self, candidate: Candidate, began_at: float, seconds: float) -> bool:
        """Whether a try took too long by itself: others were answered meanwhile, or it was given little time.

        Of a deployment that is in trouble already, every try tells.
        """
        if candidate.trouble is not None:
            return False
        return candidate.answered_at > began_at or seconds < min(self._deadlines)

    def _seconds(self, call: Call, now: float) -> float:
        """For one try: of a stream its beginning only; of all tries together, as for one whole answer.

        Raises:
            UpstreamTimeout: the call came so slowly that none are left.
        """
        whole, left = self._timeouts.whole, call.due_at - now
        if not call.tried:
            if left > whole - ON_TIME_SECONDS:
                left = whole
            elif left < LEAST_SECONDS:
                raise UpstreamTimeout(
                    f"The {whole:g} seconds that a call may take were over before the model could be asked. "
                    "Send a shorter body, or try again."
                )
        return min(left, self._timeouts.first_byte) if call.asked.stream else left


def _is_ours(call: Call, answer: Answer, body: bytes) -> bool:
    return upstream.is_ours(answer.status, body) and not request.has_own_data(call.body)


def _usage(answer: Answer, body: bytes) -> Usage | None:
    """Raises Fault where a right status has a body that is no answer."""
    try:
        return sse.usage_of(body)
    except ValueError:
        if answer.status >= 400:
            return None
        error = UpstreamError("The model sent what is no answer. Try again.")
        raise Fault(error, Trouble.FAILED, "no answer") from None


def _other_way(call: Call, received: Received) -> Ways | None:
    """How to ask instead, where the deployment refused the way it was asked; it is remembered."""
    candidate = received.candidate
    ways = request.refused_way(upstream.error_of(received.body or b""), candidate.ways)
    if ways is not None and not request.has_own_data(call.body):
        candidate.ways = ways
    return ways


def _fault(error: Fault | UpstreamError | TimeoutError, call: Call, seconds: float) -> Fault:
    match error:
        case Fault():
            return error
        case TimeoutError():
            text = (
                f'The model did not answer within {seconds:.3g} seconds. Ask for less, or use "stream": true.'
            )
            return Fault(UpstreamTimeout(text), Trouble.SILENT, "timeout")
        case upstream.NoKey():
            return Fault(error, Trouble.REFUSED, "no key")
        case upstream.NoToken():
            return Fault(error, Trouble.SILENT, "no token")
    if call.first_byte_at is not None:
        return Fault(error, Trouble.FAILED, "cut")
    return Fault(error, Trouble.SILENT, "unreachable")
