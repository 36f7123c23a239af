"""What an organiser needs while an event runs: what is left, how fast it goes, and who is stuck."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from shared.core.counts import UsageRow
from shared.core.models import Deployment, Event
from shared.core.times import with_date
from shared.desk.figures import figures
from shared.desk.readings import Reading
from shared.desk.sums import Sums, minute_of
from shared.quota.ledger_row import LedgerRow

MOST_STUCK = 5


def lines(
    event: Event,
    rows: Iterable[UsageRow],
    total: LedgerRow,
    now: datetime,
    deployments: Iterable[Deployment] = (),
) -> list[str]:
    """The same figures as those of the desk, in a few lines."""
    sums = Sums(minute_of(now))
    for row in rows:
        sums.add(row)
    shown = figures(Reading(now, event, total, sums, now, [(one, None) for one in deployments]), 0)
    return [*_forecast(shown, event, now), *_units(shown, event), *_attendees(shown)]


def _forecast(shown: dict[str, Any], event: Event, now: datetime) -> Iterator[str]:
    gone = [unit["unit"] for unit in shown["units"] if unit["is_used_up"]]
    if shown["event"]["state"] != "open":
        return
    if gone:
        yield f"Used up: {', '.join(gone)}."
    elif (out := shown["runs_out"]) and out["at"] < event.ends_at:
        minutes = (out["at"] - now).total_seconds() / 60
        yield (
            f"Runs out at {_clock(out['at'], now, event)} ({out['unit']}, in {minutes:,.0f} minutes, "
            f"at the rate of the last {shown['rate_minutes']:.0f})."
        )
    elif any(unit["limit"] is not None for unit in shown["units"]):
        yield f"Lasts to the end ({_clock(event.ends_at, now, event)}) at this rate."


def _clock(at: datetime, now: datetime, event: Event) -> str:
    local = at.astimezone(event.time_zone)
    return f"{local:%H:%M}" if local.date() == now.astimezone(event.time_zone).date() else with_date(local)


def _units(shown: dict[str, Any], event: Event) -> Iterator[str]:
    for unit in shown["units"]:
        if unit["limit"] is not None:
            left, limit, rate = (_number(unit[name]) for name in ("left", "limit", "per_minute"))
            currency = f" {event.currency}" if unit["unit"] == "budget" else ""
            yield f"{unit['unit']}: {left} of {limit}{currency} left, {rate} a minute."


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else bytes(value).decode()


def _attendees(shown: dict[str, Any]) -> Iterator[str]:
    found, recent = shown["attendees"], shown["recent"]
    yield (
        f"{found['active']:,} attendees active; {recent['refusals']:,} refused and "
        f"{recent['errors']:,} errors in {recent['minutes']} minutes."
    )
    stuck = [
        f"{one['user']} ({one['recent_refusals'] + one['recent_errors']:,}, {one['refused_for']})"
        for one in found["stuck"][:MOST_STUCK]
    ]
    if stuck:
        yield f"Refused again and again: {', '.join(stuck)}."
