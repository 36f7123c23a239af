"""A summary of usage as JSON, as CSV and on a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from admin.csv_text import escape_formula
from admin.terminal import build_table, fits, open_console
from admin.usage.summary import NO_MODEL, OTHER_USERS, By, Summary, SummaryRow
from shared.core.models import Event
from shared.core.money import MILLION, money_text
from shared.core.times import with_date

_SMALLEST_COST = Decimal("0.0001")
_HOW_TO_PRICE = "To set one, use `deployments update MODEL DEPLOYMENT --prompt-price P --completion-price P`."

_HIDDEN_COLUMNS = ((), ("prompt", "completion"), ("prompt", "completion", "refused", "errors"))
"""The columns to hide on a narrow terminal: the first that is enough."""


def to_fields(summary: Summary, event: Event) -> dict[str, Any]:
    """For JSON."""
    return {
        "event": event.code,
        "by": summary.by,
        "time_zone": event.time_zone.key,
        "currency": event.currency,
        "cost_is_estimate": not summary.is_charged,
        "budget": _in_units(event.cost_total),
        "budget_per_day": _in_units(event.cost_per_day),
        "rows": [{summary.by: row.key} | _numbers(row) for row in summary.rows],
        "total": _numbers(summary.total),
        "models_without_price": summary.unpriced,
    }


def _in_units(cost: int | None) -> float | None:
    return None if cost is None else cost / MILLION


def _numbers(row: SummaryRow) -> dict[str, Any]:
    counts = row.counts
    return {
        "cost": None if row.cost is None else float(row.cost),
        "requests": counts.requests,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": row.tokens,
        "refusals": counts.refusals,
        "errors": counts.errors,
        "cached_tokens": counts.cached_tokens,
        "tokens_without_price": row.unpriced_tokens,
    }


def to_csv(summary: Summary, currency: str) -> str:
    """There is no row of totals, so that a spreadsheet can sum the columns."""
    kind = "charged" if summary.is_charged else "estimate"
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([summary.by, *_csv_columns(_numbers(summary.total), currency, kind)])
    for row in summary.rows:
        numbers = _numbers(row) | {"cost": "" if row.cost is None else f"{row.cost.normalize():f}"}
        key = row.key or label(summary.by, row.key)
        writer.writerow([escape_formula(key), *_csv_columns(numbers, currency, kind).values()])
    return file.getvalue()


def _csv_columns(numbers: dict[str, Any], currency: str, kind: str) -> dict[str, Any]:
    """Money first. Each row says its currency, and whether the cost is exact."""
    return {"cost": numbers["cost"], "currency": currency, "cost_is": kind} | numbers


def print_summary(summary: Summary, event: Event) -> None:
    console = open_console()
    for line in money(summary, event):
        click.echo(line)
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
    title = summary.cost_title
    total = _cells(first_column, "total", summary.total, title)
    if summary.total.cost is None:
        hidden = (*hidden, title)
    columns = [name for name in total if name not in hidden]
    cells = [_cells(first_column, label(summary.by, row.key), row, title) for row in rows]
    return build_table(
        columns,
        [[row[name] for name in columns] for row in cells],
        numbers=columns[1:],
        footer=[total[name] for name in columns],
    )


def _cells(first_column: str, name: str, row: SummaryRow, cost_title: str) -> dict[str, str]:
    counts = row.counts
    return {
        first_column: name,
        cost_title: cost(row),
        "requests": f"{counts.requests:,}",
        "prompt": f"{counts.prompt_tokens:,}",
        "completion": f"{counts.completion_tokens:,}",
        "tokens": f"{row.tokens:,}",
        "refused": f"{counts.refusals:,}",
        "errors": f"{counts.errors:,}",
    }


def label(by: By, key: str) -> str:
    """The name of a row for people; `SummaryRow.key` says when it is empty."""
    if by == "hour":
        length = len("2026-12-01 09:00")
        return with_date(datetime.fromisoformat(key[:length])) + key[length:]
    return key or {"model": NO_MODEL, "user": OTHER_USERS}[by]


def cost(row: SummaryRow) -> str:
    """With a star if some tokens have no price."""
    star = "*" if row.unpriced_tokens else ""
    return "-" if row.cost is None else f"{_format_money(row.cost)}{star}"


def _format_money(amount: Decimal) -> str:
    if 0 < amount < _SMALLEST_COST:
        return f"<{_SMALLEST_COST}"
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def money(summary: Summary, event: Event) -> list[str]:
    """What the event has spent of its budget, and what is left. Empty without a budget."""
    if not event.has_budget:
        return []
    spent, currency = summary.total.counts.cost, event.currency
    if event.cost_total is None:
        lines = [f"Spent: {money_text(spent, currency)}."]
    else:
        left = max(0, event.cost_total - spent)
        lines = [
            f"Spent: {money_text(spent, currency)} of {money_text(event.cost_total, currency)}. "
            f"Left: {money_text(left, currency)}."
        ]
    if event.cost_per_day is not None:
        lines.append(f"Each attendee has {money_text(event.cost_per_day, currency)} per day.")
    return lines


def remarks(summary: Summary, *, advice: bool = True) -> list[str]:
    """What the reader needs to know about the cost, with the command that helps unless `advice` is false."""
    found, how = [], f" {_HOW_TO_PRICE}" if advice else ""
    unpriced, several = ", ".join(summary.unpriced), ", ".join(summary.several_prices)
    if unpriced and summary.total.cost is None:
        found.append(f"No cost: no price set for {unpriced}.{how}")
    elif unpriced:
        found.append(f"* Excludes {unpriced}: no price set.{how}")
    if several:
        found.append(f"The deployments of {several} have different prices. The cost uses the highest.")
    return found
