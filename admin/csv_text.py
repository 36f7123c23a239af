"""CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""The beginning of a formula in a spreadsheet (OWASP, "CSV Injection")."""


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """One line for each row. No text of a row runs as a formula; None is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])
    return file.getvalue()


def escape_formula(text: str) -> str:
    """People choose names and notes: a spreadsheet must not run a text such as `=1+1`."""
    return f"'{text}" if text.startswith(_FORMULAS) else text
