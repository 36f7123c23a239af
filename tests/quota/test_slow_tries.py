"""A deployment that has the prompt and is too slow may charge for its work, like the one that serves the call then.

So the quota covers both, or the call goes to no other deployment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from shared.quota.amounts import Amount
from shared.quota.ledger_row import LedgerRow
from tests.conftest import Stage
from tests.quota.helpers import post, row_key, sweep
from tools.simulator import Answer, Failure, Slow

LIMIT = 100


@pytest.fixture(scope="module")
async def hasty(running: Stage) -> AsyncIterator[Stage]:
    """An instance with a short time limit for the beginning of a stream."""
    async with running.instance(
        PROXY_UPSTREAM_TIMEOUT_SECONDS="20", PROXY_UPSTREAM_FIRST_BYTE_SECONDS="1"
    ) as stage:
        yield stage


async def event_of(stage: Stage, **limits: int) -> tuple[str, str]:
    """An event and its model, whose first deployment takes the prompt and never responds."""
    prices: dict[str, Any] = {"prompt_price": Decimal(1), "completion_price": Decimal(1)}
    model = await stage.add_deployment(**prices)
    other: dict[str, Any] = {"model": model, "id": "other", "deployment_name": f"{model}-other"}
    await stage.add_deployment(priority=2, **other, **prices)
    stage.simulator.always(model, Slow(headers_seconds=60))
    stage.simulator.always(f"{model}-other", Answer(prompt_tokens=30, completion_tokens=10))
    code = await stage.add_event(models=(model,), default_model=model, max_output_tokens=LIMIT, **limits)
    return code, model


async def charged(stage: Stage, code: str) -> LedgerRow:
    """The row of the only call, when it is charged: that waits until the prompt is counted."""
    for _ in range(200):
        await sweep(stage)
        row = await stage.tables.read_ledger(row_key(code))
        if row.used.requests:
            return row
        await asyncio.sleep(0.05)
    raise AssertionError


@pytest.mark.parametrize("unit", ["tokens_per_day", "cost_per_day"])
async def test_the_try_that_was_too_slow_is_charged_as_well(hasty: Stage, unit: str) -> None:
    code, _ = await event_of(hasty, **{unit: 10_000})
    assert (await post(hasty, code, stream=True)).status == 200
    row = await charged(hasty, code)
    both = 30 + LIMIT + 30 + 10
    assert row.used == row.granted == Amount(1, both, both)
    assert hasty.web._wiring is not None
    await hasty.web._wiring.tally.flush()
    (usage,) = await hasty.tables.usage(code)
    assert (usage.counts.requests, usage.counts.cost) == (1, both)
    assert usage.counts.prompt_tokens + usage.counts.completion_tokens == both


@pytest.mark.parametrize("unit", ["tokens_per_day", "cost_per_day"])
async def test_the_call_goes_to_no_other_deployment_if_the_quota_does_not_cover_both(
    hasty: Stage, unit: str
) -> None:
    limit = 200
    code, model = await event_of(hasty, **{unit: limit})
    refused = await post(hasty, code, stream=True)
    assert (refused.status, refused.error["code"]) == (504, "upstream_timeout")
    assert hasty.simulator.totals[model].calls == 1
    assert f"{model}-other" not in hasty.simulator.totals
    row = await charged(hasty, code)
    assert row.used == row.granted and row.used.requests == 1
    assert LIMIT < row.used.tokens <= limit


@pytest.mark.parametrize(("upstream", "status"), [(500, 502), (400, 400)])
async def test_a_try_that_returns_an_error_after_a_slow_one_costs_nothing_more(
    hasty: Stage, upstream: int, status: int
) -> None:
    code, model = await event_of(hasty, tokens_per_day=10_000)
    hasty.simulator.always(f"{model}-other", Failure(upstream))
    assert (await post(hasty, code, stream=True)).status == status
    used = (await charged(hasty, code)).used
    assert used.requests == 1 and LIMIT < used.tokens < 2 * (LIMIT + 10)  # two tries cost more
