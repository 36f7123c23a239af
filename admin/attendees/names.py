"""Reads the name of an attendee."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from admin.errors import CommandError
from shared.core.models import Credential, Event
from shared.events.credentials import name_problem
from shared.events.passes import is_like_pass, without_pass

if TYPE_CHECKING:
    from admin.tables import Tables

T = TypeVar("T")


def parse_user(text: str, code: str) -> str:
    """The name as the tables hold it, perhaps with a pass. Raises CommandError if it is not valid.

    An organiser may copy the whole key: the code of the event before the name is left out.
    """
    user = text.strip().lower().removeprefix(f"{code.strip().lower()}/")
    if problem := name_problem(user):
        raise CommandError(f"{text!r} is not a valid name. {problem}")
    return user


async def without_its_pass(tables: Tables, code: str, user: str) -> str:
    """The name alone, if `user` has the right pass of this event."""
    event = await tables.find_event(code.strip()) if is_like_pass(user) else None
    return without_pass(Credential(code, user), event).user if isinstance(event, Event) else user


def named(
    code: str, user: str, work: Callable[[Tables, str], Awaitable[T]]
) -> Callable[[Tables], Coroutine[Any, Any, tuple[str, T]]]:
    """`work` with the name of the attendee, and that name before its result."""

    async def with_name(tables: Tables) -> tuple[str, T]:
        name = await without_its_pass(tables, code, user)
        return name, await work(tables, name)

    return with_name
