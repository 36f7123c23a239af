"""Reads the credential `EVENT_CODE/USER` from the headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..core.errors import InvalidEventToken
from ..core.models import Credential

_is_code = re.compile(r"[a-z0-9._-]{1,64}").fullmatch
_is_user = re.compile(r"[a-z0-9._@+-]{1,64}").fullmatch

MAX_BYTES = 512


def read_credential(headers: Mapping[bytes, bytes]) -> Credential:
    """The credential in `api-key`, else `openai-event-code`, else `Authorization: Bearer`.

    Raises:
        InvalidEventToken: it is missing or malformed.
    """
    text = headers.get(b"api-key", b"").strip() or headers.get(b"openai-event-code", b"").strip()
    return parse(text or _bearer(headers))


@lru_cache(maxsize=4096)
def parse(text: bytes) -> Credential:
    """Both parts, trimmed and in lower case. They are safe as keys of table rows.

    Raises:
        InvalidEventToken: `text` is malformed.
    """
    code, slash, user = text[: MAX_BYTES + 1].decode("latin-1").partition("/")
    code, user = code.strip(" \t").lower(), user.strip(" \t").lower()
    if not slash or len(text) > MAX_BYTES or not _is_code(code) or not _is_user(user):
        raise InvalidEventToken
    return Credential(code, user)


def is_event_code(text: str) -> bool:
    """Whether `text` has the form of an event code: 1 to 64 lower-case letters, digits, `-`, `_`, `.`."""
    return _is_code(text) is not None


def is_user(text: str) -> bool:
    """Whether `text` has the form of a user name: that of an event code, but with `@` and `+` too."""
    return _is_user(text) is not None


def _bearer(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
