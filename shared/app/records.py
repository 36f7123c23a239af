"""Records each call: counts its usage, and writes it to the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..core.errors import InternalError, ProxyError
from ..core.hashing import hashed
from ..core.models import Credential, Usage
from ..core.trace import trace_id
from ..upstream.call import Call, Progress
from ..upstream.relay import Ending
from ..usage.call_log import CallLog, LoggedCall
from ..usage.tally import Tally


class Records:
    """Never awaits, so no record is lost when a client leaves. `clock` is the clock of `Forwarding`."""

    def __init__(self, tally: Tally, log: CallLog, clock: Callable[[], float]) -> None:
        self._tally = tally
        self._log = log
        self._clock = clock

    def new_progress(self) -> Progress:
        """The progress of a call that begins now."""
        return Progress(self._clock())

    def record_refusal(self, credential: Credential, model: str, at: datetime, error: ProxyError) -> None:
        """A call that was refused before it was forwarded. `model` is empty if none was chosen."""
        self._tally.count_failure(credential, model, at, error)
        self._log.count_refusal(error.code)

    def record_failure(self, call: Call, progress: Progress, error: ProxyError) -> None:
        """A call that no deployment served."""
        if not isinstance(error, InternalError):
            self._write(call, progress, call.id, error.status, error.code, Usage())
        self._tally.count_failure(call.credential, call.model, call.arrived_at, error)

    def record_end(
        self,
        call: Call,
        progress: Progress,
        request_id: str,
        status: int,
        ending: Ending,
        usage: Usage,
        cost: int,
    ) -> None:
        """A call that was forwarded and is charged. `cost` is in millionths of the currency."""
        is_cut = ending is Ending.CUT
        self._tally.count_call(call.credential, call.model, call.arrived_at, usage, cost, is_cut=is_cut)
        self._write(call, progress, request_id, status, ending, usage)

    def _write(
        self, call: Call, progress: Progress, request_id: str, status: int, ending: str, usage: Usage
    ) -> None:
        began_at, first_byte_at = progress.began_at, progress.first_byte_at
        line = LoggedCall(
            request_id=request_id,
            trace_id=trace_id(call.trace),
            event=hashed(call.credential.event_code),
            user=hashed(call.credential.user),
            model=call.model,
            deployment=progress.deployment,
            status=status,
            ending=ending,
            attempts=progress.attempts,
            first_byte_ms=None if first_byte_at is None else int((first_byte_at - began_at) * 1000),
            total_ms=int((self._clock() - began_at) * 1000),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        self._log.add(line, call.trace)
