"""The sequence of every call: credential → event → request → route → quota → forward → record."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from ..apis.api import Api, StreamReader
from ..core.errors import ContextTooLong, InternalError, ProxyError, StoreUnavailable
from ..core.models import Credential, Usage
from ..events.admission import admit
from ..functions.http import Response
from ..quota.quota import Quota
from ..upstream.call import Call, Progress
from ..upstream.client import returned_headers
from ..upstream.forwarding import Forwarded, Forwarding
from ..upstream.long_response import LongResponse
from ..upstream.relay import Ending, Relay, Relayed, StreamLimits
from ..upstream.routing import Routes
from .calls import Arrival, Calls, Prepared
from .charges import Charge, Charges, drain_seconds, seconds_without_client
from .codex import is_codex, quota_refusal
from .departure import Departure
from .incoming import Headers, Incoming
from .needs import lowered_limit
from .outgoing import StreamResponse, error_response
from .ownership import sealed_response, stream_sealer
from .records import Records
from .replays import Replays


class Proxy:
    """Serves calls. All calls share it, so it keeps no values of a call."""

    def __init__(
        self,
        calls: Calls,
        quota: Quota,
        forwarding: Forwarding,
        records: Records,
        stream_limits: StreamLimits,
        now: Callable[[], datetime],
    ) -> None:
        self._calls = calls
        self._quota = quota
        self._forwarding = forwarding
        self._records = records
        self._stream_limits = stream_limits
        self._now = now
        self._charges = Charges(records)
        self._replays = Replays()

    async def serve(self, api: Api, incoming: Incoming) -> Response:
        """A call of `api`. The body is read only when the event is known and open.

        Raises:
            ProxyError: the call is refused before the attendee's event is known.
        """
        at = self._now()
        credential, event = await self._calls.find_attendee(incoming.headers)
        arrival = Arrival(at, credential, event)
        try:
            admit(event, credential.user, at)
            self._quota.begin_call(credential, event)
        except ProxyError as error:
            return await self._refuse(arrival, error)

        try:
            response = await self._admitted(api, incoming, arrival)
        except BaseException:
            self._end_call(credential, incoming)
            raise
        if type(response) is StreamResponse:
            response.client = incoming.client
            response.on_end = partial(self._end_call, credential, incoming)
        else:
            self._end_call(credential, incoming)
        return response

    def _end_call(self, credential: Credential, incoming: Incoming) -> None:
        self._quota.end_call(credential)
        incoming.free()

    async def _admitted(self, api: Api, incoming: Incoming, arrival: Arrival) -> Response:
        """Read the body, and serve it: from an earlier call that it repeats, or by a new one."""
        try:
            body = await incoming.read_body()
            request = await self._calls.parse(api, incoming, body)
            api.admit(request, arrival.event)
            if replay := self._replays.find(arrival.credential, (api.name, incoming.model_in_path), body):
                with Departure(incoming.client):
                    response = await replay.response()
                if response is not None:
                    return await self._again(response, arrival)
            prepared = await self._calls.prepare(api, incoming, arrival, request, body)
        except StoreUnavailable:
            raise
        except ProxyError as error:
            if isinstance(error, ContextTooLong):
                self._quota.note_refused(arrival.credential)
            return await self._refuse(arrival, error)
        with Departure(incoming.client) as departure:
            return await self._hold(prepared, departure)

    async def _refuse(self, arrival: Arrival, error: ProxyError) -> Response:
        at, credential, event = arrival.at, arrival.credential, arrival.event
        self._records.record_refusal(credential, "", at, error)
        return error_response(error, await self._quota.standing_headers(credential, event, at))

    async def _hold(self, prepared: Prepared, departure: Departure) -> Response:
        """Hold what the call may use, and forward it. Keep its response if the client has left."""
        call, progress = prepared.call, self._records.new_progress()
        credential, event, arrived_at = call.credential, call.event, call.arrived_at
        try:
            hold = await self._quota.hold(credential, event, prepared.need, prepared.count, arrived_at)
        except ProxyError as error:
            self._records.record_refusal(credential, call.model, arrived_at, error)
            standing = self._quota.last_known(credential, event, arrived_at)
            refusal = error_response(error, standing.headers(arrived_at.timestamp()))
            return quota_refusal(refusal, error, call.headers, arrived_at)
        progress.cover = hold.cover
        departure.seconds_left = partial(self._note_departure, call, progress)
        response = None
        try:
            response = await self._forward(Charge(call, hold, progress, self._charges), prepared.routes)
        finally:
            if progress.client_has_left:
                is_whole = type(response) is Response and response.status == 200
                self._replays.end(call.id, response if is_whole else None)
        return response

    def _note_departure(self, call: Call, progress: Progress) -> float:
        """The client has left. Returns how long the call may continue without it."""
        if not progress.leave():
            return 0.0
        if not call.request.stream:
            self._replays.begin(call.id, call.credential, (call.api.name, call.model_in_path), call.received)
        return seconds_without_client(call)

    async def _again(self, response: Response, arrival: Arrival) -> Response:
        """The response to an earlier call, for a call that repeats it. It is charged only once."""
        standing = await self._quota.standing_headers(arrival.credential, arrival.event, self._now())
        headers = {**response.headers, **standing, b"x-event-replayed": b"true"}
        return Response(response.status, headers, response.body)

    async def _forward(self, charge: Charge, routes: Routes) -> Response:
        """Forward a call that holds its quota, and end its charge if it fails."""
        call, hold = charge.call, charge.hold
        try:
            limit = lowered_limit(call, hold.need)
            forwarded = await self._forwarding.send(call, routes, limit, charge.progress)
            return self._response(charge, forwarded, limit)
        except asyncio.CancelledError:
            charge.abandon()
            raise
        except ProxyError as error:
            charge.fail(error)
            return error_response(error, hold.standing.headers(time.time()), call.id)
        except BaseException:
            charge.fail(InternalError())
            raise

    def _response(self, charge: Charge, forwarded: Forwarded, limit: int | None) -> Response:
        response, status, body = forwarded.response, forwarded.response.status, forwarded.body
        upstream = returned_headers(response)
        request_id = _request_id(charge.call, upstream)
        if body is not None:
            usage, size = forwarded.usage, len(body)
            if status >= 400:
                self._quota.note_refused(charge.call.credential)
                usage = usage or Usage()
            status, body = sealed_response(charge.call, forwarded, body, charge.hold.need)
            ending = Ending.ABANDONED if charge.progress.client_has_left else Ending.FINISHED
            charge.end(request_id, status, ending, usage, size)
        headers = charge.hold.standing.headers(time.time())
        headers.update(upstream)
        headers.setdefault(b"x-request-id", request_id.encode())
        if limit is not None:
            headers[b"x-event-max-output-tokens"] = b"%d" % limit
        if status < 400:
            headers.setdefault(b"content-type", b"application/json")  # the SDKs take anything else for text
        if body is not None:
            return Response(status, headers, body)
        headers[b"cache-control"] = b"no-cache"
        relay = self._relay(charge, forwarded, request_id)
        return StreamResponse(status, headers, relay, hides_cuts=is_codex(charge.call.headers))

    def _relay(self, charge: Charge, forwarded: Forwarded, request_id: str) -> Relay:
        call = charge.call
        reader: StreamReader = LongResponse(call.api.read_usage)
        if forwarded.begun is None:
            sealer = stream_sealer(call, forwarded.candidate.deployment, charge.hold.need)
            reader = call.api.stream_reader(call.request, sealer)

        def end(relayed: Relayed) -> None:
            forwarded.candidate.end()
            status = forwarded.response.status
            charge.end(request_id, status, relayed.ending, relayed.usage, relayed.output_bytes)
            self._calls.note_end(reader)

        return Relay(
            forwarded.response,
            reader,
            self._stream_limits,
            on_end=end,
            drain_seconds=drain_seconds(call, charge.progress),
            slow_drain_seconds=seconds_without_client(call),
            begun=forwarded.begun,
        )

    async def close(self) -> None:
        """Wait until every call is charged."""
        await self._charges.close()


def _request_id(call: Call, upstream: Headers) -> str:
    """The id for the client and the log: the upstream's own if it has one."""
    request_id = upstream.get(b"x-request-id")
    return call.id if request_id is None else request_id.decode()
