"""Reads the credential `EVENT_CODE/USER`, or `EVENT_CODE/USER.TAG`, from the headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ..core.errors import InvalidEventToken
from ..core.models import Credential
from .passes import TAG_LETTERS

LONGEST_USER = 64
LONGEST_PASS = LONGEST_USER + 1 + TAG_LETTERS

_is_code = re.compile(r"[a-z0-9._-]{1,64}").fullmatch
_has_user_letters = re.compile(r"[a-z0-9._@+-]+").fullmatch
_is_placeholder = re.compile(r"your-(github-)?name(\..*)?").fullmatch
"""What the page, the messages and `events create` print in place of a name."""

_HEADERS = (b"api-key", b"openai-event-code")
MAX_BYTES = 512

_EXAMPLE = "Use EVENT-CODE/YOUR-NAME, for example hackathon/anna."
_NO_NAME = f"Your API key has no name in it. {_EXAMPLE}"
_PLACEHOLDER = "YOUR-NAME is a placeholder. Put your own name in its place, as in hackathon/anna."
_WRONG_LETTERS = (
    "The name has characters that are not allowed. "
    "Use only letters from a to z, digits and . _ - @ +, as in anna."
)
TOO_LONG = f"The name is too long. Use at most {LONGEST_USER} characters."


def read_credential(headers: Mapping[bytes, bytes]) -> Credential:
    """The first credential in `api-key`, `openai-event-code` and `Authorization: Bearer`.

    Some clients send a placeholder in one of them, so a text of another form is skipped.

    Raises:
        InvalidEventToken: none of them has the form of a credential.
    """
    for name in _HEADERS:
        if text := headers.get(name):
            try:
                return parse(text.strip())
            except InvalidEventToken:
                continue
    try:
        return parse(_bearer(headers))
    except InvalidEventToken:
        raise _refusal(headers) from None


@lru_cache(maxsize=4096)
def parse(text: bytes) -> Credential:
    """Both parts, trimmed and in lower case. They are safe as keys of table rows.

    The user may have the tag of a pass, and is then up to `LONGEST_PASS` characters long.

    Raises:
        InvalidEventToken: `text` is malformed.
    """
    code, _, user = text[: MAX_BYTES + 1].decode("latin-1").partition("/")
    code, user = code.strip(" \t").lower(), user.strip(" \t").lower()
    if len(text) > MAX_BYTES or not _is_code(code):
        raise InvalidEventToken
    if problem := _pass_problem(user):
        raise InvalidEventToken(problem)
    return Credential(code, user)


def name_problem(user: str) -> str | None:
    """What is wrong with a user's name, and what to do. None if it is valid."""
    if not user:
        return "The name is missing. Send one, such as anna."
    return _pass_problem(user) or (TOO_LONG if len(user) > LONGEST_USER else None)


def _pass_problem(user: str) -> str | None:
    """What is wrong with the name in a key, which may have the tag of a pass."""
    if not user:
        return _NO_NAME
    if not _has_user_letters(user):
        return _WRONG_LETTERS
    if len(user) > LONGEST_PASS or ("." not in user and len(user) > LONGEST_USER):
        return TOO_LONG
    return _PLACEHOLDER if _is_placeholder(user) else None


def is_event_code(text: str) -> bool:
    """Whether `text` has the form of an event code: 1 to 64 lower-case letters, digits, `-`, `_`, `.`."""
    return _is_code(text) is not None


def is_user(text: str) -> bool:
    """Whether `text` has the form of a user name: that of an event code, but with `@` and `+` too.

    The placeholders of the page and of the messages do not count as names.
    """
    return name_problem(text) is None


def _refusal(headers: Mapping[bytes, bytes]) -> InvalidEventToken:
    """The refusal of the header that looks most like a credential: others may hold a placeholder."""
    texts = [text for name in _HEADERS if (text := headers.get(name, b"").strip())]
    if bearer := _bearer(headers):
        texts.append(bearer)
    for text in sorted(texts, key=lambda text: b"/" not in text):
        try:
            parse(text)
        except InvalidEventToken as refusal:
            return refusal
    return InvalidEventToken()


def _bearer(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, token = headers.get(b"authorization", b"").strip().partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""
