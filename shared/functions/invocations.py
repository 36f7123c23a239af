"""The worker's record of invocations: what is finished is removed, and what would never end is ended.

The host sends each call twice, as an invocation and as an HTTP request. Where one of the two never arrives,
the other waits for ever, and at `functionTimeout` the host kills the worker with all that runs in it. It
happens when a client leaves within some milliseconds, sends a header value that the host cannot forward, or
sends an `x-ms-invocation-id` of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from types import ModuleType
from typing import Any, Final

from .http import Response

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
LOOKS: Final = 5
"""After so many looks without its other half, a call is ended. Looks, not seconds: a blocked loop sees
neither half arrive."""
MOST_AT_A_LOOK: Final = 5000
"""The oldest calls come first, so later looks reach the rest."""
KEEP_SECONDS: Final = 8.0
"""How long an ended invocation stays in the record, for a request that arrives late."""

UNKNOWN = Response(400, {b"content-type": b"text/plain"}, b"No invocation has this x-ms-invocation-id.")


class Invocations:
    """The worker's record of invocations. Its parts are private to the worker, so each may be missing."""

    def __init__(self, http_v2: ModuleType | None) -> None:
        """`http_v2` is the worker's module that holds the record."""
        coordinator = getattr(http_v2, "http_coordinator", None)
        references = getattr(coordinator, "_context_references", None)
        self._references: dict[str, Any] = references if isinstance(references, dict) else {}
        self._coordinator: Any = coordinator if isinstance(references, dict) else None
        if self._coordinator is None:
            _log.warning(
                "The Functions worker has no record of invocations that this version knows. Memory will grow "
                "with each call, and clients that leave early may stop the worker. Update the proxy."
            )
        self._arrived: set[str] = set()
        self._looks: dict[str, int] = {}

    def begin(self, invocation_id: str) -> bool:
        """A request with this id has arrived. False: another one with the same id is being served."""
        if invocation_id in self._arrived:
            return False
        self._arrived.add(invocation_id)
        return True

    def end(self, invocation_id: str) -> None:
        """The request has its response. The worker would keep 2 KB of its record for ever."""
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
        while self._coordinator is not None:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception:
                _log.exception("Cannot read the worker's record of invocations.")

    def look(self) -> None:
        """Count the looks at which each call lacks one half, and end those that lack it for too long."""
        seen, self._looks = self._looks, {}
        without_request = without_invocation = 0
        for key, call in list(islice(self._references.items(), MOST_AT_A_LOOK)):
            if call.http_response_available_event.is_set():
                continue
            has_request = call.http_request_available_event.is_set()
            if has_request and call.http_request is None:
                continue  # both halves are there: it runs
            looks = seen.get(key, 0) + 1
            if looks <= LOOKS:
                self._looks[key] = looks
            elif has_request:
                self._coordinator.set_http_response(key, UNKNOWN)
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

    def _forget(self, key: str, call: object) -> None:
        if self._references.get(key) is call:
            with suppress(KeyError):
                del self._references[key]
