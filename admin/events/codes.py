"""Makes up an event code, checks one, and finds its event."""

from __future__ import annotations

import re
import secrets
from difflib import get_close_matches
from typing import TYPE_CHECKING

from admin.errors import CommandError
from admin.times import EXAMPLE
from shared.core.models import Event
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.rows import BadRow
    from admin.tables import Tables

WORDS = 4
"""Of the EFF's 1,296 short words for passphrases: 41 bits, too many to guess over HTTP."""

_is_time = re.compile(r"\d{1,2}:\d\d(:\d\d)?").fullmatch


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
        if _is_time(text.strip()):
            hint = f" Put a date with a time in quotes: --starts {EXAMPLE}."
        raise CommandError(
            f"{text!r} is not a valid event code. Use 1 to 64 letters from a to z, digits, '-', '_' or '.'."
            f"{hint}"
        )
    return code


async def find_event(tables: Tables, code: str) -> Event | BadRow:
    """Raises CommandError if there is none."""
    found = await tables.find_event(code.strip())
    if found is None:
        raise await no_such_event(tables, code)
    return found


async def no_such_event(tables: Tables, code: str) -> CommandError:
    """The error for a code that no event has, with the code that may be meant."""
    wanted = code.strip().lower().partition("/")[0]
    close = get_close_matches(wanted, [event.code for event in (await tables.events())[0]], 1, 0.7)
    return unknown_event(code, f"Did you mean {close[0]}? " if close else "")


async def readable_event(tables: Tables, code: str) -> Event:
    """Raises CommandError if there is none, or its row cannot be read."""
    found = await find_event(tables, code)
    if not isinstance(found, Event):
        raise CommandError(found.message)
    return found


async def add(tables: Tables, event: Event) -> None:
    """Add a new event. Raises CommandError if its code is taken."""
    from shared.tables.service import AlreadyExists

    await check_unused(tables, event.code)
    try:
        await tables.add_event(event)
    except AlreadyExists as error:
        raise taken_code(event.code) from error


async def check_unused(tables: Tables, code: str, unless: Event | None = None) -> None:
    """Raises CommandError if another event had this code first: its usage and quotas are kept under it."""
    event_code = await present_code(tables, code)
    if event_code is not None and (unless is None or event_code != unless.code):
        raise CommandError(f"{kept_under(event_code, code)} Use another code.")


async def present_code(tables: Tables, first_code: str) -> str | None:
    """The code of the event that had `first_code` first, and has another one now. None if there is none."""
    good, bad = await tables.events()
    codes = {event.first_code: event.code for event in good}
    codes |= {str(one.row.get("first_code", "")): one.key[0] for one in bad}
    return codes.get(first_code)


def ledger_code(found: Event | BadRow | None, code: str) -> str:
    """The code under which usage and quotas are kept: also if the event's row cannot be read, or is gone."""
    if isinstance(found, Event):
        return found.ledger_code
    first_code = "" if found is None else str(found.row.get("first_code") or "")
    return first_code or code.strip().lower()


def kept_under(event_code: str, first_code: str) -> str:
    return f"The usage of event {event_code!r} is kept under the code {first_code!r}, which it had first."


def taken_code(code: str) -> CommandError:
    return CommandError(
        f"The event {code!r} already exists. Change it with `events update`, or use another code."
    )


def unknown_event(code: str, hint: str = "") -> CommandError:
    return CommandError(f"There is no event {code!r}. {hint}See `manage.py events list`.")
