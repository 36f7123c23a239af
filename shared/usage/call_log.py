"""The log of calls: a line of JSON for each that was forwarded, and counts of those that were refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import msgspec

from ..core.trace import Trace

_log = logging.getLogger(__name__)
_encode_lines = msgspec.json.Encoder().encode_lines

LOG_SECONDS = 0.25
"""How long a call waits for others that share its record. A killed worker loses the calls of this time."""

REFUSALS_SECONDS = 15.0
"""How often the refusals are written. One line for each would let a client in a loop fill the log."""

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
        self._refusals: Counter[str] = Counter()
        """By the code of the error."""

    def count_refusal(self, code: str) -> None:
        """Count a call that the proxy refused, by the code of its error."""
        if not self._refusals:
            asyncio.get_running_loop().call_later(REFUSALS_SECONDS, self._write_refusals)
        self._refusals[code] += 1

    def add(self, call: LoggedCall, trace: Trace) -> None:
        """Log a call that has ended. Never awaits, so no call is lost when a client leaves."""
        if call.status >= 500:
            self.flush()
            _write(logging.WARNING, [call])
        else:
            self._wait(call)
        if self._observe is not None:
            try:
                self._observe(call, trace)
            except Exception:  # a span must never fail a call
                _log.exception("a call could not be passed to Application Insights")

    def flush(self) -> None:
        """Write the waiting calls."""
        calls, self._calls = self._calls, []
        if calls:
            _write(logging.INFO, calls)

    def close(self) -> None:
        """Write everything that waits."""
        self.flush()
        self._write_refusals()

    def _write_refusals(self) -> None:
        if self._refusals:
            _log.info("refused %s", msgspec.json.encode(self._refusals).decode())
            self._refusals.clear()

    def _wait(self, call: LoggedCall) -> None:
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_later(LOG_SECONDS, self.flush)
        elif len(self._calls) == MOST_IN_A_RECORD:
            self.flush()


def _write(level: int, calls: list[LoggedCall]) -> None:
    try:
        lines = _encode_lines(calls).decode().rstrip()
    except Exception:
        if len(calls) > 1:  # one of them must not hide the others
            for call in calls:
                _write(level, [call])
        else:
            _log.exception("call %s cannot be logged", calls[0].request_id)
        return
    _log.log(level, "call %s", lines)
