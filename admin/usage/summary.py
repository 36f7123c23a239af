"""Usage summed by user, model or hour, and its cost: as it was charged, or an estimate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from shared.core.counts import Counts, UsageRow
from shared.core.models import Deployment
from shared.core.money import prices_of

By = Literal["user", "model", "hour"]
BYS: tuple[By, ...] = ("user", "model", "hour")
Sort = Literal["cost", "requests", "tokens", "refused", "errors"]
SORTS: tuple[Sort, ...] = ("cost", "requests", "tokens", "refused", "errors")
NO_MODEL = "(no model)"
OTHER_USERS = "(other users)"
_MILLION = Decimal(1_000_000)


class Price(NamedTuple):
    """The price of a model, for 1,000,000 tokens."""

    prompt: Decimal
    cached: Decimal
    completion: Decimal

    def of(self, counts: Counts) -> Decimal:
        cached = min(counts.cached_tokens, counts.prompt_tokens)
        prompt = self.prompt * (counts.prompt_tokens - cached) + self.cached * cached
        return (prompt + self.completion * counts.completion_tokens) / _MILLION


class SummaryRow(NamedTuple):
    """The sum for one user, model or hour, or for all."""

    key: str
    """A user, a model, or an hour in the event's time zone. An empty model stands for requests that were
    refused before a model was chosen, an empty user for users above the number that an instance counts by
    name."""
    counts: Counts
    cost: Decimal | None
    """The cost of the tokens whose model has a price. None if no model has one."""
    unpriced_tokens: int
    """Tokens of models without a price. They are not in `cost`."""

    @property
    def tokens(self) -> int:
        return _tokens(self.counts)


class Summary(NamedTuple):
    by: By
    rows: list[SummaryRow]
    total: SummaryRow
    unpriced: list[str]
    """Models that used tokens and have no price."""
    several_prices: list[str]
    """Models whose deployments have different prices. The highest is used."""
    is_charged: bool
    """Whether the costs are exactly those that were charged. If not, today's prices give an estimate."""

    @property
    def cost_title(self) -> str:
        return "cost" if self.is_charged else "cost (estimate)"


def summarize(
    rows: Iterable[UsageRow],
    by: By,
    zone: ZoneInfo,
    deployments: Sequence[Deployment],
    *,
    is_charged: bool = False,
    sort: Sort | None = None,
) -> Summary:
    """Hours are in order of time; users and models that cost the most, or have the most tokens, come first.

    With `sort`, those come first, also of hours, that have the most of it.

    With `is_charged`, the costs are those of the rows, as in an event with a budget.
    """
    prices = None if is_charged else _prices(deployments)
    groups: dict[str, dict[str, Counts]] = defaultdict(dict)
    everything: dict[str, Counts] = {}
    for row in sorted(rows, key=lambda row: row.hour):
        group = groups[_key(row, by, zone)]
        for sums in (group, everything):
            sums[row.model] = sums.get(row.model, Counts()).plus(row.counts)
    found = [_summary_row(key, models, prices) for key, models in groups.items()]
    if by != "hour":
        found.sort(key=lambda row: _rank(row, is_charged=is_charged))
    if sort is not None:
        found.sort(key=lambda row: -_SORTED[sort](row))
    used = {model for model, counts in everything.items() if _tokens(counts)}
    return Summary(
        by,
        found,
        _summary_row("total", everything, prices),
        unpriced=[] if prices is None else sorted(used - prices.keys()),
        several_prices=[] if prices is None else sorted(used & _with_several_prices(deployments)),
        is_charged=is_charged,
    )


_SORTED: Mapping[Sort, Callable[[SummaryRow], Decimal | int]] = {
    "cost": lambda row: row.cost or 0,
    "requests": lambda row: row.counts.requests,
    "tokens": lambda row: row.tokens,
    "refused": lambda row: row.counts.refusals,
    "errors": lambda row: row.counts.errors,
}


def _rank(row: SummaryRow, *, is_charged: bool) -> tuple[int | str, ...]:
    counts = row.counts
    cost = counts.cost if is_charged else 0
    return (-cost, -row.tokens, -counts.requests, -counts.refusals, row.key)


def _tokens(counts: Counts) -> int:
    return counts.prompt_tokens + counts.completion_tokens


def _prices(deployments: Iterable[Deployment]) -> dict[str, Price]:
    """By model. A usage row does not name the deployment, so the highest of several prices is used."""
    prices: dict[str, Price] = {}
    for deployment in deployments:
        if (price := _price(deployment)) is not None:
            known = prices.get(deployment.model, price)
            prices[deployment.model] = Price(*map(max, known, price))
    return prices


def _with_several_prices(deployments: Iterable[Deployment]) -> set[str]:
    found: dict[str, set[Price | None]] = defaultdict(set)
    for deployment in deployments:
        found[deployment.model].add(_price(deployment))
    return {model for model, prices in found.items() if len(prices) > 1}


def _price(deployment: Deployment) -> Price | None:
    prompt, cached = deployment.prompt_price, deployment.cached_prompt_price
    if prompt is None or prices_of(deployment) is None:
        return None
    return Price(prompt, prompt if cached is None else cached, deployment.completion_price or Decimal(0))


def _key(row: UsageRow, by: By, zone: ZoneInfo) -> str:
    match by:
        case "user":
            return row.user
        case "model":
            return row.model
        case "hour":
            return local_hour(row.hour, zone)


def local_hour(hour: datetime, zone: ZoneInfo) -> str:
    """`2026-12-01 09:00`, with the offset if the clocks go back and the hour comes twice."""
    local = hour.astimezone(zone)
    is_twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{local:%Y-%m-%d %H:%M}" + (f" {local:%z}" if is_twice else "")


def _summary_row(key: str, models: Mapping[str, Counts], prices: Mapping[str, Price] | None) -> SummaryRow:
    """Without `prices`, the cost is that of the counts."""
    total = Counts()
    if prices is None:
        for counts in models.values():
            total = total.plus(counts)
        return SummaryRow(key, total, Decimal(total.cost) / _MILLION, 0)
    costs, unpriced = [], 0
    for model, counts in models.items():
        total = total.plus(counts)
        if model in prices:
            costs.append(prices[model].of(counts))
        else:
            unpriced += _tokens(counts)
    return SummaryRow(key, total, sum(costs, Decimal(0)) if costs else None, unpriced)
