"""Makes up an event code, checks one, and finds its event."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from admin.errors import CommandError
from shared.core.models import Event
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.tables import Tables

WORDS = 4
"""Of the EFF's 1,296 short words for passphrases: 41 bits, too many to guess over HTTP."""


def generate_code() -> str:
    """A code that is easy to say and hard to guess, such as `amber-otter-mango-thud`."""
    from xkcdpass import xkcd_password

    words = xkcd_password.generate_wordlist(
        xkcd_password.locate_wordfile("eff-short"), min_length=3, max_length=9, valid_chars="[a-z]"
    )
    return "-".join(secrets.choice(words) for _ in range(WORDS))


def parse_code(text: str) -> str:
    """The code as the tables hold it: trimmed and in lower case. Raises CommandError if it is not valid."""
    code = text.strip().lower()
    if not is_event_code(code):
        hint = " Leave out the user name." if "/" in text else ""
        raise CommandError(
            f"{text!r} is not a valid event code. Use 1 to 64 letters, digits, '-', '_' or '.'.{hint}"
        )
    return code


async def find_event(tables: Tables, code: str) -> Event | None:
    code = code.strip().lower()
    return await tables.event(code) if is_event_code(code) else None


def unknown_event(code: str) -> CommandError:
    return CommandError(f"There is no event {code!r}. See `manage.py events list`.")
