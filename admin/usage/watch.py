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
from admin.usage import text as usage_text
from admin.usage.event_usage import EventUsage, read_usage
from admin.usage.summary import By, summarize
from shared.core.errors import StoreUnavailable

CHANGING = timedelta(hours=2)
"""Older rows do not change: a request counts in the hour in which it began, and ends in it or the next."""


class Reading(NamedTuple):
    used: EventUsage
    at: datetime
    error: str = ""
    """Why the last refresh failed; empty if it did not."""


def watch_usage(target: Target, code: str, by: By, every: int) -> None:
    """Show the usage until Ctrl-C. Raises CommandError if the first reading fails."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(target, code, by, every))


async def _watch(target: Target, code: str, by: By, every: int) -> None:
    console = open_console()
    async with open_tables(target) as tables:
        reading = Reading(await read_usage(tables, code), datetime.now(UTC))
        try:
            with _open_screen(console) as draw:
                while True:
                    draw(_view(reading, by, console))
                    await asyncio.sleep(every)
                    reading = await refresh(tables, reading)
        finally:
            if _has_screen(console):  # its content is gone, so print the last numbers
                console.print(_fitting(reading, by, console, console.height - 1))


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
    """Read again only the rows that can have changed."""
    now, used = datetime.now(UTC), reading.used
    since = reading.at.replace(minute=0, second=0, microsecond=0) - CHANGING
    try:
        rows = await tables.usage(used.event.code, since)
    except StoreUnavailable as error:
        return reading._replace(error=explain(error, tables.url))
    older = [row for row in used.rows if row.hour < since]
    return Reading(used._replace(rows=[*older, *rows]), now)


def _view(reading: Reading, by: By, console: Console) -> RenderableType:
    if not _has_screen(console):
        return _render(reading, by, console)
    return _fitting(reading, by, console, console.height, " Press Ctrl-C to stop.")


def _fitting(reading: Reading, by: By, console: Console, height: int, hint: str = "") -> RenderableType:
    """As many rows as the terminal has room for."""
    most = height
    while True:
        view = _render(reading, by, console, hint, most)
        excess = len(console.render_lines(view, pad=False)) - height
        if excess <= 0 or most <= 1:
            return view
        most = max(1, most - excess)


def _render(
    reading: Reading, by: By, console: Console, hint: str = "", most: int | None = None
) -> RenderableType:
    event = reading.used.event
    summary = summarize(reading.used.rows, by, event.time_zone, reading.used.deployments)
    at = f"{reading.at.astimezone(event.time_zone):%H:%M:%S} {event.time_zone.key}"
    lines = [f"{event.name} ({event.code}), {at}.{hint}"]
    if reading.error:
        lines.append(f"Retrying. {reading.error}")
    hidden = len(summary.rows) - most if most is not None else 0
    more = [f"And {hidden} more {by}s, included in the total."] if hidden > 0 else []
    table = usage_text.fitting_table(summary, event, console, most)
    return Group(*lines, table, *more, *usage_text.remarks(summary))
