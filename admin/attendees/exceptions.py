"""What is different for a single attendee: changes of an event's `exceptions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from admin.errors import CommandError
from admin.events.codes import readable_event, unknown_event
from shared.core.models import MOST_EXCEPTIONS, PASS_NUMBER, Event, Own
from shared.tables.event_rows import exceptions_to_text

if TYPE_CHECKING:
    from admin.tables import Tables


async def change(tables: Tables, code: str, user: str, changes: Mapping[str, Any]) -> Event:
    """Change members of one attendee's exceptions; None removes a member. No change of others is lost.

    Raises:
        CommandError: there is no such event, or it has too many exceptions.
    """
    return await _change(tables, code, user, lambda own: own | changes)


async def next_pass(tables: Tables, code: str, user: str) -> Event:
    """Make the present pass of a user void."""
    return await _change(tables, code, user, lambda own: own | {PASS_NUMBER: own.get(PASS_NUMBER, 0) + 1})


async def forget(tables: Tables, code: str, user: str) -> Event:
    """Remove every exception of a user."""
    return await _change(tables, code, user, lambda _: {})


async def _change(tables: Tables, code: str, user: str, change_own: Any) -> Event:
    def change_event(event: Event) -> Event:
        own = change_own(dict(event.exceptions.get(user, {})))
        own = {name: value for name, value in own.items() if value is not None and value is not False}
        others = {name: one for name, one in event.exceptions.items() if name != user}
        changed = replace(event, exceptions=others | ({user: own} if own else {}))
        _check_budget(changed, own)
        _check_size(changed)
        return changed

    event = await readable_event(tables, code)
    changed = await tables.change_event(event.code, change_event)
    if changed is None:
        raise unknown_event(code)
    return changed


def _check_budget(event: Event, own: Own) -> None:
    if "cost_per_day" in own and not event.has_budget:
        raise CommandError(
            f"The event has no budget. Set one with `events update {event.code} --budget AMOUNT` first."
        )


def _check_size(event: Event) -> None:
    size = len(exceptions_to_text(event.exceptions))
    if size > MOST_EXCEPTIONS:
        raise CommandError(
            f"The event has exceptions for {len(event.exceptions) - 1:,} attendees, and no room for another. "
            "Remove some with `attendees unblock`, or use `events update --access roster` and a new roster."
        )
