"""What `manage.py attendees` does with the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from admin.attendees import exceptions
from admin.attendees.people import Line, read_people
from admin.attendees.roster import Person
from admin.errors import CommandError
from admin.events.codes import kept_under, parse_code, present_code, readable_event
from shared.core.errors import StoreUnavailable
from shared.core.ids import new_id
from shared.core.models import OPEN, Credential, Event
from shared.events.passes import pass_of, without_pass
from shared.quota.amounts import NOTHING, Amount
from shared.quota.ledger_row import Conflict, Key
from shared.quota.standing import day_of
from shared.tables.attendees import AttendeeRow
from shared.tables.service import ATTENDEES, EVENTS, QUOTAS, USAGE

if TYPE_CHECKING:
    from admin.tables import Tables

RESET_TRIES = 50


async def add(tables: Tables, code: str, people: Sequence[Person]) -> tuple[Event, int]:
    """The event, and how many of the names are new."""
    event, now = await readable_event(tables, code), datetime.now(UTC)
    rows = {
        one.user: {"source": "roster", "added_at": now, "team": one.team, "note": one.note} for one in people
    }
    return event, await tables.attendees.add(event.ledger_code, rows)


async def taken(tables: Tables, code: str, users: Sequence[str]) -> tuple[Event, list[AttendeeRow]]:
    """The event, and the names that are taken, or those of `users`.

    Raises:
        CommandError: the event has no passes, or one of the names is not taken.
    """
    event = await readable_event(tables, code)
    users = [without_pass(Credential(event.code, user), event).user for user in users]
    if event.access == OPEN:
        raise CommandError(
            f"The event {event.code!r} has no passes: its key is {event.code}/NAME for everyone. To require "
            f"passes, use `events update {event.code} --access claim` or --access roster."
        )
    found = await tables.attendees.list(event.ledger_code)
    by_name = {one.user: one for one in found}
    if missing := [user for user in users if user not in by_name]:
        raise _not_taken(event, missing[0])
    if not found:
        raise CommandError(
            f"No name of event {event.code!r} is taken yet. Use `attendees import {event.code} FILE`."
        )
    return event, [by_name[user] for user in users] if users else found


async def change(tables: Tables, code: str, user: str, changes: Mapping[str, Any]) -> tuple[Event, bool]:
    """The event with the changed exceptions of a user, and whether the user is known there."""
    event = await exceptions.change(tables, code, user, changes)
    known = {one.user for one in await tables.attendees.list(event.ledger_code)}
    if user not in known:
        known |= {row.user for row in (await tables.read_usage(event.ledger_code))[0]}
    return event, user in known


async def people(tables: Tables, code: str, now: datetime) -> tuple[Event, list[Line], list[str]]:
    event = await readable_event(tables, code)
    return event, *await read_people(tables, event, now)


async def reset(tables: Tables, code: str, user: str, now: datetime) -> tuple[Event, Amount]:
    """Give back what a user's calls have used today. What instances have granted stays granted.

    It is one conditional write: calls that run meanwhile are charged as before.
    """
    event = await readable_event(tables, code)
    key = Key(event.ledger_code, f"{user}:{day_of(now, event.time_zone).name}")
    for _ in range(RESET_TRIES):
        row = await tables.read_ledger(key)
        if row.used == NOTHING:
            return event, NOTHING
        granted = row.granted.minus(row.used).at_least(NOTHING)
        try:
            await tables.write_ledger(key, row._replace(granted=granted, used=NOTHING, writer=new_id()))
        except Conflict:
            continue
        return event, row.used
    raise StoreUnavailable


async def release(tables: Tables, code: str, user: str) -> Event:
    """Make a user's pass void, then free the name: in this order, no one gets a void pass."""
    event = await readable_event(tables, code)
    if user not in {one.user for one in await tables.attendees.list(event.ledger_code)}:
        raise _not_taken(event, user)
    event = await exceptions.next_pass(tables, event.code, user)
    await tables.attendees.remove(event.ledger_code, user)
    return event


async def purge(tables: Tables, code: str, user: str) -> dict[str, int]:
    """Delete every row that names a user, and return how many, by table.

    In an earlier version, a key with a pass that was sent while the event was open became a name of its own.
    """
    found = await tables.find_event(code.strip())
    event = found if isinstance(found, Event) else None
    ledger_code = event.ledger_code if event else parse_code(code)
    if event is None and (present := await present_code(tables, ledger_code)):
        raise CommandError(f"{kept_under(present, ledger_code)} Use `attendees purge {present} {user}`.")
    names = {user, pass_of(event, user)} if event and event.pass_secret else {user}
    removed: Counter[str] = Counter(dict.fromkeys((EVENTS, ATTENDEES, QUOTAS, USAGE), 0))
    if event and user in event.exceptions:
        await exceptions.forget(tables, event.code, user)
        removed[EVENTS] += 1
    removed[ATTENDEES] += await tables.attendees.remove(ledger_code, user)
    for table, name_of in ((QUOTAS, _quota_user), (USAGE, _usage_user)):
        async for page in tables.row_keys.pages(table, ledger_code):
            keys = [row.key for row in page if name_of(row.key) in names]
            await tables.row_keys.delete(table, ledger_code, keys)
            removed[table] += len(keys)
    return dict(removed)


def _quota_user(key: str) -> str:
    return key.rpartition(":")[0]


def _usage_user(key: str) -> str:
    return key.split(":", 2)[1] if key.count(":") >= 2 else ""


def _not_taken(event: Event, user: str) -> CommandError:
    return CommandError(
        f"The name {user!r} is not taken at event {event.code!r}. See `attendees list {event.code}`."
    )
