"""What became of each forwarded call, told in one line of the log."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import msgspec

from .models import Credential, Usage
from .trace import Trace, trace_id

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


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
"""Is given each line, and its call's trace."""


class Meter:
    """Tells the log what became of each call, and an observer where there is one."""

    def __init__(self, observe: Observer | None = None) -> None:
        self._observe = observe

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
        """One line for each call. Never awaits: a client that leaves cannot lose it."""
        level = logging.INFO if status < 500 else logging.WARNING
        is_logged = _log.isEnabledFor(level)
        if not is_logged and self._observe is None:
            return
        first, total = milliseconds
        line = Metered(
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
        if is_logged:
            _log.handle(_Record(level, f"call {_encode(line).decode()}"))
        if self._observe is not None:
            self._observe(line, trace)


class _Record(logging.LogRecord):
    """A record as `_log.log` makes it, without a walk through the stack for its caller, which is known."""

    _shared: Final = {
        level: logging.LogRecord(_log.name, level, __file__, 0, "", (), None, "count").__dict__
        for level in (logging.INFO, logging.WARNING)
    }

    def __init__(self, level: int, text: str) -> None:
        now = time.time()
        own = self._shared[level].copy()  # and what follows into the copy: quicker than into the object
        own["msg"] = text
        own["relativeCreated"] += (now - own["created"]) * 1000
        own["created"] = now
        own["msecs"] = now % 1 * 1000 // 1
        self.__dict__ = own


@lru_cache(maxsize=4096)
def hashed(name: str) -> str:
    """An event code or user as the log knows it: the same each time, and not the secret itself."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
