"""`manage.py attendees`: who takes part, their passes, and exceptions for one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from admin.attendees import text as attendee_text
from admin.attendees.names import named, parse_user, without_its_pass
from admin.attendees.people import Line
from admin.attendees.roster import read_roster
from admin.csv_text import to_csv
from admin.errors import CommandError
from admin.events.text import PLACEHOLDER_URL
from admin.money import BUDGET
from admin.options import LARGEST_LIMIT, Group, Number, as_json, yes
from admin.printing import confirm, deleted_rows, print_list, print_note, print_result
from admin.saving import save
from admin.session import run
from admin.target import find_target, takes_effect
from shared.core.models import BLOCKED, OPEN, OWN_LIMITS
from shared.core.money import amount_text, millionths
from shared.core.texts import plural

_MOST_LINES = 20
_NUMBER = Number(int, 0, LARGEST_LIMIT)
_LIMITS = {
    "--budget-per-day": "cost_per_day",
    "--requests-per-day": "requests_per_day",
    "--tokens-per-day": "tokens_per_day",
}
"""The column for each option of `limit`: all of `OWN_LIMITS`."""
_as_csv = click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")


@click.group(cls=Group, short_help="Import attendees, print their passes, block one, see who takes part.")
def attendees() -> None:
    """Import attendees, print their passes, block one, see who takes part."""


@attendees.command("import", short_help="Add the names of a list, for an event with --access roster.")
@click.argument("code")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@as_json
def import_roster(code: str, file: Path, as_json: bool) -> None:
    """Add the names in FILE: CSV with the columns user, team and note, or one name a line.

    Names that were added before stay. If a name is not valid, nothing is imported, and the message has its
    line. `attendees passes CODE` prints the passes.
    """
    from admin.attendees import actions

    roster = read_roster(file)
    event, added = run(find_target(), lambda tables: actions.add(tables, code, roster.people))
    known = len(roster.people) - added
    notes = []
    if roster.column:
        notes.append(f"The user names are those of the column {roster.column!r}.")
    if roster.repeated:
        shown = ", ".join(map(str, roster.repeated[:_MOST_LINES]))
        more = ", ..." if len(roster.repeated) > _MOST_LINES else ""
        notes.append(f"These lines repeat a name and are left out: {shown}{more}.")
    if event.access == OPEN:
        notes.append(
            "Everyone who knows the event code can still use any name. To require passes, use "
            f"`events update {event.code} --access roster`."
        )
    fields = {"event": event.code, "added": added, "known": known, "repeated_lines": roster.repeated}
    text = f"Added {plural(added, 'attendee')} to event {event.code!r}." + (
        f" Already there: {known:,}." if known else ""
    )
    print_result(fields, as_json, lambda: text, notes)


@attendees.command("passes", short_help="Print the passes, also as a sheet of cards.")
@click.argument("code")
@click.argument("users", nargs=-1, metavar="[USER]...")
@_as_csv
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save a sheet of cards with QR codes, to print on A4 or Letter and cut.",
)
@as_json
def print_passes(code: str, users: tuple[str, ...], as_csv: bool, html: Path | None, as_json: bool) -> None:
    """Print the pass of each attendee whose name is taken, or of each USER.

    A pass is a key: give it only to its person. It stays the same until `attendees release` or `events
    rotate`.
    """
    from admin.attendees import actions

    if as_csv + as_json + (html is not None) > 1:
        raise CommandError("Use only one of --csv, --json and --html.")
    target, names = find_target(), [parse_user(user, code) for user in users]
    event, taken = run(target, lambda tables: actions.taken(tables, code, names))
    fields = [attendee_text.pass_fields(one, event, target.url) for one in taken]
    if target.url is None:
        print_note(
            f"The address {PLACEHOLDER_URL} is a placeholder. Set PROXY_URL in the environment or .env."
        )
    if html is not None:
        from admin.attendees.cards import render

        save(html, render(event, fields))
        click.echo(f"Saved {len(fields):,} cards to {html}. Open it in a browser and print it at 100 %.")
    elif as_csv:
        click.echo(to_csv(list(fields[0]), [list(one.values()) for one in fields]), nl=False)
    elif as_json:
        print_result(fields, as_json, str)
    else:
        print_list(("name", "key"), [(one["user"], one["key"]) for one in fields])


@attendees.command("list", short_help="List who takes part, and what they have used and left.")
@click.argument("code")
@_as_csv
@as_json
def list_attendees(code: str, as_csv: bool, as_json: bool) -> None:
    """List who has started and who has not, when they were last seen, and what they have used and left.

    The numbers are some seconds old.
    """
    from admin.attendees import actions

    if as_csv and as_json:
        raise CommandError("Use only one of --csv and --json.")
    now = datetime.now(UTC)
    event, lines, problems = run(find_target(), lambda tables: actions.people(tables, code, now))
    for problem in problems[:_MOST_LINES]:
        print_note(problem)
    if as_csv:
        click.echo(attendee_text.people_csv(lines), nl=False)
    elif as_json or not lines:
        fields = [attendee_text.to_fields(line) for line in lines]
        print_result(fields, as_json, lambda: f"No one takes part in event {event.code!r} yet.")
    else:
        rows = [attendee_text.row(line, event, now) for line in lines]
        print_list(attendee_text.COLUMNS, rows, numbers=attendee_text.NUMBERS)
        click.echo(_summary(lines))


def _summary(lines: list[Line]) -> str:
    started = sum(line.last_hour is not None for line in lines)
    return f"{started:,} of {len(lines):,} have started."


def _change(code: str, user: str, changes: dict[str, Any], text: str, as_json: bool) -> None:
    from admin.attendees import actions

    name, (event, is_known) = run(
        find_target(),
        named(code, parse_user(user, code), lambda tables, name: actions.change(tables, code, name, changes)),
    )
    fields = {"event": event.code, "user": name, "exceptions": dict(event.exceptions.get(name, {}))}
    notes = [
        f"{option} 0 refuses every request of {name!r}."
        for option, column in _LIMITS.items()
        if changes.get(column) == 0
    ]
    if not is_known:
        notes.append(
            f"{name!r} has no pass, and no call of it is known yet. Is the name right? See `attendees list`."
        )
    done = text.format(repr(name), own=attendee_text.own_limits(event, name))
    print_result(fields, as_json, lambda: f"{done} {takes_effect()}", notes)


@attendees.command("block")
@click.argument("code")
@click.argument("user")
@as_json
def block(code: str, user: str, as_json: bool) -> None:
    """Refuse every request of one attendee. Running requests will finish."""
    _change(code, user, {BLOCKED: True}, "Blocked {}.", as_json)


@attendees.command("unblock")
@click.argument("code")
@click.argument("user")
@as_json
def unblock(code: str, user: str, as_json: bool) -> None:
    """Admit an attendee again."""
    _change(code, user, {BLOCKED: None}, "Unblocked {}.", as_json)


@attendees.command("limit", short_help="Give one attendee higher or lower limits.")
@click.argument("code")
@click.argument("user")
@click.option("--budget-per-day", type=BUDGET, metavar="AMOUNT", help="Money per day for this attendee.")
@click.option("--requests-per-day", type=_NUMBER, metavar="N", help="Requests per day for this attendee.")
@click.option("--tokens-per-day", type=_NUMBER, metavar="N", help="Tokens per day for this attendee.")
@click.option("--as-event", is_flag=True, help="The limits of the event apply again.")
@as_json
def limit(
    code: str,
    user: str,
    budget_per_day: Decimal | None,
    requests_per_day: int | None,
    tokens_per_day: int | None,
    as_event: bool,
    as_json: bool,
) -> None:
    """Give one attendee other limits than the event's.

    What was used today still counts, unless there was no limit for each day before.
    """
    cost = None if budget_per_day is None else millionths(budget_per_day)
    values = (cost, requests_per_day, tokens_per_day)
    given: dict[str, Any] = {
        name: value for name, value in zip(_LIMITS.values(), values, strict=True) if value is not None
    }
    if as_event == bool(given):
        raise CommandError(f"Use some of {', '.join(_LIMITS)}, or --as-event.")
    if as_event:
        _change(code, user, dict.fromkeys(OWN_LIMITS), "The limits of the event apply to {} again.", as_json)
        return
    _change(code, user, given, "Limits of {}: {own}.", as_json)


@attendees.command("reset", short_help="Give one attendee back what was used today.")
@click.argument("code")
@click.argument("user")
@as_json
def reset(code: str, user: str, as_json: bool) -> None:
    """Give one attendee back what was used today. The event's total and the usage keep it."""
    from admin.attendees import actions

    user, now = parse_user(user, code), datetime.now(UTC)
    name, (event, given_back) = run(
        find_target(), named(code, user, lambda tables, name: actions.reset(tables, code, name, now))
    )
    fields = {
        "event": event.code,
        "user": name,
        "requests": given_back.requests,
        "tokens": given_back.tokens,
        "cost": float(amount_text(given_back.cost)),
    }
    print_result(fields, as_json, lambda: attendee_text.given_back(event, name, given_back))


@attendees.command("release", short_help="Free a name, and make its pass void.")
@click.argument("code")
@click.argument("user")
@as_json
def release(code: str, user: str, as_json: bool) -> None:
    """Free a name that was taken by mistake. Its pass becomes void, and its seat free.

    For a new pass of a person on a roster, release the name and import it again.
    """
    from admin.attendees import actions

    user = parse_user(user, code)
    name, event = run(
        find_target(), named(code, user, lambda tables, name: actions.release(tables, code, name))
    )
    text = f"Released {name!r}. Its pass is void, and the name can be taken again. {takes_effect()}"
    print_result({"event": event.code, "user": name}, as_json, lambda: text)


@attendees.command("purge", short_help="Delete every row about one attendee.")
@click.argument("code")
@click.argument("user")
@yes
@as_json
def purge(code: str, user: str, yes: bool, as_json: bool) -> None:
    """Delete every row that names one attendee, also after the event was deleted.

    The report of the event then lacks what they used. The log has only a hash of the name, for 30 days.
    """
    from admin.attendees import actions

    target, user = find_target(), parse_user(user, code)
    name = run(target, lambda tables: without_its_pass(tables, code, user))
    confirm(
        f"Delete everything about {name!r} at event {code!r}? A block, own limits and the seat go too. "
        "This cannot be undone.",
        yes,
    )
    removed = run(target, lambda tables: actions.purge(tables, code, name))
    print_result({"user": name, "removed": removed}, as_json, lambda: deleted_rows(repr(name), removed))
