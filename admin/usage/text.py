"""A summary of usage as JSON, as CSV and on a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from admin.terminal import build_table, fits, open_console
from admin.usage.summary import NO_MODEL, OTHER_USERS, By, Summary, SummaryRow
from shared.core.models import Event

_SMALLEST_COST = Decimal("0.0001")
_HOW_TO_PRICE = "To set one, use `deployments update MODEL DEPLOYMENT --prompt-price P --completion-price P`."
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""The beginning of a formula in a spreadsheet (OWASP, "CSV Injection")."""

_HIDDEN_COLUMNS = ((), ("prompt", "completion"), ("prompt", "completion", "refused", "errors"))
"""The columns to hide on a narrow terminal: the first that is enough."""


def to_fields(summary: Summary, event: Event) -> dict[str, Any]:
    """For JSON."""
    return {
        "event": event.code,
        "by": summary.by,
        "time_zone": event.time_zone.key,
        "rows": [{summary.by: row.key} | _numbers(row) for row in summary.rows],
        "total": _numbers(summary.total),
        "models_without_price": summary.unpriced,
    }


def _numbers(row: SummaryRow) -> dict[str, Any]:
    counts = row.counts
    return {
        "requests": counts.requests,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": row.tokens,
        "refusals": counts.refusals,
        "errors": counts.errors,
        "cost": None if row.cost is None else float(row.cost),
        "tokens_without_price": row.unpriced_tokens,
    }


def to_csv(summary: Summary) -> str:
    """There is no row of totals, so that a spreadsheet can sum the columns."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([summary.by, *_numbers(summary.total)])
    for row in summary.rows:
        numbers = _numbers(row) | {"cost": "" if row.cost is None else f"{row.cost.normalize():f}"}
        writer.writerow([_escape_formula(label(summary.by, row.key)), *numbers.values()])
    return file.getvalue()


def _escape_formula(name: str) -> str:
    """Attendees choose their names: a spreadsheet must not run a name such as `=1+1`."""
    return f"'{name}" if name.startswith(_FORMULAS) else name


def print_summary(summary: Summary, event: Event) -> None:
    console = open_console()
    console.print(fitting_table(summary, event, console))
    for remark in remarks(summary):
        click.echo(remark)


def fitting_table(summary: Summary, event: Event, console: Console, most: int | None = None) -> Table:
    """A table with as many columns as fit, so that no name is cut.

    With `most`, it has only that number of rows: the first ones, or the last hours.
    """
    for hidden in _HIDDEN_COLUMNS:
        table = _table(summary, event, most, hidden)
        if fits(table, console):
            break
    return table


def _table(summary: Summary, event: Event, most: int | None, hidden: Sequence[str]) -> Table:
    rows = summary.rows
    if most is not None and len(rows) > most:
        rows = rows[-most:] if summary.by == "hour" else rows[:most]
    first_column = f"hour ({event.time_zone.key})" if summary.by == "hour" else summary.by
    total = _cells(first_column, summary.total, summary.by)
    if summary.total.cost is None:
        hidden = (*hidden, "cost")
    columns = [name for name in total if name not in hidden]
    cells = [_cells(first_column, row, summary.by) for row in rows]
    return build_table(
        columns,
        [[row[name] for name in columns] for row in cells],
        numbers=columns[1:],
        footer=[total[name] for name in columns],
    )


def _cells(first_column: str, row: SummaryRow, by: By) -> dict[str, str]:
    counts = row.counts
    return {
        first_column: label(by, row.key),
        "requests": f"{counts.requests:,}",
        "prompt": f"{counts.prompt_tokens:,}",
        "completion": f"{counts.completion_tokens:,}",
        "tokens": f"{row.tokens:,}",
        "refused": f"{counts.refusals:,}",
        "errors": f"{counts.errors:,}",
        "cost": cost(row),
    }


def label(by: By, key: str) -> str:
    """The name of a row for people; `SummaryRow.key` says when it is empty."""
    return key or {"model": NO_MODEL, "user": OTHER_USERS, "hour": ""}[by]


def cost(row: SummaryRow) -> str:
    """With a star if some tokens have no price."""
    star = "*" if row.unpriced_tokens else ""
    return "-" if row.cost is None else f"{_format_money(row.cost)}{star}"


def _format_money(amount: Decimal) -> str:
    if 0 < amount < _SMALLEST_COST:
        return f"<{_SMALLEST_COST}"
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def remarks(summary: Summary) -> list[str]:
    """What the reader needs to know about the cost."""
    found = []
    unpriced, several = ", ".join(summary.unpriced), ", ".join(summary.several_prices)
    if unpriced and summary.total.cost is None:
        found.append(f"No cost: no price set for {unpriced}. {_HOW_TO_PRICE}")
    elif unpriced:
        found.append(f"* Excludes {unpriced}: no price set. {_HOW_TO_PRICE}")
    if several:
        found.append(f"The deployments of {several} have different prices. The cost uses the highest.")
    return found
