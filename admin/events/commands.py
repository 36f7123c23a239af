"""`manage.py events`: who may call, when, and how much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from admin.events import codes
from admin.events import notes as event_notes
from admin.events import rules as event_rules
from admin.events import text as event_text
from admin.events.check import check_event
from admin.faults import Fault
from admin.options import CACHE_TIME, Group, as_json, limits, yes
from admin.printing import confirm, listed, note, tell
from admin.session import run
from admin.target import find
from shared.core.models import LIMITS, Event
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.tables import Tables

PROPOSALS = 5


_STARTS = 'Such as "2026-12-01 09:00", in the event\'s time zone; or now.'
_ENDS = "Likewise; a date alone is the end of that day."
_ZONE = "IANA name, such as Europe/Berlin."


@click.group(cls=Group, short_help="Who may call, when, and how much.")
def events() -> None:
    """Events: who may call, when, and how much."""


events.add_command(check_event)


@events.command("create")
@click.argument("code", required=False)
@click.option("--name", required=True, metavar="TEXT", help="What the event is called.")
@click.option("--starts", required=True, metavar="DATE", help=_STARTS)
@click.option("--ends", required=True, metavar="DATE", help=_ENDS)
@click.option("--time-zone", default="UTC", show_default=True, metavar="ZONE", help=_ZONE)
@click.option("--organizer", default="", metavar="TEXT", help="Whom attendees should ask.")
@click.option("--models", default="", metavar="A,B", help="Without it, every deployed model.")
@click.option(
    "--default-model", metavar="A", help="For calls that name none; without it, the first of --models."
)
@limits
@as_json
def create_event(code: str | None, as_json: bool, **described: Any) -> None:
    """Create the event CODE. Attendees then call as CODE/THEIR-GITHUB-NAME.

    Without CODE one is made up that can be said aloud and is hard to guess. Whoever knows it may call.

    \b
    Example:
      python3 manage.py events create --name "Winter Hack" --starts "2026-12-01 09:00" \\
              --ends "2026-12-03 18:00" --time-zone Europe/Berlin --models gpt-4o \\
              --max-output-tokens 800 --requests-per-day 200 --tokens-per-day 100000
    """
    event = event_rules.created(codes.proposed() if code is None else codes.checked(code), **described)
    target = find()
    event = run(target, lambda tables: _add(tables, event, is_proposed=code is None))
    tell(
        event_text.fields(event) | {"url": target.url},
        as_json,
        lambda: event_text.handed_out(event, target.url),
    )
    for told in event_notes.of_new(event, target.url, datetime.now(UTC)):
        note(told)


async def _add(tables: Tables, event: Event, *, is_proposed: bool) -> Event:
    from shared.tables.service import AlreadyExists

    served = {deployment.model for deployment in await tables.deployments()}
    event_rules.check_models((*event.models, event.default_model), served)
    if not served:
        note("no model is deployed yet: `deployments add` adds one.")
    for _ in range(PROPOSALS):
        try:
            await tables.add_event(event)
        except AlreadyExists:
            if not is_proposed:
                break
            event = replace(event, code=codes.proposed())
        else:
            return event
    raise Fault(f"There is an event {event.code!r} already: change it with `events update`.")


@events.command("list")
@as_json
def list_events(as_json: bool) -> None:
    """List the events, the next to end first."""
    found = run(find(), lambda tables: tables.events())
    now = datetime.now(UTC)
    found.sort(key=lambda event: (event.ends_at < now, abs(event.ends_at - now), event.code))
    if as_json or not found:
        tell([event_text.fields(event) for event in found], as_json, lambda: "None.")
        return
    rows = [
        (event.code, event.name, event_text.state(event, now), event_text.period(event)) for event in found
    ]
    listed(("code", "name", "state", "open"), rows)


@events.command("show")
@click.argument("code")
@as_json
def show_event(code: str, as_json: bool) -> None:
    """Show the event CODE."""
    event = run(find(), lambda tables: _event(tables, code))
    lines = event_text.shown(event, datetime.now(UTC))
    tell(event_text.fields(event), as_json, lambda: "\n".join(f"{name:20} {value}" for name, value in lines))


@events.command("update", short_help="Change the event CODE: what you name, and nothing else.")
@click.argument("code")
@click.option("--name", metavar="TEXT", help="What the event is called.")
@click.option("--starts", metavar="DATE", help=_STARTS)
@click.option("--ends", metavar="DATE", help=_ENDS)
@click.option("--time-zone", metavar="ZONE", help=f"{_ZONE} Moves no date that is set already.")
@click.option("--organizer", metavar="TEXT", help="Whom attendees should ask.")
@click.option("--models", metavar="A,B", help='"" for every deployed model.')
@click.option("--default-model", metavar="A", help="For calls that name none.")
@click.option("--no-default-model", is_flag=True, help="Calls must then name a model.")
@limits
@click.option(
    "--no-limit",
    multiple=True,
    type=click.Choice([name.replace("_", "-") for name in LIMITS]),
    metavar="LIMIT",
    help="Take a limit away, such as requests-per-day; may be given several times.",
)
@click.option("--resume", is_flag=True, help="Open it again after `events stop`.")
@as_json
def update_event(code: str, as_json: bool, **changes: Any) -> None:
    """Change the event CODE while it runs: what you name, and nothing else.

    Others may change it at the same time: what they change stays.
    """
    if not any(value is not None and value is not False and value != () for value in changes.values()):
        raise Fault("There is nothing to change: name an option, such as --ends or --requests-per-day.")
    if changes["default_model"] is not None and changes["no_default_model"]:
        raise Fault("Give --default-model or --no-default-model, not both.")
    updated = run(find(), lambda tables: _update(tables, code, changes))
    told = f"The event {updated.code!r} is changed. It takes effect within {CACHE_TIME}."
    tell(event_text.fields(updated), as_json, lambda: told)
    for told in event_notes.of_change(updated, changes, datetime.now(UTC)):
        note(told)


@events.command("stop")
@click.argument("code")
@as_json
def stop_event(code: str, as_json: bool) -> None:
    """Close the event CODE now. `events update CODE --resume` opens it again."""
    stopped = run(find(), lambda tables: _change(tables, code, active=False))
    told = (
        f"The event {stopped.code!r} ends within {CACHE_TIME}; calls that run go on to their end.\n"
        f"`manage.py events update {stopped.code} --resume` opens it again."
    )
    tell(event_text.fields(stopped), as_json, lambda: told)


@events.command("delete")
@click.argument("code")
@yes
@as_json
def delete_event(code: str, yes: bool, as_json: bool) -> None:
    """Remove the event CODE. What it used stays, for `usage`; to close it only, `events stop` is enough."""
    target = find()
    event = run(target, lambda tables: _event(tables, code))
    confirm(f"Remove the event {event.name!r} ({event.code}) for good?", yes)
    run(target, lambda tables: tables.delete_event(event.code))
    told = (
        f"The event {event.code!r} is removed: its attendees are refused within {CACHE_TIME}.\n"
        f"Its usage stays, until the app clears rows of that age: `manage.py usage {event.code}` shows it.\n"
        "So do its quota rows: a new event of the same code goes on with what was used today."
    )
    tell(event_text.fields(event), as_json, lambda: told)


async def _event(tables: Tables, code: str) -> Event:
    known = code.strip().lower()
    event = await tables.event(known) if is_event_code(known) else None
    return event or _missing(code)


def _missing(code: str) -> Event:
    raise Fault(f"There is no event {code!r}. `manage.py events list` shows those that there are.")


async def _change(tables: Tables, code: str, **changes: Any) -> Event:
    event = await _event(tables, code)
    return await tables.change_event(event.code, lambda now: replace(now, **changes)) or _missing(code)


async def _update(tables: Tables, code: str, changes: dict[str, Any]) -> Event:
    served = {deployment.model for deployment in await tables.deployments()}

    def change(event: Event) -> Event:
        updated = event_rules.changed(event, changes)
        event_rules.check_models(set(updated.models) - set(event.models), served)
        if updated.default_model != event.default_model:
            event_rules.check_models([updated.default_model], served)
        return updated

    event = await _event(tables, code)
    return await tables.change_event(event.code, change) or _missing(code)
