"""`manage.py backup` and `manage.py restore`."""

from __future__ import annotations

from pathlib import Path

import click

from admin.errors import CommandError
from admin.session import run
from admin.target import find_target, takes_effect

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("backup", short_help="Save all tables to a file.")
@click.argument("file", type=_FILE)
def backup(file: Path) -> None:
    """Save every row of the tables to FILE, as JSON lines.

    Stop the events a minute before, so that the instances have written everything. The file contains event
    codes and user names: keep it like a password.
    """
    from admin.backup.copying import back_up

    if file.suffix != ".jsonl":
        raise CommandError(
            "Use a name that ends with .jsonl, such as spring.jsonl: git and azd skip such files."
        )
    counts = run(find_target(), lambda tables: back_up(tables, file))
    click.echo("".join(f"{table:<12}{rows:>10,}\n" for table, rows in counts.items()), nl=False)
    click.echo(
        f"Saved {sum(counts.values()):,} rows to {file}. Keep it like a password: it has event codes, user "
        "names and the secrets of passes."
    )


@click.command("restore", short_help="Fill empty tables from a backup.")
@click.argument("file", type=_FILE)
def restore(file: Path) -> None:
    """Fill empty tables with the rows of a backup.

    Tables that have other rows are refused. If the command is interrupted, run it again: it continues.
    """
    from admin.backup.copying import restore as restore_rows
    from admin.backup.file import read_backup

    rows = read_backup(file)
    written = run(find_target(), lambda tables: restore_rows(tables, rows))
    known = f" {len(rows) - written:,} rows were already there." if written < len(rows) else ""
    click.echo(f"Restored {written:,} rows from {file}.{known} {takes_effect()}")
    click.echo("Check the addresses of the deployments: `python3 manage.py deployments list`.")
