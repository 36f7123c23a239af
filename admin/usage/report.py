"""The HTML report of an event: one file without scripts, which loads nothing from the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from admin.events import text as event_text
from admin.usage import charts
from admin.usage import text as usage_text
from admin.usage.summary import Summary, summarize
from admin.usage.timeline import OTHER_MODELS, Split, Timeline
from shared.core.counts import Counts, UsageRow
from shared.core.models import Deployment, Event
from shared.core.times import with_date

MOST_USERS = 20
MOST_MODELS = 6


def render(event: Event, rows: Sequence[UsageRow], deployments: Sequence[Deployment]) -> str:
    """Every name in the page is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    zone, now = event.time_zone, datetime.now(UTC)
    by_user, by_model, by_hour = (
        summarize(rows, by, zone, deployments, is_charged=event.has_budget)
        for by in ("user", "model", "hour")
    )
    found = _charts(Timeline.of(event, rows), by_user, by_model) if rows else ()
    return environment.get_template("report.html").render(
        event=event,
        state=event_text.state(event, now),
        period=event_text.period(event),
        made_at=with_date(now.astimezone(zone)),
        total=by_user.total,
        cost=usage_text.cost,
        money=usage_text.money(by_user, event),
        users=sum(1 for row in by_user.rows if row.counts.requests),
        limits=event_text.limits(event),
        remarks=usage_text.remarks(by_user, advice=False),
        charts=[(title, Markup(svg)) for title, svg in found],  # noqa: S704 - Vega escapes every text
        summaries=[("model", by_model), ("user", by_user), ("hour", by_hour)],
        label=usage_text.label,
    )


def _charts(usage: Timeline, by_user: Summary, by_model: Summary) -> Iterator[tuple[str, str]]:
    times, by = usage.times(), usage.step_title
    models = [usage_text.label("model", row.key) for row in by_model.rows if row.counts.requests]
    if len(models) > MOST_MODELS:
        models = [*models[:MOST_MODELS], OTHER_MODELS]
    tokens, refused = ("prompt tokens", "completion tokens"), ("refused", "errors")
    yield f"Requests {by}", charts.by_hour(times, usage.requests_by_model(models), "requests", models)
    split, kinds = (_all_tokens, ("tokens",)) if usage.is_fine else (_tokens, tokens)
    yield f"Tokens {by}", charts.by_hour(times, usage.by_time(split), "tokens", kinds)
    yield "Tokens by model", charts.by_name(*_by_name(by_model, _tokens), "tokens", tokens)
    some = f"The {MOST_USERS} users with the most tokens"
    title = some if len(by_user.rows) > MOST_USERS else "Tokens by user"
    yield title, charts.by_name(*_by_name(by_user, _tokens), "tokens", tokens)
    if by_user.total.counts.refusals or by_user.total.counts.errors:
        not_served = charts.by_hour(times, usage.by_time(_not_served), "requests", refused)
        yield f"Refused requests and errors {by}", not_served


def _tokens(counts: Counts) -> dict[str, int]:
    return {"prompt tokens": counts.prompt_tokens, "completion tokens": counts.completion_tokens}


def _all_tokens(counts: Counts) -> dict[str, int]:
    return {"tokens": counts.prompt_tokens + counts.completion_tokens}


def _not_served(counts: Counts) -> dict[str, int]:
    return {"refused": counts.refusals, "errors": counts.errors}


def _by_name(summary: Summary, split: Split) -> tuple[list[str], list[dict[str, Any]]]:
    """The names and the data of a chart with a bar for each name."""
    found = [row for row in summary.rows if row.counts.requests][:MOST_USERS]
    data = [
        {"name": usage_text.label(summary.by, row.key), "kind": kind, "count": count}
        for row in found
        for kind, count in split(row.counts).items()
    ]
    return [usage_text.label(summary.by, row.key) for row in found], data
