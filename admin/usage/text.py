"""A summary of usage for programs, spreadsheets and terminals."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from admin.printing import fits, table
from admin.usage.summary import NO_MODEL, OTHER_USERS, By, Line, Summary
from shared.core.models import Event

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SMALLEST = Decimal("0.0001")
_HOW_TO_PRICE = "`deployments update MODEL DEPLOYMENT --prompt-price P --completion-price P` gives one."
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
        numbers = _numbers(line) | {"cost": "" if line.cost is None else f"{line.cost.normalize():f}"}
        writer.writerow([_harmless(label(summary.by, line.key)), *numbers.values()])
    return file.getvalue()


def _harmless(text: str) -> str:
    """Anybody can choose a name such as `=1+1`: a spreadsheet shows it, and does not work it out."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def fitting(summary: Summary, event: Event, screen: Console, most: int | None = None) -> Table:
    """For a terminal: where it is too narrow, without some columns, so that no name is cut.

    With `most`, the first so many lines: the last, where they are hours.
    """
    made = _table(summary, event, most, ())
    for without in _IN_A_NARROW_PLACE:
        if fits(made, screen):
            break
        made = _table(summary, event, most, without)
    return made


_IN_A_NARROW_PLACE = (("prompt", "completion"), ("prompt", "completion", "refused", "errors"))


def _table(summary: Summary, event: Event, most: int | None, without: Sequence[str]) -> Table:
    first, last = 0, len(summary.lines)
    if most is not None and last > most:
        first, last = (last - most, last) if summary.by == "hour" else (0, most)
    key = f"hour ({event.time_zone.key})" if summary.by == "hour" else summary.by
    total = _cells(key, summary.total, summary.by)
    hidden = without if summary.total.cost is not None else (*without, "cost")
    columns = [name for name in total if name not in hidden]
    rows = [_cells(key, line, summary.by) for line in summary.lines[first:last]]
    return table(
        columns,
        [[cells[name] for name in columns] for cells in rows],
        numbers=columns[1:],
        footer=[total[name] for name in columns],
    )


def _cells(key: str, line: Line, by: By) -> dict[str, str]:
    counts = line.counts
    numbers = {
        "requests": counts.requests,
        "prompt": counts.prompt_tokens,
        "completion": counts.completion_tokens,
        "tokens": line.tokens,
        "refused": counts.refusals,
        "errors": counts.errors,
    }
    told = {name: f"{number:,}" for name, number in numbers.items()}
    return {key: label(by, line.key), **told, "cost": cost(line)}


def label(by: By, key: str) -> str:
    """How people see it; see `Line.key` for what an empty one stands for."""
    return key or {"model": NO_MODEL, "user": OTHER_USERS, "hour": ""}[by]


def cost(line: Line) -> str:
    """To a cent, or finer where it is less; with a star where tokens have no price."""
    star = "*" if line.unpriced_tokens else ""
    return "-" if line.cost is None else f"{_money(line.cost)}{star}"


def _money(amount: Decimal) -> str:
    if 0 < amount < _SMALLEST:
        return f"<{_SMALLEST}"
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.4f}"


def remarks(summary: Summary) -> list[str]:
    """What the figures leave open, in sentences."""
    told = []
    unpriced, above = ", ".join(summary.unpriced), ", ".join(summary.estimated_from_above)
    if unpriced and summary.total.cost is None:
        told.append(f"No cost is shown, for no price is known of {unpriced}. {_HOW_TO_PRICE}")
    elif unpriced:
        told.append(f"* without {unpriced}, of which no price is known. {_HOW_TO_PRICE}")
    if above:
        told.append(f"The deployments of {above} differ in price: the highest counts.")
    return told
