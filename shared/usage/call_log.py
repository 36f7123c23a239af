"""Writes each forwarded call to the log, as one line of JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from ..core.hashing import hashed
from ..core.models import Credential, Usage
from ..core.trace import Trace, trace_id

_log = logging.getLogger(__name__)
_encode_lines = msgspec.json.Encoder().encode_lines

LOG_SECONDS: Final = 0.25
"""How long a call waits for others to share its record. A killed worker loses the calls of this time."""

MOST_IN_A_RECORD: Final = 60
"""Application Insights cuts a message after 32,768 characters; a call takes about 400."""


class Metered(msgspec.Struct, frozen=True, gc=False):
    """One call, at its end. Never a prompt, a completion, a credential or a key."""

    request_id: str
    trace_id: str
    """W3C: Azure OpenAI and Application Insights know the call by it too."""
    event: str
    """Hashed, as the user is: the code alone lets anybody in."""
    user: str
    model: str
    deployment: str
    """The one that answered, or was tried last; empty where none was."""
    status: int
    ending: str
    """How the call ended; of one that got no answer, the code of its refusal."""
    attempts: int
    first_byte_ms: int | None
    total_ms: int
    prompt_tokens: int
    completion_tokens: int


Observer = Callable[[Metered, Trace], None]
"""Gets each call at its end, and its trace."""


class Meter:
    """Writes each call to the log, and hands it to an observer where there is one.

    Calls that end within `LOG_SECONDS` share a record: the worker sends each record to the host by itself,
    which costs half as much as a whole call (docs/decisions/0063).
    """

    def __init__(self, observe: Observer | None = None) -> None:
        self._observe = observe
        self._calls: list[Metered] = []

    def count(
        self,
        request_id: str,
        trace: Trace,
        credential: Credential,
        model: str,
        deployment: str,
        status: int,
        ending: str,
        attempts: int,
        milliseconds: tuple[float | None, float],
        usage: Usage,
    ) -> None:
        """Count one call. Never awaits, so a client that leaves cannot lose it."""
        first, total = milliseconds
        call = Metered(
            request_id,
            trace_id(trace),
            hashed(credential.event_code),
            hashed(credential.user),
            model,
            deployment,
            status,
            ending,
            attempts,
            None if first is None else round(first),
            round(total),
            *usage,
        )
        if status >= 500:
            self.flush()
            _write(logging.WARNING, [call])
        else:
            self._add(call)
        if self._observe is not None:
            self._observe(call, trace)

    def flush(self) -> None:
        """Write the calls that wait for their record."""
        calls, self._calls = self._calls, []
        if calls:
            _write(logging.INFO, calls)

    def _add(self, call: Metered) -> None:
        self._calls.append(call)
        if len(self._calls) == 1:
            asyncio.get_running_loop().call_later(LOG_SECONDS, self.flush)
        elif len(self._calls) == MOST_IN_A_RECORD:
            self.flush()


def _write(level: int, calls: list[Metered]) -> None:
    _log.log(level, "call %s", _encode_lines(calls).decode().rstrip())
