"""`manage.py events rehearse`: a load of real requests, before the day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from admin.errors import CommandError
from admin.events.check import find_address
from admin.events.codes import find_event, parse_code
from admin.money import BUDGET
from admin.options import Number, as_json
from admin.printing import print_result
from admin.session import run
from admin.target import cache_time, find_target
from shared.core.models import CHAT, OPEN, Deployment, Event
from shared.core.money import highest_prices, millionths, prices_of
from shared.events.passes import pass_of

if TYPE_CHECKING:
    from admin.events.load import Load
    from admin.tables import Tables

MOST_ATTENDEES = 500
WATCH_SECONDS = 3.0
"""Between two looks at the health of the deployments, which changes all the time."""
HEALTH_SECONDS = 1.0
"""The app writes a new health within this time."""
PREFIX = "rehearsal"
"""How the names of the simulated attendees begin."""


@click.command("rehearse", short_help="Send the load of many attendees, before the day.")
@click.argument("code")
@click.option(
    "--attendees",
    type=Number(int, 1, MOST_ATTENDEES),
    default=60,
    show_default=True,
    metavar="N",
    help="How many.",
)
@click.option(
    "--minutes", type=Number(float, 0, 120), default=3, show_default=True, metavar="N", help="How long."
)
@click.option(
    "--budget",
    type=BUDGET,
    default="2",
    show_default=True,
    metavar="AMOUNT",
    help="The most that it may cost.",
)
@click.option("--model", metavar="A", help="The model to ask. Default: the event's default model.")
@click.option("--url", metavar="URL", help="Address of the app. Default: as for `events check`.")
@as_json
def rehearse_event(
    code: str,
    attendees: int,
    minutes: float,
    budget: Decimal,
    model: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Send the load of many attendees through the app. The requests are real and cost money.

    The attendees are named rehearsal-1, rehearsal-2 and so on. They count toward the event's limits, so use a
    copy of the event (`events copy`). Press Ctrl-C to stop: what was seen until then is reported.

    \b
    Example:
      python3 manage.py events rehearse winter-hack --attendees 60 --minutes 3 --budget 2
    """
    from admin.events import load_report
    from admin.events.load import Load, Plan

    address, target = find_address(url), find_target()
    event, deployments = run(target, lambda tables: _read(tables, parse_code(code)))
    name = _model(event, model, deployments)
    prices = highest_prices(prices_of(one) for one in deployments if one.model == name)
    if prices is None or prices.currency != event.currency:
        raise CommandError(f"{name} has no price in {event.currency}. Set it with `deployments update`.")
    keys = tuple(_key(event, f"{PREFIX}-{number + 1}") for number in range(attendees))
    plan = Plan(address, keys, name, prices, minutes * 60, millionths(budget))
    click.echo(load_report.plan_text(plan, event), err=True)
    load = Load(plan)
    limits = run(target, lambda tables: _run(tables, load, event.currency))
    print_result(
        load_report.fields(load, event, limits), as_json, lambda: load_report.text(load, event, limits)
    )


def _show(currency: str) -> Callable[[Load, float], None]:
    """Prints the progress, not as a part of the result."""
    from admin.events.load_report import progress

    return lambda load, seconds: click.echo(progress(load, seconds, currency), err=True)


async def _read(tables: Tables, code: str) -> tuple[Event, list[Deployment]]:
    """The event, which must be open, and the active deployments that serve chat completions."""
    event = await find_event(tables, code)
    if not isinstance(event, Event):
        raise CommandError(event.message)
    now = datetime.now(UTC)
    if not (event.active and event.starts_at <= now < event.ends_at):
        option = "--ends +2h" if now >= event.ends_at else "--starts now" if event.active else "--resume"
        raise CommandError(
            f"The event is closed. Open it for the rehearsal with `events update {event.code} {option}`, and "
            f"wait {cache_time()}."
        )
    deployments = await tables.deployments()
    return event, [one for one in deployments if one.active and CHAT in one.apis]


def _model(event: Event, wanted: str | None, deployments: list[Deployment]) -> str:
    served = sorted({one.model for one in deployments if one.model in event.models or not event.models})
    name = wanted or (event.default_model if event.default_model in served else next(iter(served), None))
    if name not in served:
        raise CommandError(
            f"The event has no model {name!r} for chat. Use one of: {', '.join(served) or 'none'}."
        )
    return name


def _key(event: Event, user: str) -> str:
    return f"{event.code}/{user if event.access == OPEN else pass_of(event, user)}"


async def _run(tables: Tables, load: Load, currency: str) -> dict[str, str]:
    """Run the rehearsal. Returns the last trouble of each deployment that had some, by its name."""
    began_at, limits = datetime.now(UTC), dict[str, str]()

    async def watch() -> None:
        while True:
            limits.update(await _troubles(tables, load.plan.model, began_at))
            await asyncio.sleep(WATCH_SECONDS)

    watching = asyncio.create_task(watch())
    await load.run(_show(currency))
    if any(one.code for one in load.seen):
        await asyncio.sleep(HEALTH_SECONDS)
    watching.cancel()
    return limits | await _troubles(tables, load.plan.model, began_at)


async def _troubles(tables: Tables, model: str, since: datetime) -> dict[str, str]:
    """The status of each deployment of the model that has had trouble, by its name."""
    from shared.core.errors import StoreUnavailable

    try:
        (found, _), health = await tables.deployments_and_health()
    except StoreUnavailable:  # the report is worth more
        return {}
    seen = [(one.deployment_name, health.get((one.model, one.id))) for one in found if one.model == model]
    return {
        name: last.status
        for name, last in seen
        if last is not None and last.status != "ok" and last.seen_at >= since.replace(microsecond=0)
    }
