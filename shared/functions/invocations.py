"""Removes finished calls from the worker's record, and ends calls that would wait forever.

The host sends each call as two halves: an invocation and an HTTP request. Where one half never arrives, the
other waits until `functionTimeout`, and then the host kills the worker with everything that runs in it. This
happens when a client leaves within a few milliseconds, sends a header value that the host cannot
forward, or sends an `x-ms-invocation-id` of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from types import ModuleType
from typing import Any

from ..core.errors import InvalidRequest
from ..core.loops import repeat
from .http import error_response

_log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
CHECKS = 5
"""A call that lacks a half at more checks than this is ended. Checks are counted instead of seconds, because
neither half can arrive while the loop is blocked."""
MOST_PER_CHECK = 5000
"""Limits the time of a check, which blocks the loop. Later checks reach the rest: the oldest come first."""
KEEP_SECONDS = 8.0
"""An ended invocation stays in the record for this long, in case its request arrives late."""

UNKNOWN_ID = error_response(InvalidRequest("The header x-ms-invocation-id is not known. Remove it."))

_NOT_KNOWN = (
    "This version of the proxy does not support this version of the Functions worker: memory may grow with "
    "each call, and clients that disconnect early may stop the worker. Update the proxy."
)


class Invocations:
    """The worker's record of calls. It is private to the worker, so another version may lack parts of it."""

    def __init__(
        self,
        http_v2: ModuleType | None,
        check_seconds: float = CHECK_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        """`http_v2` is the module of the worker that has the record."""
        self._check_seconds = check_seconds
        self._keep_seconds = keep_seconds
        self._coordinator: Any = getattr(http_v2, "http_coordinator", None)
        references = getattr(self._coordinator, "_context_references", None)
        self._is_known = isinstance(references, dict)
        self._references: dict[str, Any] = references if isinstance(references, dict) else {}
        if not self._is_known:
            _log.warning(_NOT_KNOWN)
        self._has_warned = False
        self._arrived: set[str] = set()
        self._checks: dict[str, int] = {}
        """At how many checks in a row a call has lacked a half."""

    def begin(self, invocation_id: str) -> bool:
        """Note that a request with this id has arrived. False if another one with the same id is running."""
        if invocation_id in self._arrived:
            return False
        self._arrived.add(invocation_id)
        return True

    def end(self, invocation_id: str) -> None:
        """Remove a call that has its response. The worker would keep its 2 KB forever."""
        self._arrived.discard(invocation_id)
        self._references.pop(invocation_id, None)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """End calls that lack a half for too long, while the block runs."""
        task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        async def check() -> None:
            self.check()

        await repeat(check, self._check_seconds, "The check of the worker's calls", lambda: self._is_known)

    def check(self) -> None:
        """Find the calls that lack a half, and end those that have lacked it at too many checks."""
        before, self._checks = self._checks, {}
        ended: Counter[str] = Counter()
        waiting = (item for item in list(self._references.items()) if self._is_waiting(item[1]))
        for key, call in islice(waiting, MOST_PER_CHECK):
            checks = before.get(key, 0) + 1
            if checks <= CHECKS:
                self._checks[key] = checks
                continue
            try:
                ended[self._end_waiting(key, call)] += 1
            except Exception:
                self._warn()
        if ended:
            _log.warning(
                "Ended %d invocations whose request never arrived, and %d requests without an invocation.",
                ended["invocation"],
                ended["request"],
            )

    def _is_waiting(self, call: Any) -> bool:
        try:
            return _lacks_half(call)
        except Exception:
            self._warn()
            return False

    def _end_waiting(self, key: str, call: Any) -> str:
        """End the half that waits. Returns which it is."""
        if call.http_request_available_event.is_set():
            call.http_request = None  # so that an invocation that arrives now does not take it
            self._coordinator.set_http_response(key, UNKNOWN_ID)
            return "request"
        # The worker finds no request, raises an exception, and the trigger does not run.
        call.http_request_available_event.set()
        asyncio.get_running_loop().call_later(self._keep_seconds, self._forget, key, call)
        return "invocation"

    def _warn(self) -> None:
        """A call has another form than in the versions that are known. The checks of the others continue."""
        if not self._has_warned:
            self._has_warned = True
            _log.exception(_NOT_KNOWN)

    def _forget(self, key: str, call: Any) -> None:
        """Remove an ended invocation. If its request has arrived after all, `end` removes it."""
        is_same = self._references.get(key) is call
        if is_same and call.http_response_available_event.is_set():
            del self._references[key]


def _lacks_half(call: Any) -> bool:
    """Whether the request has not arrived, or no invocation has taken it."""
    if call.http_response_available_event.is_set():
        return False
    return not call.http_request_available_event.is_set() or call.http_request is not None
