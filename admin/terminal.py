"""Tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNLIMITED_WIDTH = 10_000
"""For output to a file or a program, which needs every name in full."""


def open_console() -> Console:
    width = None if sys.stdout.isatty() else UNLIMITED_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def build_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Iterable[str] = (),
    footer: Sequence[str] = (),
) -> Table:
    """A table whose columns in `numbers` are aligned right. Markup in names has no effect."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_footer=bool(footer),
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        footer_style="bold",
    )
    numbers = set(numbers)
    for index, name in enumerate(columns):
        is_number = name in numbers
        table.add_column(
            Text(name),
            Text(footer[index]) if footer else "",
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="ellipsis" if is_number else "fold",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def fits(table: Table, console: Console) -> bool:
    unlimited = console.options.update(max_width=UNLIMITED_WIDTH)
    return Measurement.get(console, unlimited, table).maximum <= console.width
