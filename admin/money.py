"""Amounts of money and prices in options. They are decimals: 0.15 has no exact float."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import click

from shared.core.models import LongPrices
from shared.core.money import DECIMALS, HIGHEST_BUDGET, HIGHEST_PRICE, is_currency


class Money(click.ParamType[Decimal]):
    """An amount from 0 to `highest`, with at most 6 decimals."""

    name = "amount"

    def __init__(self, highest: int, example: str) -> None:
        self._highest, self._example = highest, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        text = str(value).strip()
        try:
            amount = Decimal(text)
        except InvalidOperation:
            amount = Decimal("nan")
        if not amount.is_finite() or not set(text) <= set("0123456789.+-"):
            advice = "Use a point and no commas" if "," in text else "Use only digits and a point"
            self.fail(f"{value!r} is not an amount. {advice}. Example: {self._example}.", param, ctx)
        if not 0 <= amount <= self._highest:
            self.fail(f"{value} is out of range. Use 0 to {self._highest:,}.", param, ctx)
        if amount != round(amount, DECIMALS):
            self.fail(f"{value} has more than {DECIMALS} decimals. Round it.", param, ctx)
        return amount


class LongPricesType(click.ParamType[LongPrices]):
    """`TOKENS:PROMPT/CACHED/COMPLETION`, such as `272000:5/0.5/22.5`."""

    name = "prices"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LongPrices:
        above, _, rest = str(value).partition(":")
        amounts = rest.split("/")
        if not (above.isascii() and above.isdecimal() and int(above) >= 1 and len(amounts) == 3):
            example = "Use TOKENS:PROMPT/CACHED/COMPLETION, such as 272000:5/0.5/22.5."
            self.fail(f"{value!r} has the wrong form. {example}", param, ctx)
        return LongPrices(int(above), *(PRICE.convert(one, param, ctx) for one in amounts))


class Currency(click.ParamType[str]):
    """A code of three letters, such as USD."""

    name = "currency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        code = str(value).strip().upper()
        if not is_currency(code):
            self.fail(f"{value!r} is not a currency. Use a code of three letters, such as USD.", param, ctx)
        return code


PRICE = Money(HIGHEST_PRICE, "0.15")
LONG_PRICES = LongPricesType()
BUDGET = Money(HIGHEST_BUDGET, "200")
CURRENCY = Currency()
