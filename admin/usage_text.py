"""A summary of usage for programs, spreadsheets and terminals."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from admin.printing import table
from admin.summary import NO_MODEL, Line, Summary
from shared.models import Event

if TYPE_CHECKING:
    from rich.table import Table

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of one (OWASP, "CSV Injection")."""


def fields(summary: Summary, event: Event) -> dict[str, Any]:
    """For JSON."""
    return {
        "event": event.code,
        "by": summary.by,
        "time_zone": event.time_zone.key,
        "rows": [{summary.by: line.key} | _numbers(line) for line in summary.lines],
        "total": _numbers(summary.total),
        "models_without_price": summary.unpriced,
    }


def _numbers(line: Line) -> dict[str, Any]:
    counts = line.counts
    return {
        "requests": counts.requests,
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": line.tokens,
        "refusals": counts.refusals,
        "errors": counts.errors,
        "cost": None if line.cost is None else float(line.cost),
        "tokens_without_price": line.unpriced_tokens,
    }


def as_csv(summary: Summary) -> str:
    """A header and a row for each line; no row of totals, so that a column can be summed."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([summary.by, *_numbers(summary.total)])
    for line in summary.lines:
        numbers = _numbers(line) | {"cost": "" if line.cost is None else f"{line.cost:.6f}"}
        writer.writerow([_harmless(line.key), *numbers.values()])
    return file.getvalue()


def _harmless(text: str) -> str:
    """Anybody can choose a name such as `=1+1`: a spreadsheet shows it, and does not work it out."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def as_table(summary: Summary, event: Event, most: int | None = None) -> Table:
    """For a terminal; with `most`, the first so many lines: the last, where they are hours."""
    heading = f"hour ({event.time_zone.key})" if summary.by == "hour" else summary.by
    has_cost = summary.total.cost is not None
    columns = [heading, *("requests", "prompt", "completion", "tokens", "refused", "errors")]
    shown = summary.lines if most is None else _first(summary, most)
    rows = [_cells(line, has_cost) for line in shown]
    footer = _cells(summary.total, has_cost)
    return table(
        [*columns, *(["cost"] if has_cost else [])],
        rows,
        numbers=[*columns[1:], "cost"],
        footer=footer,
    )


def _first(summary: Summary, most: int) -> list[Line]:
    return summary.lines[-most:] if summary.by == "hour" else summary.lines[:most]


def _cells(line: Line, has_cost: bool) -> list[str]:
    counts = line.counts
    numbers = (
        *(counts.requests, counts.prompt_tokens, counts.completion_tokens, line.tokens),
        *(counts.refusals, counts.errors),
    )
    return [line.key or NO_MODEL, *(f"{number:,}" for number in numbers), *([cost(line)] if has_cost else [])]


def cost(line: Line) -> str:
    """To a cent, or finer where it is less; with a star where tokens have no price."""
    star = "*" if line.unpriced_tokens else ""
    return "-" if line.cost is None else f"{_money(line.cost)}{star}"


def _money(amount: Decimal) -> str:
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def remarks(summary: Summary) -> list[str]:
    """What the figures leave open, in sentences."""
    told = []
    if summary.total.cost is not None and summary.unpriced:
        told.append(f"* without {', '.join(summary.unpriced)}, which has no price (`deployments add` gives one).")
    elif summary.unpriced:
        told.append(
            f"No cost is shown: {', '.join(summary.unpriced)} has no price. `manage.py deployments add ... "
            "--prompt-price P --completion-price P` gives one."
        )
    if summary.estimated_from_above:
        told.append(
            f"The deployments of {', '.join(summary.estimated_from_above)} differ in price: the highest counts."
        )
    return told
