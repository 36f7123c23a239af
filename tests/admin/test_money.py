"""Money in `manage.py`: the prices of deployments, and the budgets of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from shared.core.counts import Counts, UsageRow
from shared.core.models import Deployment, LongPrices
from tests.admin.manage import DATES, manage
from tests.conftest import EVENT, MODEL
from tests.seeded_tables import Tables
from tools.azurite import Azurite

URL = "https://x.openai.azure.com"
_numbers = count(1)


@pytest.fixture
async def model(tables: Tables) -> AsyncIterator[str]:
    """The name of a model without deployments. They are deleted at the end."""
    name = f"money-{next(_numbers)}"
    yield name
    for one in await tables.deployments():
        if one.model == name:
            await tables.delete_deployment(one.model, one.id)


async def add(azurite: Azurite, model: str, *options: str) -> str:
    result = await manage(
        azurite, "deployments", "add", model, "--endpoint", URL, "--deployment", model, "--no-check", *options
    )
    assert result.status == 0, result.errors
    return result.output


async def stored(tables: Tables, model: str) -> Deployment:
    (one,) = [one for one in await tables.deployments() if one.model == model]
    return one


def prices(deployment: Deployment) -> tuple[Decimal | None, ...]:
    return deployment.prompt_price, deployment.cached_prompt_price, deployment.completion_price


async def test_add_takes_the_prices_of_the_list_and_says_so(tables: Tables, azurite: Azurite) -> None:
    name = "gpt-4.1-nano"
    output = await add(azurite, name)
    one = await stored(tables, name)
    await tables.delete_deployment(one.model, one.id)
    assert prices(one) == (Decimal("0.1"), Decimal("0.025"), Decimal("0.4"))
    assert (
        "Prices for 1,000,000 tokens in USD: prompt price 0.1, cached prompt price 0.025, "
        "completion price 0.4 (genai-prices 0.2.3, openai/gpt-4.1-nano)." in output
    )


async def test_options_replace_listed_prices_and_embeddings_have_no_completion_price(
    tables: Tables, azurite: Azurite
) -> None:
    name = "text-embedding-3-small"
    await add(azurite, name, "--prompt-price", "0.03")
    one = await stored(tables, name)
    await tables.delete_deployment(one.model, one.id)
    assert prices(one) == (Decimal("0.03"), None, None) and one.apis == ("embeddings",)


async def test_a_model_whose_long_prompts_cost_more_gets_both_prices(
    tables: Tables, azurite: Azurite
) -> None:
    name = "gpt-5.4"
    output = await add(azurite, name)
    one = await stored(tables, name)
    listed = (await manage(azurite, "deployments", "list", "--json")).json
    await tables.delete_deployment(one.model, one.id)
    assert prices(one) == (Decimal("2.5"), Decimal("0.25"), Decimal(15))
    assert one.long_prices == LongPrices(272_000, Decimal(5), Decimal("0.5"), Decimal("22.5"))
    assert "long prices 272000:5/0.5/22.5" in output
    assert [one["long_prices"] for one in listed if one["model"] == name] == ["272000:5/0.5/22.5"]


async def test_the_price_of_an_unknown_name_is_not_guessed(
    tables: Tables, azurite: Azurite, model: str
) -> None:
    output = await add(azurite, model)
    assert prices(await stored(tables, model)) == (None, None, None)
    assert f"The price of {model!r} is not known. Set it with --prompt-price" in output


async def test_a_list_in_another_currency_is_not_used_and_free_must_be_said(
    tables: Tables, azurite: Azurite, model: str
) -> None:
    output = await add(azurite, model, "--currency", "eur")
    assert "The list of prices has none in EUR." in output
    await add(azurite, model, "--prompt-price", "2", "--completion-price", "8", "--cached-prompt-price", "1")
    assert "2 / 8, cached 1 EUR" in (await manage(azurite, "deployments", "list")).output
    await add(azurite, model, "--free")
    assert prices(await stored(tables, model)) == (Decimal(0), None, Decimal(0))
    assert (await stored(tables, model)).currency == "EUR"


async def test_prices_are_compared_with_the_list(tables: Tables, azurite: Azurite) -> None:
    await tables.put_deployment(
        Deployment("gpt-4.1", "a", URL, "a", prompt_price=Decimal(2), completion_price=Decimal(9))
    )
    found = (await manage(azurite, "deployments", "prices", "--json")).json
    await tables.delete_deployment("gpt-4.1", "a")
    (one,) = [one for one in found if one["model"] == "gpt-4.1"]
    assert (one["price"], one["listed"], one["result"]) == ("2 / 9", "2 / 8, cached 0.5", "different")
    assert {one["result"] for one in found if one["model"].startswith("tried")} <= {"not in the list"}


async def test_an_event_keeps_its_budget_and_shows_it(tables: Tables, azurite: Azurite, model: str) -> None:
    await add(azurite, model, "--prompt-price", "2", "--completion-price", "8")
    options = ("--models", model, "--budget", "200", "--budget-per-day", "2.5")
    created = await manage(azurite, "events", "create", model, "--name", "Money", *DATES, *options)
    assert created.status == 0, created.errors
    assert "Your limits: $2.50 per day" in created.output and "200" not in created.output
    event = await tables.event(model)
    assert event is not None and (event.cost_total, event.cost_per_day) == (200_000_000, 2_500_000)
    shown = (await manage(azurite, "events", "show", model)).output
    assert "budget               $200.00\nbudget per day       $2.50\n" in shown
    assert "$200.00, $2.50 per day" in (await manage(azurite, "events", "list")).output
    changed = await manage(
        azurite, "events", "update", model, "--budget", "300.5", "--no-limit", "budget-per-day"
    )
    assert changed.status == 0, changed.errors
    event = await tables.event(model)
    assert event is not None and (event.cost_total, event.cost_per_day) == (300_500_000, None)
    zero = await manage(azurite, "events", "update", model, "--budget", "0")
    assert "--budget 0 refuses every request" in zero.output
    await tables.delete_event(model)


async def test_an_event_with_a_budget_needs_all_prices_in_its_currency(
    tables: Tables, azurite: Azurite, model: str
) -> None:
    await add(azurite, model)
    create = (
        "events",
        "create",
        model,
        "--name",
        "Money",
        *DATES,
        "--models",
        f"{model},{MODEL}",
        "--budget",
        "2",
    )
    refused = await manage(azurite, *create)
    one = await stored(tables, model)
    assert (
        f"{model} ({model}) has no price" in refused.error
        and f"{MODEL} ({MODEL}) has no price" in refused.error
    )
    assert "deployments update" in refused.error
    for currency, advice in (("EUR", f"{model} ({model}) has prices in EUR, not USD"), ("USD", "")):
        update = ("--prompt-price", "1", "--completion-price", "1", "--currency", currency)
        assert (await manage(azurite, "deployments", "update", model, one.id, *update)).status == 0
        result = await manage(azurite, *create[:-3], model, "--budget", "2")
        assert result.status == (2 if advice else 0), result.errors
        assert advice in result.errors
    refused = await manage(azurite, "events", "update", model, "--models", "")
    assert refused.status == 2 and "has no price" in refused.error
    assert (await manage(azurite, "events", "update", model, "--name", "Other")).status == 0
    await tables.delete_event(model)


async def test_a_deployment_that_closes_a_model_at_events_with_a_budget_is_noted(
    tables: Tables, azurite: Azurite, model: str
) -> None:
    await add(azurite, model, "--prompt-price", "1", "--completion-price", "2")
    code = f"{model}-event"
    ends_at = datetime.now(UTC) + timedelta(days=1)
    event = replace(EVENT, code=code, models=(model,), default_model=None, cost_total=5, ends_at=ends_at)
    await tables.put_event(event)
    updated = await manage(azurite, "deployments", "update", model, model, "--currency", "EUR")
    why = f"Events with a budget refuse requests to {model!r} now, because "
    assert f"Note: {why}its prices are in EUR: {code}. Set its prices" in updated.output
    updated = await manage(azurite, "deployments", "update", model, model, "--currency", "USD")
    assert why not in updated.output and updated.status == 0
    second = ("--endpoint", URL, "--deployment", "second", "--no-check")
    added = await manage(azurite, "deployments", "add", model, *second)
    assert f"{why}the deployment has no price: {code}" in added.output
    disabled = await manage(azurite, "deployments", "disable", model, "second")
    assert why not in disabled.output
    assert why in (await manage(azurite, "deployments", "enable", model, "second")).output
    await tables.delete_event(code)


YEN = ("--currency", "JPY")
BUDGETS = {"cost_total": 200_000_000, "cost_per_day": 2_000_000}


@pytest.mark.parametrize(
    ("columns", "spent", "options", "refused"),
    [
        (BUDGETS, 0, (), "has: --budget $200.00, --budget-per-day $2.00. Give the new amount in the same"),
        (BUDGETS, 5, ("--budget", "30000"), "same command: --budget-per-day AMOUNT. What is spent keeps"),
        ({}, 7_000_000, (), "has: spent $7.00. Give the new amount in the same command: --budget AMOUNT."),
        (BUDGETS, 5, ("--budget", "30000", "--budget-per-day", "300"), ""),
        (BUDGETS, 0, ("--no-limit", "budget", "--no-limit", "budget-per-day"), ""),
        (BUDGETS | {"currency": "JPY"}, 5, (), ""),
    ],
)
async def test_another_currency_needs_new_amounts(
    tables: Tables,
    azurite: Azurite,
    columns: dict[str, Any],
    spent: int,
    options: tuple[str, ...],
    refused: str,
) -> None:
    code = f"yen-{next(_numbers)}"
    await tables.put_event(replace(EVENT, code=code, models=("none",), default_model=None, **columns))
    row = UsageRow(code, datetime(2026, 12, 1, tzinfo=UTC), "amy", "none", Counts(1, cost=spent))
    await tables.write_usage([row], "w")
    result = await manage(azurite, "events", "update", code, *YEN, *options)
    event = await tables.event(code)
    assert event is not None and event.currency == ("USD" if refused else "JPY")
    assert result.status == (2 if refused else 0) and refused in result.errors, result.errors
    assert refused or "keeps its number, in JPY" in result.output
    await tables.delete_event(code)
