"""What became of each forwarded call, told in one line of the log."""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache

import msgspec

from .models import Credential, Usage

_log = logging.getLogger(__name__)


class Metered(msgspec.Struct, frozen=True):
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


class Meter:
    """Tells the log what became of each call."""

    def count(
        self,
        request_id: str,
        trace_id: str,
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
        if not _log.isEnabledFor(level):
            return
        first, total = milliseconds
        line = Metered(
            request_id,
            trace_id,
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
        _log.log(level, "call %s", msgspec.json.encode(line).decode())


@lru_cache(maxsize=4096)
def hashed(name: str) -> str:
    """An event code or user as the log knows it: the same each time, and not the secret itself."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
