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
"""How long a call waits for others that share its record. A killed worker loses the calls of this time."""

MOST_IN_A_RECORD = 60
"""Application Insights cuts a message after 32,768 characters; a call takes about 400."""


class LoggedCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A call that has ended. It never contains a prompt, a completion, a credential or a key."""

    request_id: str
    trace_id: str
    """The id of the call in the logs of Azure OpenAI and Application Insights too (W3C Trace Context)."""
    event: str
    """Hashed, like the user: the code itself is a secret."""
    user: str
    model: str
    deployment: str
    """The one that responded, or the last one that was tried; empty if none was tried."""
    status: int
    ending: str
    """How the call ended. For a call without a response, the code of its error."""
    attempts: int
    first_byte_ms: int | None
    total_ms: int
    prompt_tokens: int
    completion_tokens: int


Observer = Callable[[LoggedCall, Trace], None]
"""Receives each call that has ended, and its trace."""


class CallLog:
    """Writes each call to the log, and passes it to the observer if there is one.

    Calls that end within `LOG_SECONDS` share a record, because each record is a message to the Functions
    host, which costs half as much as a whole call (docs/decisions/0063).
    """

    def __init__(self, observe: Observer | None = None) -> None:
        self._observe = observe
        self._calls: list[LoggedCall] = []

    def add(self, call: LoggedCall, trace: Trace) -> None:
        """Log a call that has ended. Never awaits, so no call is lost when a client leaves."""
        if call.status >= 500:
            self.flush()
            _write(logging.WARNING, [call])
        else:
            self._wait(call)
        if self._observe is not None:
            self._observe(call, trace)

    def flush(self) -> None:
        """Write the waiting calls."""
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
