"""What became of each forwarded call, told in one line of the log."""

from __future__ import annotations

import hashlib
import logging
import time
from functools import lru_cache
from typing import Final

import msgspec

from .models import Credential, Usage

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Metered(msgspec.Struct, frozen=True, gc=False):
    """One forwarded call, at its end. Never a prompt, a completion, a credential or a key."""

    request_id: str
    event: str
    """Hashed, as the user is: the code alone lets anybody in."""
    user: str
    model: str
    deployment: str
    status: int
    ending: str
    prompt_tokens: int
    completion_tokens: int


class Meter:
    """Tells the log what became of each call."""

    def count(
        self,
        request_id: str,
        credential: Credential,
        model: str,
        deployment: str,
        status: int,
        ending: str,
        usage: Usage,
    ) -> None:
        """Account for a call that was forwarded. Never awaits: a client that leaves cannot lose it."""
        if _log.isEnabledFor(logging.INFO):
            line = Metered(
                request_id,
                hashed(credential.event_code),
                hashed(credential.user),
                model,
                deployment,
                status,
                ending,
                *usage,
            )
            _log.handle(_Record(f"call {_encode(line).decode()}"))

    def failed(self, request_id: str, deployment: str, status: int, code: str) -> None:
        """Tell the log of a call that got no answer, by the id that its client was told."""
        _log.warning("call %s to deployment %s failed: %d %s", request_id, deployment, status, code)


class _Record(logging.LogRecord):
    """A record as `_log.info` makes it, without a walk through the stack for its caller, which is known."""

    _shared: Final = logging.LogRecord(_log.name, logging.INFO, __file__, 0, "", (), None, "count").__dict__

    def __init__(self, text: str) -> None:
        now = time.time()
        self.__dict__.update(self._shared)
        self.msg = text
        self.relativeCreated += (now - self.created) * 1000
        self.created = now
        self.msecs = now % 1 * 1000 // 1


@lru_cache(maxsize=4096)
def hashed(name: str) -> str:
    """An event code or user as the log knows it: the same each time, and not the secret itself."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
