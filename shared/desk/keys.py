"""The desk key: it names the event, and is signed with the event's `desk_secret`.

Anyone who has it can change the event. It has no slash, so no attendee's route takes it for a credential; and
a credential is no desk key.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping

from ..core.errors import InvalidDeskKey
from ..core.models import Event
from ..events.credentials import is_event_code

_TAG_BYTES = 16
_MAX_BYTES = 256
_has_form = re.compile(rb"desk\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]{22}").fullmatch


def desk_key(event: Event) -> str:
    """The desk key of this event, which must have a `desk_secret`."""
    digest = hmac.digest(event.desk_secret.encode(), f"desk\n{event.code}".encode(), "sha256")
    return f"desk.{_text(event.code.encode())}.{_text(digest[:_TAG_BYTES])}"


def read_desk_key(headers: Mapping[bytes, bytes]) -> tuple[str, str]:
    """The desk key in `Authorization: Bearer`, and the code of the event that it names. Not checked yet.

    Raises:
        InvalidDeskKey: there is none.
    """
    scheme, _, key = headers.get(b"authorization", b"").strip().partition(b" ")
    key = key.strip()
    found = _has_form(key) if len(key) <= _MAX_BYTES else None
    if found is None or scheme.lower() != b"bearer":
        raise InvalidDeskKey
    try:
        code = urlsafe_b64decode(found[1] + b"=" * (-len(found[1]) % 4)).decode("ascii")
    except ValueError:
        raise InvalidDeskKey from None
    if not is_event_code(code):
        raise InvalidDeskKey
    return key.decode(), code


def check_desk_key(key: str, event: Event) -> None:
    """How long it takes does not depend on how much of the key is right.

    Raises:
        InvalidDeskKey: it is not the key of this event, or no longer.
    """
    is_right = hmac.compare_digest(desk_key(event), key)
    if not (is_right and event.desk_secret):
        raise InvalidDeskKey


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
