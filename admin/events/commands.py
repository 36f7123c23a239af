"""`manage.py events`: create, change and list events."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import click

from admin.errors import CommandError
from admin.events import codes, notes, rules
from admin.events import text as event_text
from admin.events.check import check_event
from admin.events.handout import print_handout
from admin.events.lifecycle import copy_event, delete_event, purge_event, rename_event, rotate_event
from admin.events.rehearse import rehearse_event
from admin.events.totals import Change, counted
from admin.money import CURRENCY
from admin.options import (
    BUDGETS,
    LARGEST_LIMIT,
    Group,
    Number,
    as_json,
    limits,
    option_name,
)
from admin.printing import print_list, print_note, print_result
from admin.session import run
from admin.target import cache_time, find_target, takes_effect
from shared.core.ids import new_secret
from shared.core.models import ACCESS, DEFAULT_CURRENCY, LIMITS, OPEN, Deployment, Event

if TYPE_CHECKING:
    from admin.tables import Tables

_NAME = "Name of the event."
_STARTS = 'Start, such as "2026-12-01 09:00" in the event\'s time zone, or now.'
_ENDS = "End, in the same form. A date without a time includes that whole day."
_ZONE = "Time zone, such as Europe/Berlin."
_ORGANIZER = "Contact for attendees."
_TOOLS = "Hosted tools of the Responses API to allow, such as web_search. They cost extra."
_CURRENCY = "Currency of the budgets: that of the deployments' prices."
_STORED = "Whether Azure may store responses, for 30 days."
_ACCESS = (
    "Who can use a name: everyone who knows the event code (open), the first who takes it on the page "
    "(claim), or the people on your list (roster)."
)
_SEATS = Number(int, 0, LARGEST_LIMIT)
_SEATS_HELP = "The most names that can be taken, with --access claim."
_NOT_STORED = "Azure stores no responses. Default: it stores them for 30 days, unless the client says no."


@click.group(cls=Group, short_help="Create, change and list events.")
def events() -> None:
    """Create, change and list events."""


for _command in (
    check_event,
    rehearse_event,
    print_handout,
    rotate_event,
    rename_event,
    copy_event,
    delete_event,
    purge_event,
):
    events.add_command(_command)


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
@click.option(
    "--currency", type=CURRENCY, default=DEFAULT_CURRENCY, show_default=True, metavar="CODE", help=_CURRENCY
)
@click.option("--tools", default="", metavar="A,B", help=f"{_TOOLS} Default: none.")
@click.option("--no-stored-responses", "store_responses", flag_value=False, default=True, help=_NOT_STORED)
@click.option("--access", type=click.Choice(ACCESS), default=OPEN, show_default=True, help=_ACCESS)
@click.option("--seats", type=_SEATS, metavar="N", help=_SEATS_HELP)
@as_json
def create_event(code: str | None, as_json: bool, **options: Any) -> None:
    """Create an event. Attendees use CODE/THEIR-GITHUB-NAME as their API key.

    Without CODE, the command makes up a code that is easy to say and hard to guess. Everyone who knows the
    code can use the event.

    \b
    Example:
      python3 manage.py events create --name "Winter Hack" --starts "2026-12-01 09:00" \\
              --ends "2026-12-03 18:00" --time-zone Europe/Berlin --models gpt-4o \\
              --budget 200 --budget-per-day 2 --max-output-tokens 4000
    """
    event = rules.new_event(codes.generate_code() if code is None else codes.parse_code(code), **options)
    rules.check_not_over(event, datetime.now(UTC))
    target = find_target()
    deployments = run(target, lambda tables: _add(tables, event))
    fields = event_text.to_fields(event) | event_text.links(event, target.url)
    found = notes.for_new_event(event, target.url, deployments, datetime.now(UTC))
    print_result(fields, as_json, lambda: event_text.invitation(event, target.url, deployments), found)


async def _add(tables: Tables, event: Event) -> list[Deployment]:
    """Add the event, and return the deployments."""
    deployments = await tables.deployments()
    deployed = {deployment.model for deployment in deployments}
    rules.check_budget(event, deployments)
    rules.check_models((*event.models, event.default_model), deployed)
    rules.check_default_model(event)
    await codes.add(tables, event)
    return deployments


@events.command("list")
@as_json
def list_events(as_json: bool) -> None:
    """List the events. Running and future events come first."""
    found, bad = run(find_target(), lambda tables: tables.events())
    for row in bad:
        print_note(row.message)
    now = datetime.now(UTC)
    found.sort(key=lambda event: (event.ends_at < now, abs(event.ends_at - now), event.code))
    if as_json or not (found or bad):
        fields = [event_text.to_fields(event) for event in found]
        print_result(fields, as_json, lambda: "No events. To create one, use `events create`.")
        return
    rows = [
        (
            event.code,
            event.name,
            event_text.state(event, now),
            event_text.period(event),
            event_text.budgets(event),
        )
        for event in found
    ]
    print_list(("code", "name", "state", "dates", "budget"), rows)


@events.command("show")
@click.argument("code")
@as_json
def show_event(code: str, as_json: bool) -> None:
    """Show an event with its dates, models and limits."""
    event = run(find_target(), lambda tables: codes.find_event(tables, code))
    if not isinstance(event, Event):
        bad = event
        print_result(bad.fields, as_json, lambda: event_text.bad_details(bad))
        return
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
    type=click.Choice([option_name(name)[2:] for name in (*BUDGETS, *LIMITS, "seats")]),
    metavar="LIMIT",
    help="Remove a limit, such as budget or requests-per-day. You can repeat this option.",
)
@click.option("--currency", type=CURRENCY, metavar="CODE", help=_CURRENCY)
@click.option("--tools", metavar="A,B", help=f'{_TOOLS} "" means none.')
@click.option("--stored-responses/--no-stored-responses", "store_responses", default=None, help=_STORED)
@click.option("--access", type=click.Choice(ACCESS), help=_ACCESS)
@click.option("--seats", type=_SEATS, metavar="N", help=_SEATS_HELP)
@click.option(
    "--no-exceptions",
    "exceptions",
    is_flag=True,
    help="Remove the blocks and limits of single attendees. A pass that is void stays void.",
)
@click.option("--extend", metavar="TIME", help="End the event later, by a time such as 1h or 30m.")
@click.option("--resume", is_flag=True, help="Reopen the event after `events stop`.")
@as_json
def update_event(code: str, as_json: bool, **options: Any) -> None:
    """Change an event, also while it runs. Everything that you do not name stays as it is.

    Several organisers can change an event at the same time. No change is lost.
    """
    if not rules.replaced_columns(options):
        raise CommandError("Nothing to change. Use an option, such as --ends or --requests-per-day.")
    if options["ends"] is not None and options["extend"] is not None:
        raise CommandError("Use --ends or --extend, not both.")
    if options["default_model"] is not None and options["no_default_model"]:
        raise CommandError("Use --default-model or --no-default-model, not both.")
    change = run(find_target(), lambda tables: _update(tables, code, options))
    event = change.after
    text = f"Updated event {event.code!r}. {takes_effect()}"
    found = notes.for_changed_event(change, options, datetime.now(UTC))
    print_result(event_text.to_fields(event), as_json, lambda: text, found)


@events.command("desk", short_help="Print the link to an event's desk.")
@click.argument("code")
@click.option("--new", is_flag=True, help="Make a new link. The old one stops working within seconds.")
@as_json
def show_desk(code: str, new: bool, as_json: bool) -> None:
    """Print the link to the desk: a page to watch and steer an event, also on a phone.

    Everyone who has the link can change the event. If a stranger has it, use --new.
    """
    target = find_target()

    def change(event: Event) -> Event:
        return event if event.desk_secret and not new else replace(event, desk_secret=new_secret())

    event = run(target, lambda tables: _change(tables, code, change, {"desk_secret"} if new else ()))
    print_result(
        event_text.links(event, target.url), as_json, lambda: event_text.desk_link(event, target.url)
    )


@events.command("stop")
@click.argument("code")
@as_json
def stop_event(code: str, as_json: bool) -> None:
    """Close an event now. To reopen it, use `events update CODE --resume`."""
    event = run(find_target(), lambda tables: _stop(tables, code))
    text = (
        f"Stopped event {event.code!r}. New requests are refused within {cache_time()}. "
        "Running requests will finish.\n"
        f"To reopen it, use `manage.py events update {event.code} --resume`."
    )
    print_result(event_text.to_fields(event), as_json, lambda: text)


async def _stop(tables: Tables, code: str) -> Event:
    return await _change(tables, code, lambda event: replace(event, active=False), {"active"})


async def _update(tables: Tables, code: str, options: dict[str, Any]) -> Change:
    deployments = await tables.deployments()
    deployed = {deployment.model for deployment in deployments}
    found = await codes.find_event(tables, code)
    is_unknown = not isinstance(found, Event) and "exceptions" in found.problems
    spent = 0 if options["currency"] is None else await _spent(tables, codes.ledger_code(found, code))

    def change(event: Event) -> Event:
        changed = rules.change_event(event, options)
        if is_unknown:
            changed = replace(changed, pass_secret=new_secret())
        rules.check_currency(event, changed, options, spent)
        if any(options[name] is not None for name in (*BUDGETS, "models", "currency", "tools")):
            rules.check_budget(changed, deployments)
        rules.check_models(set(changed.models) - set(event.models), deployed)
        if changed.default_model != event.default_model:
            rules.check_models([changed.default_model], deployed)
        rules.check_default_model(changed)
        return changed

    replaced = rules.replaced_columns(options)
    before = found if isinstance(found, Event) else cast("Event", found.corrected(replaced))
    planned = await counted(tables, Change(before, change(before), is_unknown), options)
    return planned._replace(after=await _change(tables, code, change, replaced))


async def _spent(tables: Tables, ledger_code: str) -> int:
    return sum(row.counts.cost for row in (await tables.read_usage(ledger_code))[0])


async def _change(
    tables: Tables, code: str, change: Callable[[Event], Event], replaced: Collection[str]
) -> Event:
    """The columns `replaced`, which `change` sets, may be unreadable."""
    event = await codes.find_event(tables, code)
    if not isinstance(event, Event):
        event = cast("Event", event.corrected(replaced))
    changed = await tables.change_event(event.code, change, replaced)
    if changed is None:
        raise codes.unknown_event(code)
    return changed
