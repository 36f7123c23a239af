"""Makes a call from what a client sends: its attendee and event, its model, and the most that it can cost."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

import msgspec

from ..apis.api import Api, ApiRequest, StreamReader
from ..apis.members import check_members
from ..apis.responses import ResponsesRequest
from ..core.errors import ContextTooLong
from ..core.ids import new_id
from ..core.models import Credential, Event
from ..core.trace import trace_headers
from ..core.turns import LARGE_BYTES, Turns
from ..events.credentials import read_credential
from ..events.lookup import Events
from ..events.model_choice import choose_model
from ..quota.hold import Count, Need
from ..tokens.families import family_of
from ..upstream.call import Call
from ..upstream.routing import Routes, Routing
from .incoming import Headers, Incoming
from .needs import need_of, prompt_of
from .ownership import Owned, open_ids, owner_of
from .stored_turns import StoredTurns

_TOO_LONG = (
    "Your messages are longer than this model's context allows. Send fewer or shorter messages, "
    "or use a model with a longer context."
)


class Arrival(msgspec.Struct, frozen=True):
    """Who calls, at which event, and when."""

    at: datetime
    credential: Credential
    event: Event


class Prepared(msgspec.Struct, frozen=True):
    """A call that can be forwarded when its need is held."""

    call: Call
    routes: Routes
    need: Need
    count: Count


class Calls:
    """Makes the calls. All of them share it, so it keeps no values of a call."""

    def __init__(
        self,
        events: Events,
        routing: Routing,
        stored_turns: StoredTurns,
        default_output_tokens: int,
    ) -> None:
        """`default_output_tokens` limits a call that neither the client nor the event limits."""
        self._events = events
        self._routing = routing
        self._stored_turns = stored_turns
        self._default_output_tokens = default_output_tokens
        self._stream_turns = Turns()
        """Streams that begin together take turns, so that running streams continue in between."""

    def find_attendee(self, headers: Headers) -> Awaitable[tuple[Credential, Event]]:
        """Find the attendee and the event, open or closed. Raises as `Events.find_for` does."""
        return self._events.find_for(read_credential(headers))

    async def parse(self, api: Api, incoming: Incoming, body: bytes) -> ApiRequest:
        """Read the members that policy needs. The next work on a large body waits for its turn as well."""
        is_large = len(body) > LARGE_BYTES
        if is_large:
            await incoming.wait_for_turn()
        request = api.parse(body, incoming.headers.get(b"content-encoding", b""))
        if not is_large:
            api.check(body)
        else:
            await incoming.wait_for_turn()
            api.check(body)
            await incoming.wait_for_turn()
            await check_members(body, api.most_parts, incoming.wait_for_turn)
            await incoming.wait_for_turn()
        if request.stream:
            await self._stream_turns.wait()
        return request

    async def prepare(
        self, api: Api, incoming: Incoming, arrival: Arrival, request: ApiRequest, body: bytes
    ) -> Prepared:
        """Choose the model, and find out the most that the call can cost.

        Raises:
            ProxyError: the call is refused.
        """
        credential, event = arrival.credential, arrival.event
        all_routes = await self._routing.routes()
        model = choose_model(event, incoming.model_in_path or request.model, api.name, all_routes.served)
        routes, family = all_routes.of(api.name), family_of(model)
        owned = Owned(body if event.store_responses else api.unstored(body))
        if type(request) is ResponsesRequest:
            owner = await owner_of(credential, event, self._events)
            owned = await open_ids(request, body, owner, event, routes.places(model), self._stored_turns)
        call = Call(  # Python is slow with more than 15 names
            new_id(),
            arrival.at,
            incoming.clock_at_arrival,
            credential,
            event,
            model=model,
            family=family,
            api=api,
            request=request,
            model_in_path=incoming.model_in_path,
            headers=incoming.headers,
            received=body,
            body=owned.body,
            owner=owned.owner,
            place=owned.place,
            prompt=prompt_of(api, owned.body, family, owned.earlier_tokens),
            trace=trace_headers(incoming.headers),
        )
        need = need_of(call, routes, self._default_output_tokens)
        if await call.prompt.is_too_long():
            raise ContextTooLong(_TOO_LONG, param=api.prompt_member)
        return Prepared(call, routes, need, self._counting(call, owned, routes))

    def note_end(self, reader: StreamReader) -> None:
        """A stream has ended: see `StoredTurns.note_end`."""
        self._stored_turns.note_end(reader)

    def _counting(self, call: Call, owned: Owned, routes: Routes) -> Count:
        """Counts the prompt exactly, with the stored turn that it continues."""
        turn = owned.unread
        if turn is None:
            return call.prompt.count

        async def count() -> int:
            surplus = await self._stored_turns.learn(turn, routes, call.trace)
            if not surplus:
                return await call.prompt.count()
            earlier_tokens = owned.earlier_tokens - surplus
            return await prompt_of(call.api, call.body, call.family, earlier_tokens).count()

        return count
