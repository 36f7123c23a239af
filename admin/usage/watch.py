"""`usage --watch`: usage on the terminal, refreshed while an event runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live

from admin.connection import explain, open_tables
from admin.tables import Tables
from admin.target import Target
from admin.terminal import open_console
from admin.usage import live
from admin.usage import text as usage_text
from admin.usage.event_usage import EventUsage, read_usage
from admin.usage.summary import By, Sort, summarize
from shared.core.errors import StoreUnavailable
from shared.core.models import Event
from shared.quota.ledger_row import NO_ROW, LedgerRow

CHANGING = timedelta(hours=2)
"""Older rows do not change: a request counts in the hour in which it began, and ends in it or the next."""


class Reading(NamedTuple):
    used: EventUsage
    at: datetime
    error: str = ""
    """Why the last refresh failed; empty if it did not."""
    total: LedgerRow = NO_ROW
    """The account of the whole event."""


def watch_usage(target: Target, code: str, by: By, every: int, sort: Sort | None = None) -> None:
    """Show the usage until Ctrl-C. Raises CommandError if the first reading fails."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(target, code, by, every, sort))


async def _watch(target: Target, code: str, by: By, every: int, sort: Sort | None) -> None:
    console = open_console()
    async with open_tables(target) as tables:
        used = await read_usage(tables, code)
        total = await tables.desk.total(used.event.ledger_code)
        reading = Reading(used, datetime.now(UTC), total=total)
        try:
            with _open_screen(console) as draw:
                while True:
                    draw(_view(reading, by, console, sort))
                    await asyncio.sleep(every)
                    reading = await refresh(tables, reading)
        finally:
            if _has_screen(console):  # its content is gone, so print the last numbers
                console.print(_fitting(reading, by, console, sort, console.height - 1))


def _has_screen(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _open_screen(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Draw in place on a terminal; print one below the other into a file or a program."""
    if not _has_screen(console):
        yield console.print
        return
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda view: live.update(view, refresh=True)


async def refresh(tables: Tables, reading: Reading) -> Reading:
    """Read again the event, its account, and only those rows of its usage that can have changed."""
    now, used = datetime.now(UTC), reading.used
    since = reading.at.replace(minute=0, second=0, microsecond=0) - CHANGING
    try:
        rows, _ = await tables.read_usage(used.event.ledger_code, since)
        total = await tables.desk.total(used.event.ledger_code)
        found = await tables.find_event(used.event.code)
    except StoreUnavailable as error:
        return reading._replace(error=explain(error, tables.url))
    older = [row for row in used.rows if row.hour < since]
    event = found if isinstance(found, Event) else used.event
    return Reading(used._replace(event=event, rows=[*older, *rows]), now, total=total)


def _view(reading: Reading, by: By, console: Console, sort: Sort | None) -> RenderableType:
    if not _has_screen(console):
        return _render(reading, by, console, sort)
    return _fitting(reading, by, console, sort, console.height, " Press Ctrl-C to stop.")


def _fitting(
    reading: Reading, by: By, console: Console, sort: Sort | None, height: int, hint: str = ""
) -> RenderableType:
    """As many rows as the terminal has room for."""
    most = height
    while True:
        view = _render(reading, by, console, sort, hint, most)
        excess = len(console.render_lines(view, pad=False)) - height
        if excess <= 0 or most <= 1:
            return view
        most = max(1, most - excess)


def _render(
    reading: Reading,
    by: By,
    console: Console,
    sort: Sort | None,
    hint: str = "",
    most: int | None = None,
) -> RenderableType:
    event = reading.used.event
    used = reading.used
    summary = summarize(
        used.rows, by, event.time_zone, used.deployments, is_charged=event.has_budget, sort=sort
    )
    at = f"{reading.at.astimezone(event.time_zone):%H:%M:%S} {event.time_zone.key}"
    lines = [f"{event.name} ({event.code}), {at}.{hint}", *usage_text.money(summary, event)]
    lines += live.lines(event, used.rows, reading.total, reading.at, used.deployments)
    if reading.error:
        lines.append(f"Retrying. {reading.error}")
    hidden = len(summary.rows) - most if most is not None else 0
    more = [f"And {hidden} more {by}s, included in the total."] if hidden > 0 else []
    table = usage_text.fitting_table(summary, event, console, most)
    return Group(*lines, table, *more, *usage_text.remarks(summary))
