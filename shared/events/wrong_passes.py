"""Counts requests with a wrong or missing pass, so that the organiser sees who cannot get in.

A client states any name it likes. So only few names of an event are counted by name, and all others together.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..core.counts import OTHERS
from ..core.errors import InvalidEventToken, RateLimited
from ..core.models import Credential, Event
from .newcomers import Newcomers
from .passes import TAG_LETTERS, is_like_pass, tag_of

AT_ONCE = 30
PER_SECOND = 1 / 60
"""Names of one event that an instance counts by name: so many at once, and so many in each second after."""

MOST_KNOWN = 500

_has_tag_with_digit = re.compile(rf"(?=[a-z]*\d)[a-z2-7]{{{TAG_LETTERS}}}").fullmatch

Count = Callable[[Credential, InvalidEventToken], None]


class WrongPasses:
    """`clock` returns seconds and never goes back."""

    def __init__(self, count: Count, clock: Callable[[], float]) -> None:
        self._count = count
        self._names = Newcomers(clock, PER_SECOND, AT_ONCE, MOST_KNOWN)

    def note(self, credential: Credential, event: Event, error: InvalidEventToken) -> None:
        """A request of this event was refused. Makes no table call."""
        stated = Credential(event.ledger_code, stated_name(credential.user, event.pass_secret))
        try:
            self._names.admit(stated)
        except RateLimited:
            stated = Credential(event.ledger_code, OTHERS)
        self._count(stated, error)


def stated_name(user: str, secret: str) -> str:
    """The name in a key with a wrong pass, without anything that may be a part of the pass."""
    name, _, last = user.rpartition(".")
    if name and is_like_pass(user):
        return name
    start, end = user[:-TAG_LETTERS], user[-TAG_LETTERS:]  # the dot is missing
    if start and (_has_tag_with_digit(end) or end == tag_of(secret, start)):
        return start
    return name if name and any(map(str.isdigit, last)) else user
