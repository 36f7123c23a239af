"""Prints results, notes and questions. JSON is for programs, text for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

from admin.errors import CommandError


def print_result(fields: Any, as_json: bool, text: Callable[[], str], notes: Iterable[str] = ()) -> None:
    """Print `fields` as JSON, or `text()`.

    The notes follow the text, so that a copy of the text has them. JSON is for programs: notes go to
    standard error.
    """
    click.echo(json.dumps(fields, ensure_ascii=False) if as_json else text())
    for note in notes:
        click.echo(f"Note: {note}", err=as_json)


def print_note(text: str) -> None:
    """Print a note to standard error, so that it is not part of the result."""
    click.echo(f"Note: {text}", err=True)


def print_list(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[str] = ()) -> None:
    """Print a table, or each row over several lines if the terminal is too narrow. Nothing is cut."""
    from admin.terminal import build_table, fits, open_console

    console, table = open_console(), build_table(columns, rows, numbers=numbers)
    if fits(table, console):
        console.print(table)
        return
    width = max(len(name) for name in columns[1:])
    for first, *others in rows:
        click.echo(f"\n{first}")
        for name, value in zip(columns[1:], others, strict=True):
            click.echo(f"  {name:{width}}  {value}")


def deleted_rows(owner: str, removed: Mapping[str, int]) -> str:
    """What a purge has deleted, by table."""
    if not any(removed.values()):
        return f"No table has a row of {owner}. Nothing is deleted. Is the name right?"
    rows = ", ".join(f"{count:,} in {table}" for table, count in removed.items())
    return f"Deleted the rows of {owner}: {rows}."


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation, unless `yes`. Raises CommandError if the user does not confirm."""
    if yes:
        return
    try:
        confirmed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # end the line of the question
        raise CommandError("Cancelled. In scripts, use --yes.") from None
    if not confirmed:
        raise CommandError("Cancelled.")
