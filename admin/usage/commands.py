"""`manage.py usage`: who used how much."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from admin.faults import Fault
from admin.options import Command, Number, as_json
from admin.printing import console, tell
from admin.session import run
from admin.target import find
from admin.usage import text as usage_text
from admin.usage.summary import BYS, By, summed
from shared.core.models import UTC_ZONE, Deployment, Event, UsageRow
from shared.events.credentials import is_event_code

if TYPE_CHECKING:
    from admin.tables import Tables


EVERY = 5
"""Seconds from one look to the next."""


class Used(NamedTuple):
    """Everything that a report needs."""

    event: Event
    rows: list[UsageRow]
    deployments: list[Deployment]


@click.command("usage", cls=Command, short_help="Who used how much, and what it may cost.")
@click.argument("code")
@click.option("--by", type=click.Choice(BYS), default="user", show_default=True, help="One line for each.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
@click.option("--watch", is_flag=True, help="Look on until Ctrl-C.")
@click.option(
    "--every",
    type=Number(int, 2, 3600),
    metavar="SECONDS",
    help=f"With --watch: how often it looks; {EVERY} unless given.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts to this file."
)
@as_json
def usage(
    code: str, by: By, as_csv: bool, watch: bool, every: int | None, html: Path | None, as_json: bool
) -> None:
    """Tell how much the event CODE used: requests, tokens, refusals and errors, and what it may cost.

    What runs now is counted within some seconds. Refused calls cost nothing. The cost is an estimate: tokens
    times the prices that `deployments add` or `update` was given, in whatever currency they were.

    \b
    For finance:     python3 manage.py usage CODE --by model --csv > usage.csv
    For a report:    python3 manage.py usage CODE --html report.html
    During an event: python3 manage.py usage CODE --watch
    """
    if as_csv + watch + as_json + (html is not None) > 1:
        raise Fault("Give one of --csv, --json, --watch and --html.")
    if every is not None and not watch:
        raise Fault("--every goes with --watch.")
    if html is not None and not html.name:
        raise Fault("--html takes the name of a file.")
    target = find()
    if watch:
        from admin.usage.watch import looked_on

        looked_on(target, code, by, every or EVERY)
        return
    used = run(target, lambda tables: read(tables, code))
    if html is not None:
        _write(html, used)
        return
    summary = summed(used.rows, by, used.event.time_zone, used.deployments)
    if as_csv:
        click.echo(usage_text.as_csv(summary), nl=False)
    elif as_json:
        tell(usage_text.fields(summary, used.event), True, str)
    elif not summary.lines:
        click.echo(f"Nobody has used the event {used.event.code!r} yet.")
    else:
        screen = console()
        screen.print(usage_text.fitting(summary, used.event, screen))
        for remark in usage_text.remarks(summary):
            click.echo(remark)


async def read(tables: Tables, code: str) -> Used:
    """All that is known of the use of an event, also of one that was removed.

    Raises:
        Fault: there is no such event, and never was.
        StoreUnavailable: the tables do not answer.
    """
    known = code.strip().lower()
    event = await tables.event(known) if is_event_code(known) else None
    rows = await tables.usage(known) if is_event_code(known) else []
    if event is None and not rows:
        raise Fault(f"There is no event {code!r}. `manage.py events list` shows those that there are.")
    return Used(event or _removed(known, rows), rows, await tables.deployments())


def _removed(code: str, rows: list[UsageRow]) -> Event:
    first, last = min(row.hour for row in rows), max(row.hour for row in rows)
    return Event(code, code, first, last, active=False, time_zone=UTC_ZONE)


def _write(file: Path, used: Used) -> None:
    """The whole page or nothing: a report that was there stays until the new one is complete."""
    from admin.usage.report import page

    content = page(used.event, used.rows, used.deployments)
    partial = file.with_name(f".{file.name}.new")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise Fault(f"{file} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    click.echo(f"The report is in {file}: open it with any browser.")
