"""The HTML report of an event: one file without scripts, which loads nothing from the network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from admin.events import text as event_text
from admin.usage import charts
from admin.usage import text as usage_text
from admin.usage.summary import NO_MODEL, Summary, local_hour, summarize
from shared.core.models import Counts, Deployment, Event, UsageRow

MOST_USERS = 20
MOST_MODELS = 6
OTHER_MODELS = "other models"
MOST_HOURS = 24 * 45
"""If an event is longer, the charts leave out the hours without usage."""

Split = Callable[[Counts], dict[str, int]]


def render(event: Event, rows: Sequence[UsageRow], deployments: Sequence[Deployment]) -> str:
    """Every name in the page is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    zone, now = event.time_zone, datetime.now(UTC)
    by_user, by_model, by_hour = (summarize(rows, by, zone, deployments) for by in ("user", "model", "hour"))
    found = _charts(_Usage(event, rows), by_user, by_model) if rows else ()
    return environment.get_template("report.html").render(
        event=event,
        state=event_text.state(event, now),
        period=event_text.period(event),
        made_at=f"{now.astimezone(zone):%Y-%m-%d %H:%M}",
        total=by_user.total,
        cost=usage_text.cost,
        users=sum(1 for row in by_user.rows if row.counts.requests),
        remarks=usage_text.remarks(by_user),
        charts=[(title, Markup(svg)) for title, svg in found],  # noqa: S704 - Vega escapes every text
        summaries=[("model", by_model), ("user", by_user), ("hour", by_hour)],
        label=usage_text.label,
    )


def _charts(usage: _Usage, by_user: Summary, by_model: Summary) -> Iterator[tuple[str, str]]:
    hours = usage.hours()
    models = [usage_text.label("model", row.key) for row in by_model.rows if row.counts.requests]
    if len(models) > MOST_MODELS:
        models = [*models[:MOST_MODELS], OTHER_MODELS]
    tokens, refused = ("prompt tokens", "completion tokens"), ("refused", "errors")
    yield "Requests by hour", charts.by_hour(hours, usage.requests_by_model(models), "requests", models)
    yield "Tokens by hour", charts.by_hour(hours, usage.by_hour(_tokens), "tokens", tokens)
    yield "Tokens by model", charts.by_name(*_by_name(by_model, _tokens), "tokens", tokens)
    some = f"The {MOST_USERS} users with the most tokens"
    title = some if len(by_user.rows) > MOST_USERS else "Tokens by user"
    yield title, charts.by_name(*_by_name(by_user, _tokens), "tokens", tokens)
    not_served = charts.by_hour(hours, usage.by_hour(_not_served), "requests", refused)
    yield "Refused requests and errors by hour", not_served


def _tokens(counts: Counts) -> dict[str, int]:
    return {"prompt tokens": counts.prompt_tokens, "completion tokens": counts.completion_tokens}


def _not_served(counts: Counts) -> dict[str, int]:
    return {"refused": counts.refusals, "errors": counts.errors}


class _Usage(NamedTuple):
    """The data of the charts over time."""

    event: Event
    rows: Sequence[UsageRow]

    def hours(self) -> list[str]:
        """Every hour from the first to the last."""
        found = sorted({row.hour.astimezone(UTC) for row in self.rows})
        count = int((found[-1] - found[0]).total_seconds() // 3600) + 1
        if count <= MOST_HOURS:
            found = [found[0] + timedelta(hours=number) for number in range(count)]
        return [self._local(hour) for hour in found]

    def by_hour(self, split: Split) -> list[dict[str, Any]]:
        sums: dict[datetime, Counts] = defaultdict(Counts)
        for row in self.rows:
            sums[row.hour] = sums[row.hour].plus(row.counts)
        return [
            {"hour": self._local(hour), "kind": kind, "count": count}
            for hour, counts in sums.items()
            for kind, count in split(counts).items()
        ]

    def requests_by_model(self, models: Sequence[str]) -> list[dict[str, Any]]:
        sums: dict[tuple[datetime, str], int] = defaultdict(int)
        for row in self.rows:
            if row.counts.requests:
                model = row.model or NO_MODEL
                sums[row.hour, model if model in models else OTHER_MODELS] += row.counts.requests
        return [
            {"hour": self._local(hour), "kind": model, "count": count}
            for (hour, model), count in sums.items()
        ]

    def _local(self, hour: datetime) -> str:
        return local_hour(hour, self.event.time_zone)


def _by_name(summary: Summary, split: Split) -> tuple[list[str], list[dict[str, Any]]]:
    """The names and the data of a chart with a bar for each name."""
    found = [row for row in summary.rows if row.counts.requests][:MOST_USERS]
    data = [
        {"name": usage_text.label(summary.by, row.key), "kind": kind, "count": count}
        for row in found
        for kind, count in split(row.counts).items()
    ]
    return [usage_text.label(summary.by, row.key) for row in found], data
