"""`manage.py events rotate`, `rename`, `copy`, `delete` and `purge`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from admin import times
from admin.errors import CommandError
from admin.events import codes, notes, rules
from admin.events import text as event_text
from admin.options import as_json, yes
from admin.printing import confirm, deleted_rows, print_result
from admin.session import run
from admin.target import cache_time, find_target, takes_effect
from shared.core.ids import new_secret
from shared.core.models import OPEN, PASS_NUMBER, Deployment, Event

if TYPE_CHECKING:
    from admin.rows import BadRow
    from admin.tables import Tables


@click.command("rotate", short_help="Make every pass of an event void.")
@click.argument("code")
@yes
@as_json
def rotate_event(code: str, yes: bool, as_json: bool) -> None:
    """Make every pass of an event void, for example because a sheet of passes was lost.

    Names stay taken. `attendees passes CODE` prints the new passes.
    """
    target = find_target()
    event = run(target, lambda tables: _with_passes(tables, code))
    confirm(f"Make every pass of event {event.name!r} ({event.code}) void? Attendees need new ones.", yes)
    event, count = run(target, lambda tables: _rotate(tables, code))
    text = (
        f"Every pass of event {event.code!r} is void. Names that are taken: {count:,}. {takes_effect()}\n"
        f"To print the new passes, use `manage.py attendees passes {event.code}`."
    )
    print_result(event_text.to_fields(event) | {"void_passes": count}, as_json, lambda: text)


async def _with_passes(tables: Tables, code: str) -> Event:
    event = await codes.readable_event(tables, code)
    if event.access == OPEN:
        raise CommandError(f"The event {event.code!r} has no passes. See `events update --access`.")
    return event


async def _rotate(tables: Tables, code: str) -> tuple[Event, int]:
    def change(event: Event) -> Event:
        kept = {
            user: {name: value for name, value in own.items() if name != PASS_NUMBER}
            for user, own in event.exceptions.items()
        }
        exceptions = {user: own for user, own in kept.items() if own}
        return replace(event, pass_secret=new_secret(), exceptions=exceptions)

    found = await _with_passes(tables, code)
    event = await tables.change_event(found.code, change)
    if event is None:
        raise codes.unknown_event(code)
    return event, len(await tables.attendees.list(event.ledger_code))


@click.command("rename", short_help="Give an event a new code, because the old one leaked.")
@click.argument("old")
@click.argument("new", required=False)
@as_json
def rename_event(old: str, new: str | None, as_json: bool) -> None:
    """Give an event another code. Its limits, usage, attendees and passes stay.

    Without NEW, the command makes up a code. The old code stops working within 30 seconds, or within the
    app's PROXY_CACHE_SECONDS. Attendees replace the first part of their key.
    """
    code = codes.generate_code() if new is None else codes.parse_code(new)
    event = run(find_target(), lambda tables: _rename(tables, old, code))
    text = (
        f"The event {codes.parse_code(old)!r} now has the code {event.code!r}. {takes_effect()}\n"
        f"Attendees now use {event_text.key(event)} as their API key.\n"
        f"For the new link to the desk, use `manage.py events desk {event.code}`."
    )
    print_result(event_text.to_fields(event), as_json, lambda: text)


async def _rename(tables: Tables, old: str, new: str) -> Event:
    from shared.tables.service import AlreadyExists

    event = await codes.readable_event(tables, old)
    if new == event.code:
        raise CommandError(f"The event already has the code {new!r}.")
    await codes.check_unused(tables, new, unless=event)
    try:
        return await tables.rename_event(event.code, new)
    except AlreadyExists as error:
        raise codes.taken_code(new) from error


@click.command("copy", short_help="Create an event like an earlier one.")
@click.argument("code")
@click.argument("new", required=False)
@click.option("--starts", required=True, metavar="DATE", help="Start of the new event.")
@click.option("--ends", required=True, metavar="DATE", help="End of the new event.")
@click.option("--name", metavar="TEXT", help="Name of the new event. Default: that of the earlier one.")
@as_json
def copy_event(code: str, new: str | None, starts: str, ends: str, name: str | None, as_json: bool) -> None:
    """Create an event with the models and limits of an earlier one, but no attendees and exceptions."""
    new_code = codes.generate_code() if new is None else codes.parse_code(new)
    target = find_target()
    event, deployments = run(target, lambda tables: _copy(tables, code, new_code, starts, ends, name))
    fields = event_text.to_fields(event) | event_text.links(event, target.url)
    found = notes.for_new_event(event, target.url, deployments, datetime.now(UTC))
    print_result(fields, as_json, lambda: event_text.invitation(event, target.url, deployments), found)


async def _copy(
    tables: Tables, code: str, new: str, starts: str, ends: str, name: str | None
) -> tuple[Event, list[Deployment]]:
    event = await codes.readable_event(tables, code)
    copied = replace(
        event,
        code=new,
        name=event.name if name is None else name,
        starts_at=times.parse(starts, event.time_zone),
        ends_at=times.parse(ends, event.time_zone, is_end=True),
        active=True,
        id_secret=new_secret(),
        pass_secret=new_secret(),
        desk_secret=new_secret(),
        exceptions={},
        first_code="",
    )
    rules.check(copied)
    rules.check_not_over(copied, datetime.now(UTC))
    deployments = await tables.deployments()
    deployed = {deployment.model for deployment in deployments}
    rules.check_budget(copied, deployments)
    rules.check_models((*copied.models, copied.default_model), deployed)
    await codes.add(tables, copied)
    return copied, deployments


@click.command("delete")
@click.argument("code")
@yes
@as_json
def delete_event(code: str, yes: bool, as_json: bool) -> None:
    """Delete an event. Its usage data stays. To close an event, use `events stop`."""
    target = find_target()
    event = run(target, lambda tables: codes.find_event(tables, code))
    if isinstance(event, Event):
        name, fields = f"{event.name!r} ({event.code})", event_text.to_fields(event)
        key: tuple[str, ...] = (event.code,)
    else:
        name, fields, key = repr(event.key[0]), event.fields, event.key
    confirm(f"Delete event {name}? This cannot be undone.", yes)
    ledger_code = codes.ledger_code(event, key[0])
    kept = run(target, lambda tables: _delete(tables, key, ledger_code))
    text = (
        f"Deleted event {key[0]!r}. Requests are refused within {cache_time()}.\n{_kept(ledger_code, kept)}"
    )
    print_result(fields, as_json, lambda: text)


async def _delete(tables: Tables, key: tuple[str, ...], ledger_code: str) -> set[str]:
    """The tables that still have rows of the event."""
    from shared.tables.service import ATTENDEES, QUOTAS, USAGE

    await tables.delete_event(*key)
    found = set()
    for table in (ATTENDEES, QUOTAS, USAGE):
        async for page in tables.row_keys.pages(table, ledger_code):
            if page:
                found.add(table)
                break
    return found


def _kept(ledger_code: str, kept: set[str]) -> str:
    from shared.tables.service import USAGE

    if not kept:
        return "It has no usage and no attendees, so nothing of it is kept."
    usage = f"Usage data is kept for 90 days: `manage.py usage {ledger_code}` shows it."
    return (
        f"{usage if USAGE in kept else 'Data of its attendees is kept.'} "
        f"`manage.py events purge {ledger_code}` deletes it.\n"
        "If you reuse this code, today's usage and the event's total still count, and names stay taken."
    )


@click.command("purge", short_help="Delete an event with everything about its attendees.")
@click.argument("code")
@yes
@as_json
def purge_event(code: str, yes: bool, as_json: bool) -> None:
    """Delete an event, its attendees, their quotas and usage: every row that names it.

    It also works after `events delete`. The log has only hashes of the names and of the code, for 30 days.
    """
    target = find_target()
    event, _ = run(target, lambda tables: _find_over(tables, code))
    name = f"{event.name!r} ({event.code})" if isinstance(event, Event) else repr(code)
    confirm(f"Delete event {name} with all its usage and attendees? This cannot be undone.", yes)
    removed = run(target, lambda tables: _purge(tables, code))
    fields = {"code": codes.parse_code(code), "removed": removed}
    print_result(fields, as_json, lambda: deleted_rows(f"event {code!r}", removed))


async def _find_over(tables: Tables, code: str) -> tuple[Event | BadRow | None, str]:
    """The event, if it still exists, and its ledger code. Raises CommandError if it is not over."""
    found = await tables.find_event(code.strip())
    ledger_code = codes.ledger_code(found, codes.parse_code(code))
    if isinstance(found, Event) and found.active and found.ends_at > datetime.now(UTC):
        raise CommandError(
            f"The event {found.code!r} is not over. Stop it with `events stop {found.code}`, wait a minute "
            "for running requests, and purge it then."
        )
    if found is None and (present := await codes.present_code(tables, ledger_code)):
        raise CommandError(f"{codes.kept_under(present, ledger_code)} Use `events purge {present}`.")
    return found, ledger_code


async def _purge(tables: Tables, code: str) -> dict[str, int]:
    from shared.tables.attendees import SEATS_ROW
    from shared.tables.service import ATTENDEES, EVENTS, QUOTAS, USAGE

    found, ledger_code = await _find_over(tables, code)
    removed: Counter[str] = Counter(dict.fromkeys((EVENTS, ATTENDEES, QUOTAS, USAGE), 0))
    for table in (ATTENDEES, QUOTAS, USAGE):
        async for page in tables.row_keys.pages(table, ledger_code):
            await tables.row_keys.delete(table, ledger_code, [row.key for row in page])
            removed[table] += sum(row.key != SEATS_ROW for row in page)
    if found is not None:
        await tables.delete_event(*((found.code,) if isinstance(found, Event) else found.key))
        removed[EVENTS] = 1
    return dict(removed)
