"""How answers are printed: JSON for programs, tables and sentences for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from admin.faults import Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 10_000
"""Where no terminal limits the line: a program or a file is to see every name whole."""


def tell(fields: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print `fields` as JSON, or `text()`."""
    click.echo(json.dumps(fields, ensure_ascii=False) if as_json else text())


def note(text: str) -> None:
    """Something to know that is no part of the answer: on standard error."""
    click.echo(f"Note: {text}", err=True)


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone.

    Raises:
        Fault: the answer is not yes, or there is nobody to give one.
    """
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)  # the question stands there without an answer
        raise Fault("Nothing was changed: nobody agreed. Give --yes where nobody can be asked.") from None
    if not agreed:
        raise Fault("Nothing was changed.")


def console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDE
    return Console(highlight=False, markup=False, emoji=False, width=width)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[str] = (),
    footer: Sequence[str] = (),
) -> Table:
    """Columns that `numbers` names stand to the right. Names are shown as they are: no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    made = Table(
        box=box.SIMPLE_HEAD,
        show_footer=bool(footer),
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        footer_style="bold",
    )
    for number, name in enumerate(columns):
        is_number = name in right
        made.add_column(
            Text(name),
            Text(footer[number]) if footer else "",
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="ellipsis" if is_number else "fold",
        )
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def listed(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[str] = ()) -> None:
    """A table; where the terminal is too narrow for it, one row below the other, so that no name is cut."""
    screen, made = console(), table(columns, rows, numbers=numbers)
    if fits(made, screen):
        screen.print(made)
        return
    width = max(len(name) for name in columns[1:])
    for first, *others in rows:
        click.echo(f"\n{first}")
        for name, value in zip(columns[1:], others, strict=True):
            click.echo(f"  {name:{width}}  {value}")


def fits(made: Table, screen: Console) -> bool:
    from rich.measure import Measurement

    wide = screen.options.update(max_width=WIDE)
    return Measurement.get(screen, wide, made).maximum <= screen.width
