"""Serves a repeated call with the response to the first one, which is charged in any case.

Clients with a time limit of their own send a slow call again, byte for byte, while the model works on the
first one. That one runs to its end and is charged. So a call of the same user with the same bytes to the same
destination gets its response: while it runs, and for a minute after. Only calls whose client has left are
kept, so two equal calls whose clients wait get a response each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import blake2b

from ..core.models import Credential
from ..functions.http import Response

KEPT_SECONDS = 60.0
MOST_FOR_USER = 8
"""The most calls of one user that are kept, running ones included."""
MOST_BYTES_FOR_USER = 4 * 1024 * 1024
MOST_BYTES = 32 * 1024 * 1024
"""Of the finished responses on this instance."""

Destination = tuple[str, str | None]
"""Where a call goes: the name of its API, and the model that its path names."""


class Replay:
    """The response of one call whose client has left."""

    def __init__(self, user: Credential, key: tuple[Destination, bytes]) -> None:
        self.user = user
        self.key = key
        self._response: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        """Bytes of the response that are kept."""
        response = self._response.result() if self._response.done() else None
        return 0 if response is None else len(response.body)

    async def response(self) -> Response | None:
        """Wait for the response; None if the call must be made anew."""
        return await asyncio.shield(self._response)

    def finish(self, response: Response | None) -> None:
        self._response.set_result(response)


class Replays:
    """The calls of this instance whose clients have left. Kept in memory only, and for a short time."""

    def __init__(self, kept_seconds: float = KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._of: dict[Credential, list[Replay]] = {}
        """By user."""
        self._running: dict[str, Replay] = {}
        """By the id of the call."""
        self._finished: deque[Replay] = deque()
        """In the order of their ends."""
        self._size = 0

    def begin(self, call_id: str, user: Credential, destination: Destination, body: bytes) -> None:
        """The client of a running call has left: keep its response, unless too many of the user's run."""
        replays = self._of.setdefault(user, [])
        if len(replays) >= MOST_FOR_USER:
            self._forget(replays[0])
            replays = self._of.setdefault(user, [])
        if len(replays) < MOST_FOR_USER:
            replay = self._running[call_id] = Replay(user, _key(destination, body))
            replays.append(replay)

    def end(self, call_id: str, response: Response | None) -> None:
        """A call has ended. `response` is what a repeated call gets; None if it must be made anew."""
        replay = self._running.pop(call_id, None)
        if replay is None:
            return
        replay.finish(response)
        if response is None or sum(one.size for one in self._of[replay.user]) > MOST_BYTES_FOR_USER:
            self._remove(replay)
            return
        self._size += replay.size
        self._finished.append(replay)
        while self._size > MOST_BYTES:
            self._forget(self._finished[0])
        asyncio.get_running_loop().call_later(self._kept_seconds, self._forget, replay)

    def find(self, user: Credential, destination: Destination, body: bytes) -> Replay | None:
        """The earlier call that this one repeats."""
        if user not in self._of:
            return None
        key = _key(destination, body)
        return next((one for one in self._of[user] if one.key == key), None)

    def _forget(self, replay: Replay) -> None:
        """Forget a finished call, if that is not done yet."""
        if replay in self._finished:
            self._finished.remove(replay)
            self._size -= replay.size
            self._remove(replay)

    def _remove(self, replay: Replay) -> None:
        replays = self._of[replay.user]
        replays.remove(replay)
        if not replays:
            del self._of[replay.user]


def _key(destination: Destination, body: bytes) -> tuple[Destination, bytes]:
    return destination, blake2b(body, digest_size=16).digest()
