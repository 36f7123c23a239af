"""One page with everything about an event's use: no script, and nothing that is fetched from anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from admin.events import text as event_text
from admin.usage import charts
from admin.usage import text as usage_text
from admin.usage.summary import NO_MODEL, Summary, hours, local_hour, summed
from shared.core.models import Counts, Deployment, Event, UsageRow

BUSIEST = 20
MOST_MODELS = 6
OTHERS = "other models"
MOST_HOURS = 24 * 45
"""Beyond them the charts over time leave the hours out in which nothing happened."""

_TEMPLATES = Path(__file__).parent


def page(event: Event, rows: Sequence[UsageRow], deployments: Sequence[Deployment]) -> str:
    """HTML that opens from disk, in the dark and on paper; every name in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    zone = event.time_zone
    by_user, by_model, by_hour = (summed(rows, by, zone, deployments) for by in ("user", "model", "hour"))
    return environment.get_template("report.html").render(
        event=event,
        state=event_text.state(event, datetime.now(UTC)),
        period=event_text.period(event),
        made_at=f"{datetime.now(UTC).astimezone(zone):%Y-%m-%d %H:%M}",
        total=by_user.total,
        cost=usage_text.cost,
        users=sum(1 for line in by_user.lines if line.counts.requests),
        remarks=usage_text.remarks(by_user),
        # Drawn by Vega, which escapes every text that it is given.
        charts=[(title, Markup(svg)) for title, svg in _charts(event, rows, by_user, by_model)],  # noqa: S704
        summaries=[("model", by_model), ("user", by_user), ("hour", by_hour)],
        label=usage_text.label,
    )


def _charts(
    event: Event, rows: Sequence[UsageRow], by_user: Summary, by_model: Summary
) -> Iterable[tuple[str, str]]:
    if not rows:
        return
    axis = _axis(event, rows)
    models = [usage_text.label("model", line.key) for line in by_model.lines if line.counts.requests]
    if len(models) > MOST_MODELS:
        models = [*models[:MOST_MODELS], OTHERS]
    yield (
        "Requests by hour",
        charts.stacked_over_time(axis, _by_model(event, rows, models), "requests", models),
    )
    tokens = ("prompt tokens", "completion tokens")
    yield "Tokens by hour", charts.stacked_over_time(axis, _over_time(event, rows, _tokens), "tokens", tokens)
    yield "Tokens by model", charts.stacked_by_name(*_by_name(by_model, _tokens), "tokens", tokens)
    yield (
        f"The {BUSIEST} busiest users" if len(by_user.lines) > BUSIEST else "Users",
        charts.stacked_by_name(*_by_name(by_user, _tokens), "tokens", tokens),
    )
    trouble = ("refused", "errors")
    yield (
        "Refused calls and errors by hour",
        charts.stacked_over_time(axis, _over_time(event, rows, _trouble), "calls", trouble),
    )


def _axis(event: Event, rows: Sequence[UsageRow]) -> list[str]:
    """Every hour from the first to the last, also those in which nothing happened."""
    first, last = hours(rows) or (event.starts_at, event.starts_at)
    count = int((last - first).total_seconds() // 3600) + 1
    if count > MOST_HOURS:
        there = sorted({row.hour for row in rows})
    else:
        there = [first + timedelta(hours=number) for number in range(count)]
    return [local_hour(hour, event.time_zone) for hour in there]


def _tokens(counts: Counts) -> dict[str, int]:
    return {"prompt tokens": counts.prompt_tokens, "completion tokens": counts.completion_tokens}


def _trouble(counts: Counts) -> dict[str, int]:
    return {"refused": counts.refusals, "errors": counts.errors}


def _over_time(event: Event, rows: Sequence[UsageRow], kinds: Any) -> list[dict[str, Any]]:
    sums: dict[datetime, Counts] = defaultdict(Counts)
    for row in rows:
        sums[row.hour] = sums[row.hour].plus(row.counts)
    return [
        {"hour": local_hour(hour, event.time_zone), "kind": kind, "count": count}
        for hour, counts in sums.items()
        for kind, count in kinds(counts).items()
    ]


def _by_model(event: Event, rows: Sequence[UsageRow], models: Sequence[str]) -> list[dict[str, Any]]:
    sums: dict[tuple[datetime, str], int] = defaultdict(int)
    for row in rows:
        if row.counts.requests:
            model = row.model or NO_MODEL
            sums[row.hour, model if model in models else OTHERS] += row.counts.requests
    return [
        {"hour": local_hour(hour, event.time_zone), "kind": model, "count": count}
        for (hour, model), count in sums.items()
    ]


def _by_name(summary: Summary, kinds: Any) -> tuple[list[str], list[dict[str, Any]]]:
    lines = [line for line in summary.lines if line.counts.requests][:BUSIEST]
    rows = [
        {"name": usage_text.label(summary.by, line.key), "kind": kind, "count": count}
        for line in lines
        for kind, count in kinds(line.counts).items()
    ]
    return [usage_text.label(summary.by, line.key) for line in lines], rows
