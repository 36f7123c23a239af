"""`manage.py events`: create, change and list events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from admin.errors import CommandError
from admin.events import codes, notes, rules
from admin.events import text as event_text
from admin.events.check import check_event
from admin.options import TAKES_EFFECT, Group, as_json, limits, option_name, yes
from admin.printing import confirm, print_list, print_note, print_result
from admin.session import run
from admin.target import find_target
from shared.core.models import LIMITS, Event

if TYPE_CHECKING:
    from admin.tables import Tables

_NAME = "Name of the event."
_STARTS = 'Start, such as "2026-12-01 09:00" in the event\'s time zone, or now.'
_ENDS = "End, in the same form. A date without a time includes that whole day."
_ZONE = "Time zone, such as Europe/Berlin."
_ORGANIZER = "Contact for attendees."


@click.group(cls=Group, short_help="Create, change and list events.")
def events() -> None:
    """Create, change and list events."""


events.add_command(check_event)


@events.command("create", short_help="Create an event.")
@click.argument("code", required=False)
@click.option("--name", required=True, metavar="TEXT", help=_NAME)
@click.option("--starts", required=True, metavar="DATE", help=_STARTS)
@click.option("--ends", required=True, metavar="DATE", help=_ENDS)
@click.option("--time-zone", default="UTC", show_default=True, metavar="ZONE", help=_ZONE)
@click.option("--organizer", default="", metavar="TEXT", help=_ORGANIZER)
@click.option("--models", default="", metavar="A,B", help="Models to allow. Default: all deployed models.")
@click.option(
    "--default-model",
    metavar="A",
    help="Model for requests that name none. Default: the first of --models.",
)
@limits
@as_json
def create_event(code: str | None, as_json: bool, **options: Any) -> None:
    """Create an event. Attendees use CODE/THEIR-GITHUB-NAME as their API key.

    Without CODE, the command makes up a code that is easy to say and hard to guess. Everyone who knows the
    code can use the event.

    \b
    Example:
      python3 manage.py events create --name "Winter Hack" --starts "2026-12-01 09:00" \\
              --ends "2026-12-03 18:00" --time-zone Europe/Berlin --models gpt-4o \\
              --max-output-tokens 800 --requests-per-day 200 --tokens-per-day 100000
    """
    event = rules.new_event(codes.generate_code() if code is None else codes.parse_code(code), **options)
    target = find_target()
    run(target, lambda tables: _add(tables, event))
    fields = event_text.to_fields(event) | {"url": target.url}
    print_result(fields, as_json, lambda: event_text.invitation(event, target.url))
    for note in notes.for_new_event(event, target.url, datetime.now(UTC)):
        print_note(note)


async def _add(tables: Tables, event: Event) -> None:
    from shared.tables.service import AlreadyExists

    deployed = {deployment.model for deployment in await tables.deployments()}
    rules.check_models((*event.models, event.default_model), deployed)
    if not deployed:
        print_note("No model is deployed yet. To add one, use `deployments add`.")
    try:
        await tables.add_event(event)
    except AlreadyExists as error:
        raise CommandError(
            f"The event {event.code!r} already exists. Change it with `events update`, or use another code."
        ) from error


@events.command("list")
@as_json
def list_events(as_json: bool) -> None:
    """List the events. Running and future events come first."""
    found = run(find_target(), lambda tables: tables.events())
    now = datetime.now(UTC)
    found.sort(key=lambda event: (event.ends_at < now, abs(event.ends_at - now), event.code))
    if as_json or not found:
        fields = [event_text.to_fields(event) for event in found]
        print_result(fields, as_json, lambda: "No events. To create one, use `events create`.")
        return
    rows = [
        (event.code, event.name, event_text.state(event, now), event_text.period(event)) for event in found
    ]
    print_list(("code", "name", "state", "dates"), rows)


@events.command("show")
@click.argument("code")
@as_json
def show_event(code: str, as_json: bool) -> None:
    """Show an event with its dates, models and limits."""
    event = run(find_target(), lambda tables: _find(tables, code))
    print_result(event_text.to_fields(event), as_json, lambda: event_text.details(event, datetime.now(UTC)))


@events.command("update", short_help="Change an event, also while it runs.")
@click.argument("code")
@click.option("--name", metavar="TEXT", help=_NAME)
@click.option("--starts", metavar="DATE", help=_STARTS)
@click.option("--ends", metavar="DATE", help=_ENDS)
@click.option("--time-zone", metavar="ZONE", help=f"{_ZONE} Start and end do not move.")
@click.option("--organizer", metavar="TEXT", help=_ORGANIZER)
@click.option("--models", metavar="A,B", help='Models to allow. "" means all deployed models.')
@click.option("--default-model", metavar="A", help="Model for requests that name none.")
@click.option("--no-default-model", is_flag=True, help="Requests must name a model.")
@limits
@click.option(
    "--no-limit",
    multiple=True,
    type=click.Choice([option_name(name)[2:] for name in LIMITS]),
    metavar="LIMIT",
    help="Remove a limit, such as requests-per-day. You can repeat this option.",
)
@click.option("--resume", is_flag=True, help="Reopen the event after `events stop`.")
@as_json
def update_event(code: str, as_json: bool, **options: Any) -> None:
    """Change an event, also while it runs. Everything that you do not name stays as it is.

    Several organisers can change an event at the same time. No change is lost.
    """
    if not any(value is not None and value is not False and value != () for value in options.values()):
        raise CommandError("Nothing to change. Use an option, such as --ends or --requests-per-day.")
    if options["default_model"] is not None and options["no_default_model"]:
        raise CommandError("Use --default-model or --no-default-model, not both.")
    event = run(find_target(), lambda tables: _update(tables, code, options))
    text = f"Updated event {event.code!r}. {TAKES_EFFECT}"
    print_result(event_text.to_fields(event), as_json, lambda: text)
    for note in notes.for_changed_event(event, options, datetime.now(UTC)):
        print_note(note)


@events.command("stop")
@click.argument("code")
@as_json
def stop_event(code: str, as_json: bool) -> None:
    """Close an event now. To reopen it, use `events update CODE --resume`."""
    event = run(find_target(), lambda tables: _stop(tables, code))
    text = (
        f"Stopped event {event.code!r}. New requests are refused within 30 seconds. "
        "Running requests will finish.\n"
        f"To reopen it, use `manage.py events update {event.code} --resume`."
    )
    print_result(event_text.to_fields(event), as_json, lambda: text)


@events.command("delete")
@click.argument("code")
@yes
@as_json
def delete_event(code: str, yes: bool, as_json: bool) -> None:
    """Delete an event. Its usage data stays. To close an event, use `events stop`."""
    target = find_target()
    event = run(target, lambda tables: _find(tables, code))
    confirm(f"Delete event {event.name!r} ({event.code})? This cannot be undone.", yes)
    run(target, lambda tables: tables.delete_event(event.code))
    text = (
        f"Deleted event {event.code!r}. Requests are refused within 30 seconds.\n"
        f"Usage data is kept for 90 days: `manage.py usage {event.code}` shows it.\n"
        "If you reuse this code, today's usage and the event's total still count."
    )
    print_result(event_text.to_fields(event), as_json, lambda: text)


async def _find(tables: Tables, code: str) -> Event:
    event = await codes.find_event(tables, code)
    if event is None:
        raise codes.unknown_event(code)
    return event


async def _stop(tables: Tables, code: str) -> Event:
    return await _change(tables, code, lambda event: replace(event, active=False))


async def _update(tables: Tables, code: str, options: dict[str, Any]) -> Event:
    deployed = {deployment.model for deployment in await tables.deployments()}

    def change(event: Event) -> Event:
        changed = rules.change_event(event, options)
        rules.check_models(set(changed.models) - set(event.models), deployed)
        if changed.default_model != event.default_model:
            rules.check_models([changed.default_model], deployed)
        return changed

    return await _change(tables, code, change)


async def _change(tables: Tables, code: str, change: Callable[[Event], Event]) -> Event:
    event = await _find(tables, code)
    changed = await tables.change_event(event.code, change)
    if changed is None:
        raise codes.unknown_event(code)
    return changed
