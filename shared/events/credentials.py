"""The credential `EVENT_CODE/USER`, from whichever header the client's SDK uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..core.errors import InvalidEventToken
from ..core.models import Credential

_code = re.compile(r"[a-z0-9._-]{1,64}").fullmatch
_user = re.compile(r"[a-z0-9._@+-]{1,64}").fullmatch

MAX_BYTES = 512


def credential(headers: Mapping[bytes, bytes]) -> Credential:
    """The caller's credential, from `api-key`, else `openai-event-code`, else `Authorization: Bearer`.

    Raises:
        InvalidEventToken: when it is missing or malformed.
    """
    return parse(headers.get(b"api-key", b"").strip() or _event_code(headers) or _bearer(headers))


@lru_cache(maxsize=4096)
def parse(text: bytes) -> Credential:
    """Trim, lower and check both parts. Whatever passes is safe as a table key.

    Raises:
        InvalidEventToken: see `credential`.
    """
    code, slash, user = text[: MAX_BYTES + 1].decode("latin-1").partition("/")
    code, user = code.strip(" \t").lower(), user.strip(" \t").lower()
    if not slash or len(text) > MAX_BYTES or not _code(code) or not _user(user):
        raise InvalidEventToken
    return Credential(code, user)


def is_event_code(text: str) -> bool:
    """Whether `text` can be the code of an event: 1 to 64 lower-case letters, digits, `-`, `_`, `.`."""
    return _code(text) is not None


def is_user(text: str) -> bool:
    """Whether `text` can be a user: 1 to 64 lower-case letters, digits, `-`, `_`, `.`, `@`, `+`."""
    return _user(text) is not None


def _event_code(headers: Mapping[bytes, bytes]) -> bytes:
    return headers.get(b"openai-event-code", b"").strip()


def _bearer(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
