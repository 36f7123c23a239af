"""The sequence of every call: credential → request → event → route → quota → forward → record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..apis import chat
from ..apis.chat import ChatRequest
from ..core.errors import InternalError, InvalidEventToken, ProxyError, StoreUnavailable
from ..core.ids import new_id
from ..core.models import Credential, Event, Usage
from ..core.trace import trace_headers
from ..core.turns import Turns
from ..events import listing
from ..events.admission import admit, output_limit
from ..events.credentials import read_credential
from ..events.lookup import Events
from ..events.model_choice import choose_model
from ..functions.http import Response
from ..quota.estimate import prompt_tokens
from ..quota.quota import Hold, Need, Quota
from ..upstream.client import returned_headers
from ..upstream.forwarding import Call, Forwarded, Forwarding, Progress
from ..upstream.relay import Ending, Relay, Relayed, StreamLimits
from ..upstream.routing import Routes, Routing
from .records import Records
from .responses import StreamResponse, error_response, json_response

Headers = Mapping[bytes, bytes]
"""A client's headers: names in lower case, values unchanged."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that hold for every event."""

    stream: StreamLimits
    default_output_tokens: int
    """The output limit of a call that neither the client nor the event limits."""


class Proxy:
    """Serves calls. All calls share it, so it keeps no values of a call."""

    def __init__(
        self,
        events: Events,
        routing: Routing,
        quota: Quota,
        forwarding: Forwarding,
        records: Records,
        limits: Limits,
        now: Callable[[], datetime],
    ) -> None:
        self._events = events
        self._routing = routing
        self._quota = quota
        self._forwarding = forwarding
        self._records = records
        self._limits = limits
        self._now = now
        self._stream_turns = Turns()
        """Streams that begin together take turns, so that running streams continue in between."""

    async def chat(
        self, headers: Headers, body: bytes, deployment: str | None, clock_at_arrival: float
    ) -> Response:
        """A chat completion. `deployment` is the model, if the path names it. See `Call.clock_at_arrival`.

        Raises:
            ProxyError: the call is refused before the attendee's event is known.
        """
        credential, arrived_at = read_credential(headers), self._now()
        request = self._parse(headers, body)
        if request.stream:
            await self._stream_turns.wait()
        event = await self._events.find(credential.event_code)
        routes = await self._routing.routes()
        try:
            admit(event, arrived_at)
            model = choose_model(event, deployment or request.model, routes.models)
            call = Call(
                id=new_id(),
                arrived_at=arrived_at,
                clock_at_arrival=clock_at_arrival,
                credential=credential,
                event=event,
                model=model,
                request=request,
                headers=headers,
                body=body,
                prompt_tokens=prompt_tokens(body),
                trace=trace_headers(headers),
            )
            need = self._need(call)
        except ProxyError as error:
            self._records.record_refusal(credential, "", arrived_at, error)
            return error_response(error, await self._standing_headers(credential, event))
        return await self._serve(call, routes, need)

    async def _serve(self, call: Call, routes: Routes, need: Need) -> Response:
        """Hold what the call may use, then forward it."""
        progress = self._records.begin()
        credential, event, arrived_at = call.credential, call.event, call.arrived_at
        try:
            hold = await self._quota.hold(credential, event, need, arrived_at)
        except ProxyError as error:
            self._records.record_refusal(credential, call.model, arrived_at, error)
            standing = self._quota.last_known(credential, event, arrived_at)
            return error_response(error, standing.headers(arrived_at))
        return await self._forward(call, routes, hold, progress)

    def _parse(self, headers: Headers, body: bytes) -> ChatRequest:
        try:
            return chat.parse(body)
        except ProxyError as error:
            self.count_refusal(headers, error)
            raise

    def count_refusal(self, headers: Headers, error: ProxyError) -> None:
        """Count a call whose body was refused, if this instance has found its event before."""
        with suppress(InvalidEventToken):
            credential = read_credential(headers)
            if self._events.knows(credential.event_code):
                self._records.record_refusal(credential, "", self._now(), error)

    async def models(self, headers: Headers) -> Response:
        """The models that the attendee can use, in the form of OpenAI's list.

        Raises:
            ProxyError: the attendee's event is not known.
        """
        return await self._of_open_event(headers, listing.model_list)

    async def model(self, headers: Headers, name: str) -> Response:
        """One entry of that list.

        Raises:
            ProxyError: the attendee's event is not known.
        """
        return await self._of_open_event(
            headers,
            lambda event, deployed: listing.model_entry(event, choose_model(event, name, deployed)),
        )

    async def _of_open_event(
        self, headers: Headers, describe: Callable[[Event, frozenset[str]], Any]
    ) -> Response:
        """Describe the attendee's event, or say why it is closed. The headers have the quotas."""
        credential = read_credential(headers)
        event = await self._events.find(credential.event_code)
        standing = await self._standing_headers(credential, event)
        try:
            admit(event, self._now())
            return json_response(describe(event, (await self._routing.routes()).models), standing)
        except ProxyError as error:
            return error_response(error, standing)

    async def event(self, headers: Headers) -> Response:
        """The attendee's event and quotas, whether it is open or not.

        Raises:
            InvalidEventToken, StoreUnavailable: the event is not known.
        """
        credential = read_credential(headers)
        event = await self._events.find(credential.event_code)
        routes, now = await self._routing.routes(), self._now()
        standing = await self._quota.standing(credential, event, now)
        described = listing.event_description(credential, event, routes.models, now)
        return json_response(described | standing.figures(), standing.headers(now))

    async def _standing_headers(self, credential: Credential, event: Event) -> dict[bytes, bytes]:
        """The headers with the attendee's quotas; none while the tables do not respond."""
        now = self._now()
        try:
            return (await self._quota.standing(credential, event, now, remembered=True)).headers(now)
        except StoreUnavailable:
            return {}

    def _need(self, call: Call) -> Need:
        """The most that the call can cost.

        Raises:
            InvalidRequest: more choices than the event allows tokens.
        """
        requested, allowed = call.request.output_tokens, output_limit(call.event, call.request.choices)
        if requested is None or allowed is None:
            limit = requested or allowed or self._limits.default_output_tokens
        else:
            limit = min(requested, allowed)
        return Need(call.prompt_tokens, limit, call.request.choices)

    async def _forward(self, call: Call, routes: Routes, hold: Hold, progress: Progress) -> Response:
        """Forward the call. If that fails, release `hold`."""
        try:
            limit = _output_limit(call, hold)
            forwarded = await self._forwarding.send(call, routes, limit, progress)
            return self._response(call, hold, progress, forwarded, limit)
        except asyncio.CancelledError:
            self._abandon(call, hold, progress)
            raise
        except ProxyError as error:
            hold.release()
            self._records.record_failure(call, progress, error)
            return error_response(error, hold.standing.headers(self._now()), call.id)
        except BaseException:
            hold.release()
            self._records.record_failure(call, progress, InternalError())
            raise

    def _abandon(self, call: Call, hold: Hold, progress: Progress) -> None:
        """The client left before the first byte. If the upstream has the prompt, the prompt is charged."""
        if progress.is_sent:
            usage = Usage(call.prompt_tokens)
            hold.settle(usage)
            self._records.record_end(call, progress, call.id, 499, Ending.ABANDONED, usage)
        else:
            hold.release()

    def _response(
        self, call: Call, hold: Hold, progress: Progress, forwarded: Forwarded, limit: int | None
    ) -> Response:
        response, body = forwarded.response, forwarded.body
        upstream = returned_headers(response)
        request_id = _request_id(call, upstream)

        def end(ending: Ending, usage: Usage) -> None:
            hold.settle(usage)
            self._records.record_end(call, progress, request_id, response.status, ending, usage)

        if body is not None:
            end(Ending.FINISHED, _usage(call, forwarded, body))
        headers = hold.standing.headers(self._now())
        headers.update(upstream)
        headers.setdefault(b"x-request-id", request_id.encode())
        if limit is not None:
            headers[b"x-event-max-output-tokens"] = b"%d" % limit
        if body is not None:
            return Response(response.status, headers, body)
        headers[b"cache-control"] = b"no-cache"
        return StreamResponse(response.status, headers, self._relay(call, forwarded, end))

    def _relay(self, call: Call, forwarded: Forwarded, end: Callable[[Ending, Usage], None]) -> Relay:
        def ended(relayed: Relayed) -> None:
            forwarded.candidate.end()
            end(relayed.ending, relayed.usage or Usage(call.prompt_tokens, relayed.chunks))

        hide_usage = not call.request.wants_usage
        return Relay(forwarded.response, self._limits.stream, hide_usage=hide_usage, on_end=ended)


def _usage(call: Call, forwarded: Forwarded, body: bytes) -> Usage:
    """The usage that the upstream reported, or an estimate; an error costs nothing."""
    if forwarded.usage is not None:
        return forwarded.usage
    if forwarded.response.status >= 400:
        return Usage()
    return Usage(call.prompt_tokens, prompt_tokens(body))


def _request_id(call: Call, upstream: Headers) -> str:
    """The id for the client and the log: the upstream's own if it has one."""
    request_id = upstream.get(b"x-request-id")
    return call.id if request_id is None else request_id.decode()


def _output_limit(call: Call, hold: Hold) -> int | None:
    """The output limit to write into the body; None if the client's own limit stays."""
    event, requested = call.event, call.request.output_tokens
    if event.max_output_tokens is None and event.tokens_per_day is None and event.tokens_total is None:
        return None
    return None if requested is not None and requested <= hold.output_limit else hold.output_limit
