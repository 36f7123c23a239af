"""The tokens of stored turns. The prompt of the next turn costs them as well.

The id of a whole response holds its tokens. The id of a stream is sealed before they are known, so it holds
only a bound: the whole output limit. If each turn of a conversation counted its bound, an attendee would soon
be refused. This instance knows the tokens of its own streams. Those of others are read from the upstream,
but only if the quota does not cover the bound.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from ..apis.api import StreamReader
from ..apis.response_ids import Opened
from ..apis.responses import RESPONSES
from ..apis.responses_stream import ResponsesStream
from ..core.errors import ProxyError
from ..core.trace import Trace
from ..upstream.client import Upstream
from ..upstream.failures import Failure
from ..upstream.reading import Received, read
from ..upstream.response import UpstreamResponse
from ..upstream.routing import Routes

MOST_TURNS = 10_000
"""The most responses whose tokens an instance remembers."""

SECONDS = 5.0
"""How long the upstream may take to return a response. After that, its bound counts."""


class StoredTurn(NamedTuple):
    """A response that a call continues."""

    sealed: str
    """The id that its attendee got."""
    opened: Opened


class StoredTurns:
    """The tokens of stored responses, as far as this instance knows them."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._tokens: dict[str, int] = {}
        """By the sealed id."""

    def note_end(self, reader: StreamReader) -> None:
        """A stream has ended: remember its tokens, if it is one of the Responses API."""
        if isinstance(reader, ResponsesStream) and reader.usage is not None:
            self._note(reader.response_id, reader.usage.total_tokens)

    def knows(self, turn: StoredTurn) -> bool:
        return turn.sealed in self._tokens

    def surplus(self, turn: StoredTurn) -> int:
        """How far the bound of a turn is above its tokens. 0 if they are not known."""
        bound = turn.opened.tokens
        return max(0, bound - self._tokens.get(turn.sealed, bound))

    async def learn(self, turn: StoredTurn, routes: Routes, trace: Trace) -> int:
        """The surplus, after reading the tokens from the upstream. 0 if it does not respond."""
        deployment = routes.at(turn.opened.place)
        if deployment is not None and not self.knows(turn):
            path = (turn.opened.upstream_id,)
            try:
                async with asyncio.timeout(SECONDS):
                    sent = await self._upstream.request("GET", RESPONSES, deployment, path, (), trace)
                    received = await read_stored(sent)
            except (Failure, ProxyError, TimeoutError):
                return 0
            if sent.status == 200 and received.usage is not None:
                self._note(turn.sealed, received.usage.total_tokens)
        return self.surplus(turn)

    def _note(self, sealed: str, tokens: int) -> None:
        if len(self._tokens) >= MOST_TURNS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[sealed] = tokens


async def read_stored(sent: UpstreamResponse) -> Received:
    """The whole response to a request for something stored. Raises Failure or UpstreamError."""
    try:
        return await read(sent, RESPONSES, b"")
    except BaseException:
        sent.close()
        raise
