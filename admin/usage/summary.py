"""Usage rows, summed by user, model or hour, and what they may have cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from shared.core.models import Counts, Deployment, UsageRow

By = Literal["user", "model", "hour"]
BYS: Final[tuple[By, ...]] = ("user", "model", "hour")
NO_MODEL: Final = "(no model)"
OTHER_USERS: Final = "(other users)"
_MILLION: Final = Decimal(1_000_000)


class Price(NamedTuple):
    """Of one model, for 1,000,000 tokens."""

    prompt: Decimal
    completion: Decimal

    def of(self, counts: Counts) -> Decimal:
        return (self.prompt * counts.prompt_tokens + self.completion * counts.completion_tokens) / _MILLION


class Line(NamedTuple):
    """The sum of the rows of one user, model or hour; or of all."""

    key: str
    """A user, a model, or an hour in the event's zone. An empty model: none was chosen before the refusal; an
    empty user: those beyond the many that an instance counts one by one."""
    counts: Counts
    cost: Decimal | None
    """Of those tokens whose model has a price; None where none of them has."""
    unpriced_tokens: int
    """Tokens of models without a price: they are not in `cost`."""

    @property
    def tokens(self) -> int:
        return self.counts.prompt_tokens + self.counts.completion_tokens


class Summary(NamedTuple):
    by: By
    lines: list[Line]
    total: Line
    unpriced: list[str]
    """Models that used tokens and have no price."""
    estimated_from_above: list[str]
    """Models whose deployments differ in price: the highest is taken."""


def summed(rows: Iterable[UsageRow], by: By, zone: ZoneInfo, deployments: Sequence[Deployment]) -> Summary:
    """Hours in their order; users and models by tokens, the most first."""
    prices = priced(deployments)
    groups: dict[str, dict[str, Counts]] = defaultdict(dict)
    everything: dict[str, Counts] = {}
    for row in sorted(rows, key=lambda row: row.hour):
        group = groups[_key(row, by, zone)]
        for sums in (group, everything):
            sums[row.model] = sums.get(row.model, Counts()).plus(row.counts)
    lines = [_line(key, models, prices) for key, models in groups.items()]
    if by != "hour":
        lines.sort(key=lambda line: (-line.tokens, -line.counts.requests, -line.counts.refusals, line.key))
    used = {model for model, counts in everything.items() if counts.prompt_tokens + counts.completion_tokens}
    return Summary(
        by,
        lines,
        _line("total", everything, prices),
        sorted(used - prices.keys()),
        sorted(used & _differing(deployments)),
    )


def priced(deployments: Iterable[Deployment]) -> dict[str, Price]:
    """By model. A usage row does not tell which deployment served: of several prices the highest counts."""
    prices: dict[str, Price] = {}
    for one in deployments:
        if (price := _price(one)) is not None:
            known = prices.get(one.model, price)
            prices[one.model] = Price(
                max(known.prompt, price.prompt), max(known.completion, price.completion)
            )
    return prices


def _differing(deployments: Iterable[Deployment]) -> set[str]:
    found: dict[str, set[Price | None]] = defaultdict(set)
    for one in deployments:
        found[one.model].add(_price(one))
    return {model for model, prices in found.items() if len(prices) > 1 and prices != {None}}


def _price(one: Deployment) -> Price | None:
    if one.prompt_price is None or one.completion_price is None:
        return None
    return Price(Decimal(str(one.prompt_price)), Decimal(str(one.completion_price)))


def _key(row: UsageRow, by: By, zone: ZoneInfo) -> str:
    match by:
        case "user":
            return row.user
        case "model":
            return row.model
        case "hour":
            return local_hour(row.hour, zone)


def local_hour(hour: datetime, zone: ZoneInfo) -> str:
    """`2026-12-01 09:00`; with its offset where the clocks are put back and it comes twice."""
    local = hour.astimezone(zone)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{local:%Y-%m-%d %H:%M}" + (f" {local:%z}" if twice else "")


def _line(key: str, models: Mapping[str, Counts], prices: Mapping[str, Price]) -> Line:
    counts = Counts()
    costs, unpriced = [], 0
    for model, of_model in models.items():
        counts = counts.plus(of_model)
        tokens = of_model.prompt_tokens + of_model.completion_tokens
        if model in prices:
            costs.append(prices[model].of(of_model))
        else:
            unpriced += tokens
    return Line(key, counts, sum(costs, Decimal(0)) if costs else None, unpriced)


def hours(rows: Iterable[UsageRow]) -> tuple[datetime, datetime] | None:
    """The first and the last, in UTC; None where there is no row."""
    found = sorted({row.hour.astimezone(UTC) for row in rows})
    return (found[0], found[-1]) if found else None
