"""Passes: in an event whose names belong to people, the key is `EVENT_CODE/USER.TAG`.

The tag is a part of the HMAC of the user's name. So a pass is checked without a table call.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from functools import lru_cache

from ..core.errors import InvalidEventToken
from ..core.models import CLAIM, PASS_NUMBER, Credential, Event
from ..core.texts import organiser

TAG_LETTERS = 12
"""60 bits: 5 for each letter of base32."""

_TAG_BYTES = 8

_ends_like_pass = re.compile(rf".+\.([a-z2-7]{{{TAG_LETTERS}}}|(?=.*\d[a-z])[a-z\d]{{10,14}})").fullmatch
_ends_with_digits_inside = re.compile(r".+\.(?=[^.]*\d[a-z])[a-z\d]{10,14}").fullmatch


def is_like_pass(user: str) -> bool:
    """Whether a name has the form of a pass, perhaps a mistyped one. Some real names have it too."""
    return _ends_like_pass(user) is not None


def is_surely_pass(user: str) -> bool:
    """Whether a name is a pass, perhaps a mistyped one: its last part has digits inside.

    9 of 10 tags have. `anna.mueller1987` has its digits at the end, and `john.featherstone` has none.
    """
    return _ends_with_digits_inside(user) is not None


def tag_of(secret: str, user: str, number: int = 0) -> str:
    """The tag of a user's pass. `number` counts how often the user's earlier passes were made void."""
    text = f"{user}\n{number}" if number else user
    digest = hmac.digest(secret.encode(), text.encode(), "sha256")
    return b32encode(digest[:_TAG_BYTES]).decode().lower()[:TAG_LETTERS]


def pass_of(event: Event, user: str) -> str:
    """`USER.TAG`, the second part of the user's key at this event. The event must have a `pass_secret`."""
    return f"{user}.{tag_of(event.pass_secret, user, _pass_number(event, user))}"


def check_pass(credential: Credential, event: Event) -> Credential:
    """The credential without its tag. The last dot separates the tag, so a name can contain dots.

    How long it takes to refuse a tag does not depend on the tag. A refusal is not remembered, so wrong tags
    take no memory.

    Raises:
        InvalidEventToken: the tag is missing, or is not that of this user at this event.
    """
    user = credential.user.rpartition(".")[0]
    try:
        return _checked(credential, event.pass_secret, _pass_number(event, user))
    except ValueError:
        raise InvalidEventToken(_refusal(event), param=event.access) from None


def without_pass(credential: Credential, event: Event) -> Credential:
    """The credential without its tag, if it has the right one. For an event that is open now.

    Its attendees may still use their passes: each keeps its quota, and no pass becomes a name in the tables.
    """
    if credential.user[-TAG_LETTERS - 1 : -TAG_LETTERS] != "." or not event.pass_secret:
        return credential
    try:
        return check_pass(credential, event)
    except InvalidEventToken:
        return credential


@lru_cache(maxsize=4096)
def _checked(credential: Credential, secret: str, number: int) -> Credential:
    user, _, tag = credential.user.rpartition(".")
    is_right = hmac.compare_digest(tag_of(secret, user, number), tag)
    if not (is_right and secret and user):
        raise ValueError
    return Credential(credential.event_code, user)


def _pass_number(event: Event, user: str) -> int:
    own = event.exceptions.get(user)
    return own.get(PASS_NUMBER, 0) if own else 0


def _refusal(event: Event) -> str:
    """The same for every wrong tag. Only a client that knows the event code gets it."""
    whom = organiser(event)
    advice = f"Ask {whom} for your pass."
    if event.access == CLAIM:
        advice = f"Open this address in a browser to take your name and get its pass, or ask {whom}."
    return f"Your API key has no valid pass. At this event, a key is {event.code}/YOUR-NAME.PASS. {advice}"
