"""Reads the name of an attendee."""

from admin.errors import CommandError
from shared.events.credentials import name_problem


def parse_user(text: str) -> str:
    """The name as the tables hold it. Raises CommandError if it is not valid."""
    user = text.strip().lower()
    if problem := name_problem(user):
        raise CommandError(f"{text!r} is not a valid name. {problem}")
    return user
