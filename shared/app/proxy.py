"""The sequence of every call: credential → request → event → route → quota → forward → meter."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from ..apis import chat as request
from ..core.errors import InternalError, InvalidEventToken, ProxyError, StoreUnavailable
from ..core.models import Credential, Event, Usage
from ..core.turns import Turns
from ..events import events
from ..events.credentials import credential
from ..quota.estimate import prompt_tokens
from ..quota.quota import Hold, Need, Quota
from ..upstream import routing
from ..upstream.client import Answer
from ..upstream.forwarding import Call, Forwarding, Received
from ..upstream.relay import Ending, Relay, Relayed, StreamLimits
from ..usage.call_log import Meter
from ..usage.tally import Tally

Headers = Mapping[bytes, bytes]
"""A client's headers: names in lower case, values as they came."""

_JSON = {b"content-type": b"application/json"}
_instance = os.urandom(8).hex()
_numbers = itertools.count(1)


def new_id() -> str:
    """A request id that no other instance gives either."""
    return f"{_instance}-{next(_numbers)}"


class Reply(msgspec.Struct, frozen=True):
    """An answer: whole, or a stream that still has to be pumped."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes | Relay


class Proxy:
    """Answers calls. Shared by all of them: nothing here belongs to one."""

    def __init__(
        self,
        events: events.Events,
        quota: Quota,
        routing: routing.Routing,
        forwarding: Forwarding,
        meter: Meter,
        tally: Tally,
        stream_limits: StreamLimits,
        default_output_tokens: int,
        now: Callable[[], datetime],
    ) -> None:
        self._events = events
        self._quota = quota
        self._routing = routing
        self._forwarding = forwarding
        self._meter = meter
        self._tally = tally
        self._stream_limits = stream_limits
        self._default_output_tokens = default_output_tokens
        self._now = now
        self._stream_turns = Turns()
        """Streams that are asked for together begin one by one: those under way go on between them."""

    async def chat(self, headers: Headers, body: bytes, deployment: str | None, came_at: float) -> Reply:
        """A chat completion; `deployment` is the model where the path names it. By the forwarding's clock it
        came at `came_at`, and its body after that.

        Raises:
            ProxyError: any refusal.
        """
        who, arrived_at = credential(headers), self._now()
        try:
            asked = request.parse(body)
        except ProxyError as error:
            self.refused(headers, error)
            raise
        if asked.stream:
            await self._stream_turns.wait()
        event = await self._events.find(who.event_code)
        routes = await self._routing.routes()
        try:
            events.admit(event, arrived_at)
            model = events.choose_model(event, deployment or asked.model, routes.models)
            tokens = prompt_tokens(body)
            call = self._forwarding.begin(
                new_id(), arrived_at, who, event, model, asked, headers, body, tokens, routes, came_at
            )
            need = self._need(call)
        except ProxyError as error:
            self._tally.failed(who, "", arrived_at, error)
            error.headers |= await self._standing_headers(who, event)
            raise
        try:
            hold = await self._quota.hold(who, event, need, arrived_at)
        except ProxyError as error:
            self._tally.failed(who, model, arrived_at, error)
            error.headers |= self._quota.last_known(who, event, arrived_at).headers(arrived_at)
            raise
        return await self._forward(call, hold)

    def refused(self, headers: Headers, error: ProxyError) -> None:
        """Count a call that was refused for its body, if this instance has met its event before."""
        with suppress(InvalidEventToken):
            who = credential(headers)
            if self._events.knows(who.event_code):
                self._tally.failed(who, "", self._now(), error)

    async def models(self, headers: Headers) -> Reply:
        """The models that this event may use, as OpenAI lists them.

        Raises:
            ProxyError: any refusal.
        """
        return await self._of_open_event(headers, events.listing)

    async def model(self, headers: Headers, name: str) -> Reply:
        """One of these models, as the list has it.

        Raises:
            ProxyError: any refusal; ModelNotFound for one that the list has not.
        """
        return await self._of_open_event(
            headers,
            lambda event, deployed: events.entry(event, events.choose_model(event, name, deployed)),
        )

    async def _of_open_event(self, headers: Headers, tell: Callable[[Event, frozenset[str]], Any]) -> Reply:
        """What `tell` says of the caller's event and the deployed models, with the caller's numbers."""
        who = credential(headers)
        event = await self._events.find(who.event_code)
        told = await self._standing_headers(who, event)
        try:
            events.admit(event, self._now())
            reply = self._json(tell(event, (await self._routing.routes()).models))
        except ProxyError as error:
            error.headers |= told
            raise
        reply.headers.update(told)
        return reply

    async def event(self, headers: Headers) -> Reply:
        """Who the caller is, and what the event allows, open or not.

        Raises:
            ProxyError: InvalidEventToken, StoreUnavailable.
        """
        who = credential(headers)
        event = await self._events.find(who.event_code)
        routes, now = await self._routing.routes(), self._now()
        standing = await self._quota.standing(who, event, now)
        described = events.described(who, event, routes.models, now)
        reply = self._json(described | standing.figures())
        reply.headers.update(standing.headers(now))
        return reply

    async def _standing_headers(self, who: Credential, event: Event) -> dict[bytes, bytes]:
        """The caller's numbers, for answers that cost nothing; none while the tables do not answer."""
        now = self._now()
        try:
            return (await self._quota.standing(who, event, now, remembered=True)).headers(now)
        except StoreUnavailable:
            return {}

    def _need(self, call: Call) -> Need:
        """What the call may cost, for the quota.

        Raises:
            InvalidRequest: more choices than the event allows tokens.
        """
        asked, allowed = call.asked.output_tokens, events.output_cap(call.event, call.asked.choices)
        if asked is None or allowed is None:
            cap = asked or allowed or self._default_output_tokens
        else:
            cap = min(asked, allowed)
        return Need(call.prompt_tokens, cap, call.asked.choices)

    async def _forward(self, call: Call, hold: Hold) -> Reply:
        """Forward under `hold`; whatever fails gives everything back."""
        try:
            cap = _output_cap(call, hold)
            received = await self._forwarding.send(call, cap)
            reply = self._reply(call, hold, received)
        except asyncio.CancelledError:
            self._abandon(call, hold)
            raise
        except ProxyError as error:
            hold.release()
            self._tell(call, call.id, error.status, error.code, Usage())
            self._tally.failed(call.credential, call.model, call.arrived_at, error)
            error.headers |= {b"x-request-id": call.id.encode(), **hold.standing.headers(self._now())}
            raise
        except BaseException:
            hold.release()
            self._tally.failed(call.credential, call.model, call.arrived_at, InternalError())
            raise
        if cap is not None:
            reply.headers[b"x-event-max-output-tokens"] = b"%d" % cap
        return reply

    def _reply(self, call: Call, hold: Hold, received: Received) -> Reply:
        if received.body is not None:
            return self._whole(call, hold, received, received.body)
        try:
            return self._stream(call, hold, received)
        except BaseException:
            received.answer.close()
            received.candidate.ended()
            raise

    def _abandon(self, call: Call, hold: Hold) -> None:
        """The client left before the first byte. Once the upstream has the prompt, it is charged."""
        if call.is_sent:
            self._end(call, hold, call.id, 499, Ending.ABANDONED, Usage(call.prompt_tokens))
        else:
            hold.release()

    def _whole(self, call: Call, hold: Hold, received: Received, body: bytes) -> Reply:
        answer, usage = received.answer, received.usage
        if usage is None:
            usage = Usage() if answer.status >= 400 else Usage(call.prompt_tokens, prompt_tokens(body))
        self._end(call, hold, _told_id(call, answer), answer.status, Ending.FINISHED, usage)
        return Reply(answer.status, self._headers(call, hold, answer), body)

    def _stream(self, call: Call, hold: Hold, received: Received) -> Reply:
        answer = received.answer

        def ended(relayed: Relayed) -> None:
            received.candidate.ended()
            usage = relayed.usage or Usage(call.prompt_tokens, relayed.chunks)
            self._end(call, hold, _told_id(call, answer), answer.status, relayed.ending, usage)

        relay = Relay(answer, self._stream_limits, hide_usage=not call.asked.wants_usage, ended=ended)
        headers = self._headers(call, hold, answer)
        headers[b"cache-control"] = b"no-cache"
        return Reply(answer.status, headers, relay)

    def _end(self, call: Call, hold: Hold, told_id: str, status: int, ending: Ending, usage: Usage) -> None:
        """Charge and count. Never awaits, so that no leaving client can lose it."""
        hold.settle(usage)
        is_cut = ending is Ending.CUT
        self._tally.forwarded(call.credential, call.model, call.arrived_at, usage, is_cut=is_cut)
        self._tell(call, told_id, status, ending, usage)

    def _tell(self, call: Call, told_id: str, status: int, ending: str, usage: Usage) -> None:
        self._meter.count(
            told_id,
            call.trace,
            call.credential,
            call.model,
            call.deployment,
            status,
            ending,
            call.attempts,
            self._forwarding.times(call),
            usage,
        )

    def _headers(self, call: Call, hold: Hold, answer: Answer) -> dict[bytes, bytes]:
        headers = hold.standing.headers(self._now())
        headers.update(answer.headers)
        headers.setdefault(b"x-request-id", call.id.encode())
        return headers

    def _json(self, value: Any) -> Reply:
        return Reply(200, {**_JSON, b"x-request-id": new_id().encode()}, msgspec.json.encode(value))


def refuse(error: ProxyError, request_id: str) -> Reply:
    """The reply that tells a refusal."""
    return Reply(error.status, {**_JSON, b"x-request-id": request_id.encode(), **error.headers}, error.body())


def _told_id(call: Call, answer: Answer) -> str:
    """The id that the client is told, and the log too: the upstream's own where it has one."""
    told = answer.headers.get(b"x-request-id")
    return call.id if told is None else told.decode()


def _output_cap(call: Call, hold: Hold) -> int | None:
    """The cap to put into the body; None where the client's own wish may stand."""
    event, asked = call.event, call.asked.output_tokens
    if event.max_output_tokens is None and event.tokens_per_day is None and event.tokens_total is None:
        return None
    return None if asked is not None and asked <= hold.output_cap else hold.output_cap
