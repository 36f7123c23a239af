"""Reads, deletes and cancels stored responses of the Responses API. That costs an attendee nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from urllib.parse import parse_qsl

from ..apis.response_ids import Owner
from ..apis.response_sealing import Sealer, hide_ids
from ..apis.responses import RESPONSES
from ..core.errors import (
    NotFound,
    ProxyError,
    RateLimited,
    UnsupportedValue,
    UpstreamError,
    UpstreamTimeout,
)
from ..core.ids import new_id
from ..core.models import Credential, Event
from ..core.trace import trace_headers
from ..events.admission import admit
from ..events.credentials import read_credential
from ..events.lookup import Events
from ..events.rate_limit import RateLimits
from ..functions.http import Request, Response
from ..quota.quota import Quota
from ..upstream.client import Upstream, returned_headers
from ..upstream.failures import Failure
from ..upstream.routing import Routing
from .incoming import Headers
from .outgoing import error_response
from .ownership import INVALID_RESPONSE, owner_of
from .stored_turns import read_stored

SECONDS = 30.0
"""How long the upstream may take, unless a whole response has less time."""

AT_ONCE, PER_SECOND = 30, 5
"""The most such requests of one attendee on an instance: at once, and in each second after that. They cost
the attendee nothing, but all attendees share the upstream's rate."""

_PASSED = {"include", "include[]", "limit", "order"}
_ITEM_IDS = {"after", "before"}
"""The parameters that go upstream."""

_UNKNOWN = (
    "This response id is not one of yours: it is unknown here, or it belongs to another event or user. "
    "Use the id of a response that you got here."
)
_GONE = "This response is not available any more: its deployment is gone."
_NO_STREAM = "A stored response cannot be streamed. Leave out 'stream', or make a new response."


class StoredResponses:
    """Finds a response by the id that its attendee got. No other id is sent upstream."""

    def __init__(
        self,
        events: Events,
        routing: Routing,
        quota: Quota,
        upstream: Upstream,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        seconds: float,
    ) -> None:
        """`clock` returns seconds and never goes back; `now` the time in UTC. A response has `seconds`."""
        self._events = events
        self._routing = routing
        self._quota = quota
        self._upstream = upstream
        self._now = now
        self._limits = RateLimits(PER_SECOND, AT_ONCE, clock)
        self._seconds = min(SECONDS, seconds)

    async def serve(self, req: Request, part: str) -> Response:
        """`part` is what follows the id in the path: `input_items`, `cancel` or nothing.

        Raises:
            ProxyError: the request is refused before the attendee's event is known.
        """
        now = self._now()
        credential, event = await self._events.find_for(read_credential(req.headers))
        standing = self._quota.last_known(credential, event, now).headers(now.timestamp())
        try:
            admit(event, credential.user, now)
            self._quota.begin_call(credential, event)
        except ProxyError as error:
            return error_response(error, standing)
        try:
            return await self._serve(req, part, credential, event, standing)
        except ProxyError as error:
            return error_response(error, standing)
        finally:
            self._quota.end_call(credential)

    async def _serve(
        self, req: Request, part: str, credential: Credential, event: Event, standing: Headers
    ) -> Response:
        owner = await owner_of(credential, event, self._events)
        opened = owner.open(req.path_params["response_id"])
        if opened is None:
            raise NotFound(_UNKNOWN, param="response_id")
        query = _query(req, owner)
        deployment = (await self._routing.routes()).of(RESPONSES.name).at(opened.place)
        if deployment is None:
            raise NotFound(_GONE, param="response_id")
        if not self._limits.of(f"{credential.event_code}/{credential.user}").take():
            raise RateLimited("You read or delete too many stored responses. Try again in a second.", 1)
        path = (opened.upstream_id, part) if part else (opened.upstream_id,)
        try:
            async with asyncio.timeout(self._seconds):
                sent = await self._upstream.request(
                    req.method, RESPONSES, deployment, path, query, trace_headers(req.headers)
                )
                received = await read_stored(sent)
        except Failure as failure:
            raise failure.error from failure
        except TimeoutError as error:
            text = f"The model did not respond within {self._seconds:g} seconds. Try again."
            raise UpstreamTimeout(text) from error
        if received.body is None:
            sent.close()
            raise UpstreamError(INVALID_RESPONSE)
        body = received.body
        headers = {b"x-request-id": new_id().encode(), **standing, **returned_headers(sent)}
        if sent.status >= 400:
            return Response(sent.status, headers, hide_ids(body))
        # As when it was made, so that its items have the same ids. Those of a stream hold a bound instead.
        output = received.usage.completion_tokens if received.usage else None
        try:
            body = Sealer(owner, opened.place, opened.tokens, output).body(body)
        except ValueError as error:
            raise UpstreamError(INVALID_RESPONSE) from error
        return Response(sent.status, headers, body)


def _query(req: Request, owner: Owner) -> list[tuple[str, str]]:
    """The parameters for the upstream.

    Raises:
        UnsupportedValue: the client wants a stream.
        NotFound: an item is not the attendee's own.
    """
    query = []
    for name, value in parse_qsl(req.scope.get("query_string", b"").decode("latin-1")):
        if name == "stream" and value.lower() not in {"false", "0"}:
            raise UnsupportedValue(_NO_STREAM, "stream")
        if name in _ITEM_IDS:
            opened = owner.open_item(value)
            if opened is None:
                raise NotFound(_UNKNOWN, param=name)
            query.append((name, opened.upstream_id))
        elif name in _PASSED:
            query.append((name, value))
    return query
