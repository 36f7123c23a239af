"""Prints the table of the clients, as Markdown, at the end of `python3 dev.py test --clients`."""

import platform
import subprocess
from datetime import UTC, datetime

import pytest

from tests.clients.client import COLUMNS, TABLE

EXPLANATION = """\
yes, no: the step works, fails.   -: the program has no such step.   other: see the program, often its other API.
quota and cut, a used-up day and a stream that breaks. clear: shows our message; error: shows an error of its own;
silent: shows nothing wrong; waits: does not end in time. The seconds are those until a person sees it,
without the start of the program."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not TABLE:
        return
    terminalreporter.section("clients")
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    python = f"Python {platform.python_version()}, Node.js {node.removeprefix('v')}"
    terminalreporter.write_line(f"On {datetime.now(UTC):%Y-%m-%d}, {platform.system()}, {python}.\n")
    rows: list[tuple[str, ...]] = [("client", *COLUMNS)]
    rows += [(name, *(cells.get(column, "") for column in COLUMNS)) for name, cells in TABLE.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
    terminalreporter.write_line(f"\n{EXPLANATION}")
