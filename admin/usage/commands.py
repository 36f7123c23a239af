"""`manage.py usage`: how much an event used."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from admin.errors import CommandError
from admin.options import Number, as_json
from admin.printing import print_result
from admin.session import run
from admin.target import find_target
from admin.usage.event_usage import EventUsage, read_usage
from admin.usage.summary import BYS, By, summarize

EVERY = 5
"""Seconds between two refreshes of `--watch`."""


@click.command("usage", short_help="Show how much an event used, and what it may cost.")
@click.argument("code")
@click.option("--by", type=click.Choice(BYS), default="user", show_default=True, help="One row for each.")
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
    code: str, by: By, as_csv: bool, watch: bool, every: int | None, html: Path | None, as_json: bool
) -> None:
    """Show how much an event used: requests, tokens, refused requests, errors and cost.

    The numbers are some seconds old. Refused requests cost nothing. The cost is an estimate from the prices
    that you gave to `deployments add` or `deployments update`, in the same currency.

    \b
    For finance:     python3 manage.py usage CODE --by model --csv > usage.csv
    For a report:    python3 manage.py usage CODE --html report.html
    During an event: python3 manage.py usage CODE --watch
    """
    if as_csv + watch + as_json + (html is not None) > 1:
        raise CommandError("Use only one of --csv, --json, --watch and --html.")
    if every is not None and not watch:
        raise CommandError("--every needs --watch.")
    if html is not None and not html.name:
        raise CommandError("--html needs the name of a file.")
    target = find_target()
    if watch:
        from admin.usage.watch import watch_usage

        watch_usage(target, code, by, every or EVERY)
        return
    used = run(target, lambda tables: read_usage(tables, code))
    if html is not None:
        _save_report(html, used)
    else:
        _print(used, by, as_csv=as_csv, as_json=as_json)


def _print(used: EventUsage, by: By, *, as_csv: bool, as_json: bool) -> None:
    from admin.usage import text as usage_text

    summary = summarize(used.rows, by, used.event.time_zone, used.deployments)
    if as_csv:
        click.echo(usage_text.to_csv(summary), nl=False)
    elif as_json or not summary.rows:
        fields = usage_text.to_fields(summary, used.event)
        print_result(fields, as_json, lambda: f"No usage yet for event {used.event.code!r}.")
    else:
        usage_text.print_summary(summary, used.event)


def _save_report(file: Path, used: EventUsage) -> None:
    """Replace the file only when the new report is complete."""
    from admin.usage.report import render

    content = render(used.event, used.rows, used.deployments)
    partial = file.with_name(f".{file.name}.new")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        raise CommandError(f"Cannot write {file}: {error.strerror or error}. Use another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    click.echo(f"Saved the report to {file}. Open it in a browser.")
