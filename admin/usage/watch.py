"""Looks on while an event runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from admin.printing import console
from admin.session import opened, why
from admin.target import Target
from admin.usage import text as usage_text
from admin.usage.commands import Used, read
from admin.usage.summary import By, summed
from shared.core.errors import StoreUnavailable
from shared.core.models import UsageRow

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from admin.tables import Tables

STILL_CHANGING = timedelta(hours=2)
"""Calls are counted to the hour in which they began, and end within it or the next: what is older stands."""


class Seen(NamedTuple):
    used: Used
    at: datetime
    fault: str = ""
    """Why the last reading failed, where it did: the figures are older then."""


def looked_on(target: Target, code: str, by: By, every: int) -> None:
    """Show the usage in place until Ctrl-C, which is its ordinary end.

    Raises:
        Fault, Outage: what the first reading met; later ones are told, and tried again.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_look_on(target, code, by, every))


async def _look_on(target: Target, code: str, by: By, every: int) -> None:
    screen = console()
    async with opened(target) as tables:
        seen = Seen(await read(tables, code), datetime.now(UTC))
        try:
            with _drawn_on(screen) as draw:
                while True:
                    draw(_drawn(seen, by, screen))
                    await asyncio.sleep(every)
                    seen = await again(tables, seen)
        finally:
            if _in_place(screen):  # what was drawn is gone with the terminal's second page
                screen.print(_fitting(seen, by, screen, screen.height - 1))


def _in_place(screen: Console) -> bool:
    return screen.is_terminal and not screen.is_dumb_terminal


@contextmanager
def _drawn_on(screen: Console) -> Iterator[Callable[[RenderableType], None]]:
    """In place, on a page of its own, on a terminal; into a file or a program, one after the other."""
    from rich.live import Live

    if not _in_place(screen):
        yield screen.print
        return
    with Live(console=screen, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield lambda shown: live.update(shown, refresh=True)


async def again(tables: Tables, seen: Seen) -> Seen:
    """What there is now. Only the rows that can have changed are read."""
    now, event = datetime.now(UTC), seen.used.event
    since = seen.at.replace(minute=0, second=0, microsecond=0) - STILL_CHANGING
    try:
        rows = await tables.usage(event.code, since)
    except StoreUnavailable as error:
        return seen._replace(fault=why(error))
    used = seen.used._replace(rows=[*_before(seen.used.rows, since), *rows])
    return Seen(used, now)


def _before(rows: Iterable[UsageRow], since: datetime) -> list[UsageRow]:
    return [row for row in rows if row.hour < since]


def _drawn(seen: Seen, by: By, screen: Console) -> RenderableType:
    if not _in_place(screen):
        return _shown(seen, by, screen)
    return _fitting(seen, by, screen, screen.height, " Ctrl-C ends this.")


def _fitting(seen: Seen, by: By, screen: Console, height: int, hint: str = "") -> RenderableType:
    """As many lines as there is room for."""
    most = height
    while True:
        shown = _shown(seen, by, screen, hint, most)
        too_many = len(screen.render_lines(shown, pad=False)) - height
        if too_many <= 0 or most <= 1:
            return shown
        most = max(1, most - too_many)


def _shown(seen: Seen, by: By, screen: Console, hint: str = "", most: int | None = None) -> RenderableType:
    from rich.console import Group

    event = seen.used.event
    summary = summed(seen.used.rows, by, event.time_zone, seen.used.deployments)
    at = f"{seen.at.astimezone(event.time_zone):%H:%M:%S} {event.time_zone.key}"
    told = [f"{event.name} ({event.code}), {at}.{hint}"]
    if seen.fault:
        told.append(f"The tables do not answer now ({seen.fault}): trying again.")
    left_out = len(summary.lines) - most if most is not None else 0
    more = [f"And {left_out} more {by}s, which are in the total."] if left_out > 0 else []
    return Group(*told, usage_text.fitting(summary, event, screen, most), *more, *usage_text.remarks(summary))
