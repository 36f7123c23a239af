"""Money, in whole millionths of a currency: no sum contains a float."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, Decimal

from msgspec import Struct
from msgspec.structs import replace

from .models import DEFAULT_CURRENCY, Deployment, Usage

MILLION = 1_000_000
"""Amounts are in millionths of the currency. A price is that of 1,000,000 tokens, in millionths too."""


HIGHEST_PRICE = 1_000_000
HIGHEST_BUDGET = 1_000_000_000
"""Of an event or an attendee, in units of the currency."""
DECIMALS = 6
"""Of an amount and of a price."""
STEP = Decimal("0.000001")

_currency = re.compile(r"[A-Z]{3}")


class Prices(Struct, frozen=True, gc=False):
    """The prices of 1,000,000 tokens, in millionths of the currency."""

    prompt: int = 0
    cached: int = 0
    """Of a prompt token that the upstream had in its cache."""
    completion: int = 0
    currency: str = ""
    above: int = 0
    long: Prices | None = None
    """The prices of a call with more than `above` prompt tokens, if they differ."""

    def cost(self, usage: Usage) -> int:
        """What a call costs, rounded up to a whole millionth."""
        prompt_tokens, cached_tokens = usage.prompt_tokens, usage.cached_tokens
        if self.long is not None and prompt_tokens > self.above:
            return self.long.cost(usage)
        prompt = (prompt_tokens - cached_tokens) * self.prompt + cached_tokens * self.cached
        return -(-(prompt + usage.completion_tokens * self.completion) // MILLION)

    def most_cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that a call can cost with at most so many tokens, however much of its prompt is cached."""
        prompt = prompt_tokens * max(self.prompt, self.cached)
        most = -(-(prompt + completion_tokens * self.completion) // MILLION)
        if self.long is not None and prompt_tokens > self.above:
            return max(most, self.long.most_cost(prompt_tokens, completion_tokens))
        return most

    def most_completion(self, prompt_tokens: int, cost: int) -> int | None:
        """The most completion tokens with which a call costs at most `cost`. None if they cost nothing.

        It is negative if the prompt alone costs more.
        """
        found = [self._most_completion(prompt_tokens, cost)]
        if self.long is not None and prompt_tokens > self.above:
            found.append(self.long.most_completion(prompt_tokens, cost))
        return min((most for most in found if most is not None), default=None)

    def _most_completion(self, prompt_tokens: int, cost: int) -> int | None:
        left = cost * MILLION - prompt_tokens * max(self.prompt, self.cached)
        if not self.completion:
            return -1 if left < 0 else None
        return left // self.completion


FREE = Prices()
"""For a call without a limit in money."""


def prices_of(deployment: Deployment) -> Prices | None:
    """The prices of a deployment. None if one that it needs is missing."""
    prompt, completion = deployment.prompt_price, deployment.completion_price
    if completion is None and not deployment.has_completions:
        completion = Decimal(0)
    if prompt is None or completion is None:
        return None
    cached = prompt if deployment.cached_prompt_price is None else deployment.cached_prompt_price
    prices = _prices(prompt, cached, completion, deployment.currency)
    if (long := deployment.long_prices) is None:
        return prices
    all_long = _prices(long.prompt, long.cached, long.completion, deployment.currency)
    return replace(prices, above=long.above, long=all_long)


def _prices(prompt: Decimal, cached: Decimal, completion: Decimal, currency: str) -> Prices:
    return Prices(millionths(prompt), millionths(cached), millionths(completion), currency)


def highest_prices(all_prices: Iterable[Prices | None]) -> Prices | None:
    """The highest of each price. None if some are missing, or are in different currencies."""
    found = list(all_prices)
    known = [prices for prices in found if prices is not None]
    if not known or len(known) < len(found) or len({prices.currency for prices in known}) > 1:
        return None
    highest = _highest(known)
    if not any(prices.long for prices in known):
        return highest
    above = min(prices.above for prices in known if prices.long)
    return replace(highest, above=above, long=_highest([prices.long or prices for prices in known]))


def _highest(known: Sequence[Prices]) -> Prices:
    return Prices(
        max(prices.prompt for prices in known),
        max(prices.cached for prices in known),
        max(prices.completion for prices in known),
        known[0].currency,
    )


def is_currency(code: str) -> bool:
    """Whether it has the form of a code of ISO 4217, such as USD."""
    return _currency.fullmatch(code) is not None


def millionths(amount: Decimal) -> int:
    """The amount in millionths, rounded up."""
    return int((amount * MILLION).to_integral_value(ROUND_CEILING))


def amount_text(cost: int) -> str:
    """The amount in units of the currency, exactly, with 2 to 6 decimals: `2.00`, or `0.000125`."""
    text = f"{cost:07}"
    return f"{text[:-6]}.{text[-6:-4]}{text[-4:].rstrip('0')}"


def money_text(cost: int, currency: str) -> str:
    """The amount for people: `$2.00`, or `1,250.00 EUR`."""
    whole, _, rest = amount_text(cost).partition(".")
    text = f"{int(whole):,}.{rest}"
    return f"${text}" if currency == DEFAULT_CURRENCY else f"{text} {currency}"
