"""The log of forwarded calls: one line of JSON for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from ..core.trace import Trace

_log = logging.getLogger(__name__)
_encode_lines = msgspec.json.Encoder().encode_lines

LOG_SECONDS = 0.25
"""How long a call waits for others to share its record. A killed worker loses the calls of this time."""

MOST_IN_A_RECORD = 60
"""Application Insights cuts a message after 32,768 characters; a call takes about 400."""


class LoggedCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One call, at its end. Never a prompt, a completion, a credential or a key."""

    request_id: str
    trace_id: str
    """By W3C Trace Context: Azure OpenAI and Application Insights know the call by it too."""
    event: str
    """Hashed, like the user: the code itself is a secret."""
    user: str
    model: str
    deployment: str
    """The one that responded, or was tried last; empty if none was."""
    status: int
    ending: str
    """How the call ended; for a call without a response, the code of its error."""
    attempts: int
    first_byte_ms: int | None
    total_ms: int
    prompt_tokens: int
    completion_tokens: int


Observer = Callable[[LoggedCall, Trace], None]
"""Receives each call at its end, and its trace."""


class CallLog:
    """Writes each call to the log, and hands it to an observer if there is one.

    Calls that end within `LOG_SECONDS` share a record: the worker sends each record to the host by itself,
    which costs half as much as a whole call (docs/decisions/0063).
    """

    def __init__(self, observe: Observer | None = None) -> None:
        self._observe = observe
        self._calls: list[LoggedCall] = []

    def add(self, call: LoggedCall, trace: Trace) -> None:
        """Log one call at its end. Never awaits, so a client that leaves cannot lose it."""
        if call.status >= 500:
            self.flush()
            _write(logging.WARNING, [call])
        else:
            self._wait(call)
        if self._observe is not None:
            self._observe(call, trace)

    def flush(self) -> None:
        """Write the calls that wait to share a record."""
        calls, self._calls = self._calls, []
        if calls:
            _write(logging.INFO, calls)

    def _wait(self, call: LoggedCall) -> None:
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_later(LOG_SECONDS, self.flush)
        elif len(self._calls) == MOST_IN_A_RECORD:
            self.flush()


def _write(level: int, calls: list[LoggedCall]) -> None:
    _log.log(level, "call %s", _encode_lines(calls).decode().rstrip())
