"""What an event has used of its limits for the whole event, and how many of its names are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.core.errors import StoreUnavailable
from shared.core.ids import new_id
from shared.core.models import CLAIM, Event
from shared.quota.amounts import NOTHING, Amount
from shared.quota.ledger_row import Conflict, Key
from shared.quota.standing import TOTAL_ROW

if TYPE_CHECKING:
    from admin.tables import Tables

TOTALS = {
    "budget": ("cost_total", "cost"),
    "requests_total": ("requests_total", "requests"),
    "tokens_total": ("tokens_total", "tokens"),
}
"""For each option, the column of the limit and the unit that it limits."""

TRIES = 50


class Change(NamedTuple):
    """A change of an event, and what there was at that moment."""

    before: Event
    after: Event
    has_void_passes: bool = False
    """Whether every pass is void now, because it is not known which ones were."""
    used: Amount | None = None
    """What its limits for the whole event count as used. None if they are not part of the change."""
    usage: Amount = NOTHING
    """What the usage rows say."""
    taken: int = 0
    """The names that are taken, if the seats are part of the change."""

    def is_new(self, column: str) -> bool:
        """Whether the event did not have this limit before."""
        return getattr(self.before, column) is None and getattr(self.after, column) is not None


async def counted(tables: Tables, change: Change, options: Mapping[str, Any]) -> Change:
    """The change with what is used and taken.

    Call it before the event is changed: what was used before counts toward limits that are new.
    """
    after = change.after
    if any(options[name] is not None for name in TOTALS):
        usage = await _usage(tables, after)
        used = await _count_earlier(tables, change, usage)
        change = change._replace(used=used, usage=usage)
    if (
        after.access == CLAIM
        and after.seats is not None
        and (options["seats"] is not None or options["access"])
    ):
        change = change._replace(taken=len(await tables.attendees.list(after.ledger_code)))
    return change


async def _usage(tables: Tables, event: Event) -> Amount:
    used = NOTHING
    for row in (await tables.read_usage(event.ledger_code))[0]:
        counts = row.counts
        tokens = counts.prompt_tokens + counts.completion_tokens
        used = used.plus(Amount(counts.requests, tokens, counts.cost))
    return used


async def _count_earlier(tables: Tables, change: Change, usage: Amount) -> Amount:
    """Count the usage toward new limits, as far as their row does not count it yet. Returns what is used.

    What instances have in hand stays in their hand: both columns grow by the same amount.
    """
    key = Key(change.after.ledger_code, TOTAL_ROW)
    units = [unit for column, unit in TOTALS.values() if change.is_new(column)]
    for _ in range(TRIES):
        row = await tables.read_ledger(key)
        missing = usage.minus(row.used).at_least(NOTHING)
        more = Amount(**{unit: getattr(missing, unit) for unit in units})
        if more == NOTHING:
            return row.used
        used, granted = row.used.plus(more), row.granted.plus(more)
        try:
            await tables.write_ledger(key, row._replace(granted=granted, used=used, writer=new_id()))
        except Conflict:
            continue
        return used
    raise StoreUnavailable
