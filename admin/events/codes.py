"""Event codes that can be said aloud and are hard to guess."""

from __future__ import annotations

import secrets

from admin.faults import Fault
from shared.events.credentials import is_event_code

WORDS = 4
"""Of the 1,296 short words that the EFF chose for passphrases: 41 bits, which nobody tries over HTTP."""


def proposed() -> str:
    """Such as `amber-otter-mango-thud`."""
    from xkcdpass import xkcd_password

    words = xkcd_password.generate_wordlist(
        xkcd_password.locate_wordfile("eff-short"), min_length=3, max_length=9, valid_chars="[a-z]"
    )
    return "-".join(secrets.choice(words) for _ in range(WORDS))


def checked(code: str) -> str:
    """As it stands in the tables: trimmed, in lower case.

    Raises:
        Fault: it cannot be a code.
    """
    known = code.strip().lower()
    if not is_event_code(known):
        alone = " Give the code alone, without the user." if "/" in code else ""
        raise Fault(f"{code!r} cannot be an event code: 1 to 64 letters, digits, '-', '_' or '.'.{alone}")
    return known
