"""The sequence that every call goes through: request → credential → event → route → forward → meter."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from . import events, request, routing, sse, upstream
from .credentials import credential
from .errors import InvalidRequest, ProxyError, UpstreamError
from .json_edit import DuplicateMember
from .metering import Meter
from .models import Credential, Deployment, Event, Usage
from .relay import Ending, Relay, Relayed

Headers = Mapping[bytes, bytes]
"""A client's headers: names in lower case, values as they came."""

_JSON = {"content-type": "application/json"}
_instance = os.urandom(8).hex()
_numbers = itertools.count(1)


def new_id() -> str:
    """A request id that no other instance gives either."""
    return f"{_instance}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: whole, or a stream that still has to be pumped."""

    status: int
    headers: dict[str, str]
    body: bytes | Relay


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Of a stream's silence, in seconds."""

    heartbeat_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class _Call:
    """One chat completion on its way."""

    id: str
    credential: Credential
    event: Event
    model: str
    deployment: Deployment
    asked: request.ChatRequest
    headers: Headers
    answer_headers: dict[str, str] = field(default_factory=dict)


class Proxy:
    """Answers calls. Shared by all of them: nothing here belongs to one."""

    def __init__(
        self,
        events: events.Events,
        routing: routing.Routing,
        upstream: upstream.Upstream,
        meter: Meter,
        stream_limits: StreamLimits,
        now: Callable[[], datetime],
    ) -> None:
        self._events = events
        self._routing = routing
        self._upstream = upstream
        self._meter = meter
        self._stream_limits = stream_limits
        self._now = now

    async def chat(self, headers: Headers, body: bytes, deployment: str | None) -> Reply:
        """A chat completion; `deployment` is the model where the path names it.

        Raises:
            ProxyError: any refusal.
        """
        who = credential(headers)
        asked = request.parse(body)
        event = await self._admit(who)
        routes = await self._routing.routes()
        model = events.choose_model(event, deployment or asked.model, routes.models)
        call = _Call(new_id(), who, event, model, routes.choose(model), asked, headers)
        return await self._forward(call, _upstream_body(call, body))

    async def models(self, headers: Headers) -> Reply:
        """The models that this event may use, as OpenAI lists them.

        Raises:
            ProxyError: any refusal.
        """
        event = await self._admit(credential(headers))
        created = int(event.starts_at.timestamp())
        routes = await self._routing.routes()
        data = [
            {"id": model, "object": "model", "created": created, "owned_by": "azure-openai"}
            for model in events.models(event, routes.models)
        ]
        return self._json({"object": "list", "data": data})

    async def event(self, headers: Headers) -> Reply:
        """Who the caller is, and what the event allows, open or not.

        Raises:
            ProxyError: InvalidEventToken, StoreUnavailable.
        """
        who = credential(headers)
        event = await self._events.find(who.event_code)
        routes = await self._routing.routes()
        return self._json(_described(who, event, events.models(event, routes.models), self._now()))

    async def _admit(self, who: Credential) -> Event:
        event = await self._events.find(who.event_code)
        events.admit(event, self._now())
        return event

    async def _forward(self, call: _Call, body: bytes) -> Reply:
        async with self._upstream.deadline(stream=bool(call.asked.stream)):
            answer = await self._upstream.send(call.deployment, body, call.headers)
            try:
                if refusal := upstream.fault(answer, call.deployment):
                    raise refusal
                if answer.is_stream and answer.status == 200:
                    return self._stream(call, answer)
                return self._whole(call, answer, await answer.read_all())
            except BaseException:
                answer.close()
                raise

    def _whole(self, call: _Call, answer: upstream.Answer, body: bytes) -> Reply:
        try:
            usage = sse.usage_of(body) or Usage()
        except ValueError as error:
            if answer.status < 400:
                raise UpstreamError("The model sent what is no answer. Try again.") from error
            usage = Usage()
        self._count(call, answer.status, Ending.FINISHED, usage)
        return Reply(answer.status, self._headers(call, answer), body)

    def _stream(self, call: _Call, answer: upstream.Answer) -> Reply:
        def ended(relayed: Relayed) -> None:
            usage = relayed.usage or Usage(completion_tokens=relayed.chunks)
            self._count(call, answer.status, relayed.ending, usage)

        limits = self._stream_limits
        relay = Relay(
            answer,
            hide_usage=not call.asked.wants_usage,
            heartbeat_seconds=limits.heartbeat_seconds,
            idle_seconds=limits.idle_seconds,
            ended=ended,
        )
        return Reply(answer.status, self._headers(call, answer) | {"cache-control": "no-cache"}, relay)

    def _count(self, call: _Call, status: int, ending: Ending, usage: Usage) -> None:
        self._meter.count(call.id, call.credential, call.model, call.deployment.id, status, ending, usage)

    def _headers(self, call: _Call, answer: upstream.Answer) -> dict[str, str]:
        return {"x-request-id": call.id, **answer.headers, **call.answer_headers}

    def _json(self, value: Any) -> Reply:
        return Reply(200, {**_JSON, "x-request-id": new_id()}, msgspec.json.encode(value))


def refuse(error: ProxyError, request_id: str) -> Reply:
    """The reply that tells a refusal."""
    return Reply(error.status, {**_JSON, "x-request-id": request_id, **error.headers}, error.body())


def _upstream_body(call: _Call, body: bytes) -> bytes:
    cap = _output_cap(call.event, call.asked)
    if cap is not None:
        call.answer_headers["x-event-max-output-tokens"] = str(cap)
    try:
        return request.upstream_body(body, call.asked, call.deployment, cap)
    except DuplicateMember as error:
        raise InvalidRequest(f"{error.name!r} is given twice.", param=error.name) from error


def _output_cap(event: Event, asked: request.ChatRequest) -> int | None:
    """The cap to set for each choice, so that all together stay within the event's; None to leave it be.

    Raises:
        InvalidRequest: more choices than the event allows tokens.
    """
    if event.max_output_tokens is None:
        return None
    cap = event.max_output_tokens // asked.choices
    if cap < 1:
        raise InvalidRequest(f"'n' may be at most {event.max_output_tokens} in this event.", param="n")
    return cap if asked.output_tokens is None or asked.output_tokens > cap else None


def _described(who: Credential, event: Event, models: list[str], now: datetime) -> dict[str, Any]:
    return {
        "object": "event",
        "event_code": event.code,
        "user": who.user,
        "name": event.name,
        "organizer": event.organizer,
        "open": event.active and event.starts_at <= now < event.ends_at,
        "starts_at": event.starts_at,
        "ends_at": event.ends_at,
        "time_zone": event.time_zone.key,
        "models": models,
        "default_model": event.default_model,
        "max_output_tokens": event.max_output_tokens,
    }
