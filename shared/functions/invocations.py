"""Removes finished calls from the worker's record, and ends calls that would wait for ever.

The host sends each call twice, as an invocation and as an HTTP request. Where one of the two never arrives,
the other waits for ever, and at `functionTimeout` the host kills the worker with all that runs in it. It
happens when a client leaves within some milliseconds, sends a header value that the host cannot forward, or
sends an `x-ms-invocation-id` of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import ModuleType
from typing import Any, Final

from ..core.errors import InvalidRequest
from .http import refused

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
LOOKS: Final = 5
"""After so many looks without its other half, a call is ended. Counted in looks: while the loop is blocked,
neither half can arrive."""
MOST_AT_A_LOOK: Final = 5000
"""The oldest calls come first, so later looks reach the rest."""
KEEP_SECONDS: Final = 8.0
"""How long an ended invocation stays in the record, for a request that arrives late."""

UNKNOWN_ID: Final = refused(InvalidRequest("The header x-ms-invocation-id is not known. Remove it."))

_NOT_KNOWN: Final = (
    "This version does not know the Functions worker's record of invocations. Memory may grow with each "
    "call, and clients that leave early may stop the worker. Update the proxy."
)


class Invocations:
    """The worker's record of invocations. Its parts are private to the worker, so each may be missing."""

    def __init__(self, http_v2: ModuleType | None) -> None:
        """`http_v2` is the worker's module that holds the record."""
        self._coordinator: Any = getattr(http_v2, "http_coordinator", None)
        references = getattr(self._coordinator, "_context_references", None)
        self._is_known = isinstance(references, dict)
        self._references: dict[str, Any] = references if isinstance(references, dict) else {}
        if not self._is_known:
            _log.warning(_NOT_KNOWN)
        self._arrived: set[str] = set()
        self._looks: dict[str, int] = {}

    def begin(self, invocation_id: str) -> bool:
        """A request with this id has arrived. False: another one with the same id is being served."""
        if invocation_id in self._arrived:
            return False
        self._arrived.add(invocation_id)
        return True

    def end(self, invocation_id: str) -> None:
        """Remove a call that has its response. The worker would keep its 2 KB for ever."""
        self._arrived.discard(invocation_id)
        self._references.pop(invocation_id, None)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """End calls that lack one half, while the block runs."""
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while self._is_known:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception:
                _log.exception(_NOT_KNOWN)
                self._is_known = False

    def look(self) -> None:
        """Count the looks at which each call lacks one half, and end those that lack it for too long."""
        seen, self._looks = self._looks, {}
        without_request = without_invocation = 0
        waiting = (item for item in list(self._references.items()) if _lacks_half(item[1]))
        for key, call in islice(waiting, MOST_AT_A_LOOK):
            looks = seen.get(key, 0) + 1
            if looks <= LOOKS:
                self._looks[key] = looks
            elif call.http_request_available_event.is_set():
                call.http_request = None  # an invocation that arrives now must not take it
                self._coordinator.set_http_response(key, UNKNOWN_ID)
                without_invocation += 1
            else:
                # Without a request in it: the worker raises, and the trigger never runs.
                call.http_request_available_event.set()
                asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget, key, call)
                without_request += 1
        if without_request or without_invocation:
            _log.warning(
                "Ended %d invocations whose request never arrived, and %d requests without an invocation.",
                without_request,
                without_invocation,
            )

    def _forget(self, key: str, call: Any) -> None:
        """Remove an ended invocation. One that got its request after all is removed with its response."""
        is_same = self._references.get(key) is call
        if is_same and call.http_response_available_event.is_set():
            del self._references[key]


def _lacks_half(call: Any) -> bool:
    """Whether a call waits for its request, or for its invocation to take the request."""
    if call.http_response_available_event.is_set():
        return False
    return not call.http_request_available_event.is_set() or call.http_request is not None
