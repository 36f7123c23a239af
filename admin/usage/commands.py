"""`manage.py usage`: how much an event used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from admin.errors import CommandError
from admin.options import Number, as_json
from admin.printing import print_note, print_result
from admin.saving import save
from admin.session import run
from admin.target import find_target
from admin.usage.event_usage import EventUsage, read_usage
from admin.usage.summary import BYS, SORTS, By, Sort, summarize

EVERY = 5
"""Seconds between two refreshes of `--watch`."""
MOST_PROBLEMS = 10
"""Rows that cannot be read, and are named."""


@click.command("usage", short_help="Show what an event cost and used.")
@click.argument("code")
@click.option("--by", type=click.Choice(BYS), default="user", show_default=True, help="One row for each.")
@click.option("--sort", type=click.Choice(SORTS), help="Those with the most of it come first.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@click.option("--watch", is_flag=True, help="Refresh until you press Ctrl-C.")
@click.option(
    "--every",
    type=Number(int, 2, 3600),
    metavar="SECONDS",
    help=f"Time between refreshes with --watch. Default: {EVERY}.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Save a report with charts.")
@as_json
def usage(
    code: str,
    by: By,
    sort: Sort | None,
    every: int | None,
    html: Path | None,
    **formats: bool,
) -> None:
    """Show what an event cost, and its requests, tokens, refused requests and errors.

    The numbers are some seconds old. Refused requests cost nothing. In an event with a budget, the cost is
    what was charged, at the prices of that time. In others it is an estimate from today's prices.

    \b
    For finance:     python3 manage.py usage CODE --by model --csv > usage.csv
    For a report:    python3 manage.py usage CODE --html report.html
    During an event: python3 manage.py usage CODE --watch
    Who is stuck:    python3 manage.py usage CODE --sort refused
    """
    watch = formats["watch"]
    if sum(formats.values()) + (html is not None) > 1:
        raise CommandError("Use only one of --csv, --json, --watch and --html.")
    if every is not None and not watch:
        raise CommandError("--every needs --watch.")
    if html is not None and not html.name:
        raise CommandError("--html needs the name of a file.")
    target = find_target()
    if watch:
        from admin.usage.watch import watch_usage

        watch_usage(target, code, by, every or EVERY, sort)
        return
    used = run(target, lambda tables: read_usage(tables, code))
    _print_problems(used.problems)
    if html is not None:
        _save_report(html, used)
    else:
        _print(used, by, sort, as_csv=formats["as_csv"], as_json=formats["as_json"])


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems[:MOST_PROBLEMS]:
        print_note(problem)
    if (others := len(problems) - MOST_PROBLEMS) > 0:
        print_note(f"{others} more rows cannot be read and are left out.")


def _print(used: EventUsage, by: By, sort: Sort | None, *, as_csv: bool, as_json: bool) -> None:
    from admin.usage import text as usage_text

    event = used.event
    summary = summarize(
        used.rows, by, event.time_zone, used.deployments, is_charged=event.has_budget, sort=sort
    )
    if as_csv:
        click.echo(usage_text.to_csv(summary, event.currency), nl=False)
    elif as_json or not summary.rows:
        fields = usage_text.to_fields(summary, used.event)
        print_result(fields, as_json, lambda: f"No usage yet for event {used.event.code!r}.")
    else:
        usage_text.print_summary(summary, used.event)


def _save_report(file: Path, used: EventUsage) -> None:
    from admin.usage.report import render

    save(file, render(used.event, used.rows, used.deployments))
    click.echo(f"Saved the report to {file}. Open it in a browser.")
