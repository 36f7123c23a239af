"""Keeps stored responses to the attendee who made them. Does nothing for an API without ids."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import msgspec

from ..apis.response_ids import Owner, place_of
from ..apis.response_opening import open_request
from ..apis.response_sealing import Sealer, hide_ids
from ..apis.responses import ResponsesRequest
from ..core.errors import UpstreamError
from ..core.models import Credential, Deployment, Event
from ..events.lookup import Events
from ..quota.hold import Need
from ..upstream.call import Call
from ..upstream.forwarding import Forwarded
from .stored_turns import StoredTurn, StoredTurns

_log = logging.getLogger(__name__)

MOST_BYTES_ON_LOOP = 64 * 1024
"""The ids of a longer body are opened in a thread, because so many would stop the event loop."""

INVALID_RESPONSE = "The model returned an invalid response. Try again."


class Owned(msgspec.Struct, frozen=True):
    """A request whose ids are the attendee's own."""

    body: bytes
    """With the upstream's ids."""
    owner: Owner | None = None
    place: bytes | None = None
    """The only place that can serve the request: see `place_of`. None: any."""
    earlier_tokens: int = 0
    """The most tokens that stored turns add to the prompt."""
    unread: StoredTurn | None = None
    """The previous response, if this instance knows only a bound of its tokens."""


async def open_ids(
    request: ResponsesRequest,
    body: bytes,
    owner: Owner,
    event: Event,
    serving: frozenset[bytes],
    stored_turns: StoredTurns,
) -> Owned:
    """Put the upstream's ids in place of those that the attendee got. Only places in `serving` can be used.

    Raises:
        UnsupportedValue: an id is not the attendee's own, or its place is not one of `serving`.
        InvalidRequest: the input is nested too deeply, or has too many parts.
    """
    previous, store = request.previous_response_id, event.store_responses
    opening = partial(open_request, body, previous, owner, store=store, serving=serving)
    if len(body) <= MOST_BYTES_ON_LOOP:
        opened = opening()
    else:
        opened = await asyncio.get_running_loop().run_in_executor(_thread(), opening)
    if not previous or (named := owner.open(previous)) is None:
        return Owned(opened.body, owner, opened.place, opened.tokens)
    turn = StoredTurn(previous, named)
    tokens = opened.tokens - stored_turns.surplus(turn)
    return Owned(opened.body, owner, opened.place, tokens, None if stored_turns.knows(turn) else turn)


@cache
def _thread() -> ThreadPoolExecutor:
    """One thread, because each holds the interpreter's lock."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="ids")


async def owner_of(credential: Credential, event: Event, events: Events) -> Owner:
    """Raises InvalidEventToken or StoreUnavailable: see `Events.id_secret`."""
    return Owner((await events.id_secret(event)).encode(), credential)


def stream_sealer(call: Call, deployment: Deployment, need: Need) -> Sealer | None:
    """Seals the ids of a stream, whose usage is not known yet. `need` is what its call holds."""
    if call.owner is None:
        return None
    return _sealer(call, call.owner, deployment, need.tokens, need.output_limit)


def sealed_response(call: Call, forwarded: Forwarded, body: bytes, need: Need) -> tuple[int, bytes]:
    """Status and body of a whole response for the attendee. One whose ids cannot be found is replaced."""
    status, usage = forwarded.response.status, forwarded.usage
    if call.owner is None:
        return status, body
    if status >= 400:
        return status, hide_ids(body)
    deployment = forwarded.candidate.deployment
    tokens, output = need.tokens, need.output_limit
    if usage is not None:
        tokens, output = usage.total_tokens, usage.completion_tokens
    try:
        return status, _sealer(call, call.owner, deployment, tokens, output).body(body)
    except ValueError as error:
        _log.error("deployment %s: the ids in a response cannot be found: %s", deployment.id, error)
        refusal = UpstreamError(INVALID_RESPONSE)
        return refusal.status, refusal.body()


def _sealer(call: Call, owner: Owner, deployment: Deployment, tokens: int, output_tokens: int) -> Sealer:
    sealer = Sealer(owner, place_of(deployment), tokens, output_tokens)
    previous = call.request.previous_response_id if isinstance(call.request, ResponsesRequest) else None
    if previous and (opened := owner.open(previous)):
        sealer.know(opened.upstream_id, previous)
    return sealer
