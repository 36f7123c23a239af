"""Money: exact integers, and bounds that no call exceeds."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from shared.core.models import Deployment, LongPrices, Usage
from shared.core.money import MILLION, Prices, amount_text, highest_prices, millionths, money_text, prices_of

PRICE = st.integers(0, 10**12)
PLAIN = st.tuples(PRICE, PRICE, PRICE).map(lambda prices: Prices(*prices))
LONG = st.tuples(PLAIN, st.integers(0, 10**6), PLAIN).map(
    lambda one: structs.replace(one[0], above=one[1], long=one[2])
)
PRICES = PLAIN | LONG
TOKENS = st.integers(0, 10**8)
PRICED = Deployment("m", "a", "https://a", "m", prompt_price=Decimal("2.5"), completion_price=Decimal(10))


@given(PRICES, TOKENS, TOKENS, TOKENS)
def test_a_cost_is_rounded_up_to_a_millionth(
    prices: Prices, prompt: int, completion: int, cached: int
) -> None:
    cached = min(cached, prompt)
    used = prices.long if prices.long and prompt > prices.above else prices
    exact = Fraction((prompt - cached) * used.prompt, MILLION) + Fraction(cached * used.cached, MILLION)
    exact += Fraction(completion * used.completion, MILLION)
    cost = prices.cost(Usage(prompt, completion, cached))
    assert exact <= cost < exact + 1
    assert cost <= prices.most_cost(prompt, completion)


@given(PRICES, TOKENS, TOKENS, TOKENS, TOKENS)
def test_no_smaller_call_costs_more_than_the_bound(
    prices: Prices, prompt: int, completion: int, fewer: int, cached: int
) -> None:
    most = prices.most_cost(prompt, completion)
    used = min(fewer, prompt)
    assert prices.cost(Usage(used, completion, min(cached, used))) <= most


def test_a_long_prompt_has_its_own_prices() -> None:
    long = LongPrices(272_000, Decimal(5), Decimal("0.5"), Decimal("22.5"))
    prices = prices_of(replace(PRICED, long_prices=long))
    assert prices is not None and str(long) == "272000:5/0.5/22.5"
    assert prices.cost(Usage(272_000, 1000)) == 272_000 * 2.5 + 10_000
    assert prices.cost(Usage(272_001, 1000, 272_001)) == -(-272_001 // 2) + 22_500
    assert prices.most_completion(272_001, 272_001 * 5 + 45) == 2


@given(PRICES, TOKENS, st.integers(0, 10**12))
def test_the_affordable_output_is_the_largest_that_the_money_covers(
    prices: Prices, prompt: int, cost: int
) -> None:
    most = prices.most_completion(prompt, cost)
    if most is None:
        assert prices.most_cost(prompt, 0) == prices.most_cost(prompt, 10**9) <= cost
    elif most >= 0:
        assert prices.most_cost(prompt, most) <= cost < prices.most_cost(prompt, most + 1)
    else:
        assert prices.most_cost(prompt, 0) > cost


def test_prices_are_exact_and_cached_tokens_cost_the_prompt_price_unless_said() -> None:
    assert prices_of(PRICED) == Prices(2_500_000, 2_500_000, 10_000_000, "USD")
    cached = replace(PRICED, cached_prompt_price=Decimal("0.000001"))
    assert prices_of(cached) == Prices(2_500_000, 1, 10_000_000, "USD")
    assert prices_of(cached).cost(Usage(1_000_000, 3, 999_999)) == 33 + 1  # type: ignore[union-attr]


@pytest.mark.parametrize("missing", ["prompt_price", "completion_price"])
def test_a_deployment_without_one_of_its_prices_has_none(missing: str) -> None:
    assert prices_of(replace(PRICED, **{missing: None})) is None  # type: ignore[arg-type]


def test_embeddings_need_no_completion_price() -> None:
    assert prices_of(replace(PRICED, completion_price=None, apis=("embeddings",))) == Prices(
        2_500_000,
        2_500_000,
        0,
        "USD",
    )


def test_the_highest_prices_are_those_of_all_deployments_and_of_one_currency() -> None:
    one, two = Prices(1, 9, 3, "USD"), Prices(2, 1, 2, "USD")
    assert highest_prices([one, two]) == Prices(2, 9, 3, "USD")
    longer = structs.replace(two, above=100, long=Prices(7, 7, 1, "USD"))
    longest = structs.replace(one, above=90, long=Prices(5, 5, 5, "USD"))
    assert highest_prices([one, longer, longest]) == Prices(2, 9, 3, "USD", 90, Prices(7, 9, 5, "USD"))
    assert highest_prices([one, None]) is highest_prices([]) is None
    assert highest_prices([one, structs.replace(two, currency="EUR")]) is None


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0, "0.00"), (1, "0.000001"), (10_000, "0.01"), (2_500_000, "2.50"), (1_234_567, "1.234567")],
)
def test_an_amount_is_written_exactly(cost: int, text: str) -> None:
    assert amount_text(cost) == text and millionths(Decimal(text)) == cost
    assert (money_text(cost, "USD"), money_text(cost, "EUR")) == (f"${text}", f"{text} EUR")
    assert money_text(1_234_000_000, "EUR") == "1,234.00 EUR"
