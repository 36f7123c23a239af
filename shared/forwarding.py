"""The way of one call to a deployment, and on to the next where that one fails before the first byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from . import request, sse, upstream
from .errors import ProxyError, UpstreamError, UpstreamTimeout
from .models import Credential, Event, Trouble, Usage, Ways
from .routing import Candidate, Routes
from .trace import trace_headers
from .upstream import Answer, Body, Deadlines, Fault, Upstream

LEAST_SECONDS: Final = 1.0
"""With less than this of the time left, no further deployment is tried."""

_AS_ASKED: Final = Ways()


@dataclass(slots=True)
class Call:
    """One chat completion on its way: what is asked for, and how far it has come."""

    id: str
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
    trace: dict[str, str]
    """The headers that carry its trace."""
    tried: tuple[Candidate, ...] = ()
    attempts: int = 0
    first_byte_at: float | None = None
    is_sent: bool = False
    """Whether any deployment has its prompt: what was never forwarded is not charged."""

    @property
    def deployment(self) -> str:
        """The id of the one that was tried last."""
        return self.tried[-1].deployment.id if self.tried else ""


class Received(NamedTuple):
    """An answer to pass on. Of a stream nothing was read yet, and its candidate is still to be `ended`."""

    answer: Answer
    candidate: Candidate
    body: bytes | None
    """None: a stream."""
    usage: Usage | None = None


class Forwarding:
    """Sends calls. Shared by all of them: nothing here belongs to one."""

    def __init__(self, upstream: Upstream, deadlines: Deadlines, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._deadlines = deadlines
        self.clock = clock

    def begin(
        self,
        id: str,  # noqa: A002 - what it is
        who: Credential,
        event: Event,
        model: str,
        asked: request.ChatRequest,
        headers: Mapping[bytes, bytes],
        body: bytes,
        prompt_tokens: int,
        routes: Routes,
    ) -> Call:
        """A call of which nothing was sent yet."""
        trace, now = trace_headers(headers), self.clock()
        return Call(id, who, event, model, asked, headers, body, prompt_tokens, routes, now, trace)

    def times(self, call: Call) -> tuple[float | None, float]:
        """Milliseconds from the beginning to the status of the answer, where one came, and until now."""
        first = None if call.first_byte_at is None else (call.first_byte_at - call.began_at) * 1000
        return first, (self.clock() - call.began_at) * 1000

    async def send(self, call: Call, cap: int | None) -> Received:
        """The first answer that can be passed on, from one deployment after the other. Never waits for one.

        Raises:
            UpstreamBusy: all of them are cooling down; it says when the first is back.
            UpstreamError: none could be reached, or none gave an answer.
            UpstreamTimeout: none answered in time.
        """
        last: ProxyError | None = None
        while (candidate := self._next(call)) is not None:
            received = await self._try(call, candidate, cap)
            if isinstance(received, Received):
                return received
            last = received
        raise call.routes.refusal(call.model, last) from last

    def _next(self, call: Call) -> Candidate | None:
        if call.attempts and self._seconds(call) < LEAST_SECONDS:
            return None
        return call.routes.choose(call.model, call.credential.user, call.tried)

    async def _try(self, call: Call, candidate: Candidate, cap: int | None) -> Received | ProxyError:
        """One attempt, of which the candidate is told how it went; an error where the next may be tried."""
        began_at = self.clock() if call.attempts else call.began_at
        seconds = self._seconds(call)
        call.tried = (*call.tried, candidate)
        candidate.begin()
        outcome: Received | Fault | None = None
        try:
            async with asyncio.timeout(seconds):
                outcome = await self._exchange(call, candidate, cap)
        except (UpstreamError, TimeoutError) as error:
            outcome = _fault(error, call, seconds)
        finally:
            if outcome is None:
                candidate.left()
            if not isinstance(outcome, Received) or outcome.body is not None:
                candidate.ended()
        if isinstance(outcome, Fault):
            candidate.failed(outcome.trouble, outcome.seen, outcome.seconds, began_at)
            return outcome.error
        candidate.answered(began_at)
        return outcome

    async def _exchange(self, call: Call, candidate: Candidate, cap: int | None) -> Received | Fault:
        """Ask, and where the deployment refuses the way it was asked, once more in the other way."""
        outcome = await self._ask(call, candidate, cap, candidate.ways)
        if isinstance(outcome, Received) and outcome.answer.status == 400 and outcome.body is not None:
            ways = request.refused_way(upstream.error_of(outcome.body), candidate.ways)
            if ways is not None:
                if not request.has_own_data(call.body):
                    candidate.ways = ways
                return await self._ask(call, candidate, cap, ways)
        return outcome

    async def _ask(self, call: Call, candidate: Candidate, cap: int | None, ways: Ways) -> Received | Fault:
        deployment = candidate.deployment
        content = request.upstream_body(call.body, call.asked, deployment, cap)
        body = Body(content if ways == _AS_ASKED else request.adapted(content, ways))
        call.attempts += 1
        call.first_byte_at = None
        try:
            answer = await self._upstream.send(deployment, body, call.headers, call.trace)
        finally:
            call.is_sent = call.is_sent or body.is_sent
        call.first_byte_at = self.clock()
        if answer.is_stream and answer.status == 200:
            return Received(answer, candidate, None)
        try:
            return await _read(call, candidate, answer)
        except BaseException:
            answer.close()
            raise

    def _seconds(self, call: Call) -> float:
        """For one try: of a stream its beginning only; of all tries together, as for one whole answer."""
        spent = self.clock() - call.began_at if call.attempts else 0.0
        left = max(0.0, self._deadlines.whole - spent)
        return min(left, self._deadlines.first_byte) if call.asked.stream else left


async def _read(call: Call, candidate: Candidate, answer: Answer) -> Received | Fault:
    """The whole answer, or why it is none; what is no use is not waited for."""
    if answer.status in upstream.USELESS or answer.status // 100 not in {2, 4}:
        answer.close()
        return upstream.fault(answer)
    body = await answer.read_all()
    if upstream.is_ours(answer.status, body) and not request.has_own_data(call.body):
        return upstream.fault(answer)
    try:
        return Received(answer, candidate, body, sse.usage_of(body))
    except ValueError:
        if answer.status >= 400:
            return Received(answer, candidate, body)
        error = UpstreamError("The model sent what is no answer. Try again.")
        return Fault(error, Trouble.FAILED, "no answer")


def _fault(error: UpstreamError | TimeoutError, call: Call, seconds: float) -> Fault:
    if isinstance(error, TimeoutError):
        text = f'The model did not answer within {seconds:.3g} seconds. Ask for less, or use "stream": true.'
        return Fault(UpstreamTimeout(text), Trouble.SILENT, "timeout")
    if isinstance(error, upstream.NoKey):
        return Fault(error, Trouble.REFUSED, "no key")
    if isinstance(error, upstream.NoToken):
        return Fault(error, Trouble.SILENT, "no token")
    if call.first_byte_at is not None:
        return Fault(error, Trouble.FAILED, "cut")
    return Fault(error, Trouble.SILENT, "unreachable")
