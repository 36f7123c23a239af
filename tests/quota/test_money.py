"""Budgets in money, through the whole app: what a call holds, what it is charged, and when it is refused."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest

from shared.core.counts import UsageRow
from shared.core.models import Deployment
from shared.core.money import millionths
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.standing import TOTAL_ROW
from tests.conftest import Stage
from tests.quota.helpers import get_event, post, row_key, sweep
from tests.responses import response_of
from tools.simulator import Answer, CutStream, Failure

PROMPT, CACHED, COMPLETION = Decimal("2.500001"), Decimal("0.3"), Decimal(10)


async def priced(stage: Stage, **changes: Any) -> str:
    """A model of one deployment with prices."""
    prices = {"prompt_price": PROMPT, "cached_prompt_price": CACHED, "completion_price": COMPLETION}
    return await stage.add_deployment(**(prices | changes))


async def event_of(stage: Stage, model: str, **limits: object) -> str:
    return await stage.add_event(models=(model,), default_model=model, **limits)


def dollars(amount: str) -> int:
    return millionths(Decimal(amount))


async def usage_of(stage: Stage, code: str) -> list[UsageRow]:
    assert stage.web._wiring is not None
    await stage.web._wiring.tally.flush()
    return list(await stage.tables.usage(code))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_charged_its_tokens_times_the_prices(stage: Stage, stream: bool) -> None:
    model = await priced(stage)
    code = await event_of(stage, model, cost_per_day=dollars("2"))
    stage.simulator.always(model, Answer(prompt_tokens=1000, completion_tokens=70, cached_tokens=0))
    response = await post(stage, code, stream=stream)
    await sweep(stage)
    row = await stage.tables.read_ledger(row_key(code))
    assert row.used.cost == row.granted.cost == 2501 + 700  # 2500.001 is rounded up
    assert (await usage_of(stage, code))[0].counts.cost == row.used.cost
    assert response.headers["x-event-budget-limit"] == "2.00"
    assert (await get_event(stage, code))["budget"] == {
        "limit": 2,
        "used": 0.003201,
        "remaining": 1.996799,
        "currency": "USD",
    }
    refused = await post(stage, code, model="no-such")
    assert refused.headers["x-event-budget-remaining"] == "1.996799"


async def test_cached_prompt_tokens_have_their_own_price(stage: Stage) -> None:
    model = await priced(stage, prompt_price=Decimal(3))
    code = await event_of(stage, model, cost_total=dollars("2"))
    stage.simulator.always(model, Answer(cached_tokens=5, prompt_tokens=1000, completion_tokens=0))
    await post(stage, code)
    body = {"model": model, "input": "Tell me about glove boxes."}
    response = await response_of(stage.post("/v1/responses", headers={"api-key": f"{code}/amy"}, json=body))
    usage = json.loads(response.body)["usage"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    assert cached > 0
    (row,) = await usage_of(stage, code)
    chat = 995 * 3_000_000 + 5 * 300_000
    other = (usage["input_tokens"] - cached) * 3_000_000 + cached * 300_000
    other += usage["output_tokens"] * 10_000_000
    assert row.counts.cached_tokens == 5 + cached
    assert row.counts.cost == -(-chat // 10**6) + -(-other // 10**6)


async def test_a_call_holds_the_highest_price_and_is_charged_that_of_the_deployment_that_served(
    stage: Stage,
) -> None:
    model = await priced(stage, prompt_price=Decimal(1), completion_price=Decimal(1))
    await stage.tables.put_deployment(
        Deployment(
            model,
            f"{model}-dear",
            stage.simulator.url,
            f"{model}-dear",
            auth="SIMULATOR_KEY",
            priority=2,
            prompt_price=Decimal(100),
            completion_price=Decimal(1000),
        )
    )
    for name in (model, f"{model}-dear"):
        stage.simulator.always(name, Answer(prompt_tokens=20, completion_tokens=30))
    code = await event_of(stage, model, cost_per_day=dollars("1"), max_output_tokens=100)
    first = await post(stage, code)
    assert first.headers["x-event-budget-remaining"] == "0.99995"
    stage.simulator.behave(model, Failure(503))
    second = await post(stage, code)
    assert second.headers["x-event-budget-remaining"] == "0.96795"  # 20 * 100 + 30 * 1000 millionths
    small = await event_of(stage, model, cost_per_day=dollars("0.02"))
    lowered = await post(stage, small)
    assert 16 <= int(lowered.headers["x-event-max-output-tokens"]) < 20


async def test_too_little_money_lowers_the_output_and_then_refuses_until_tomorrow(stage: Stage) -> None:
    model = await priced(stage, completion_price=Decimal(1000))
    code = await event_of(stage, model, cost_per_day=dollars("0.1"))
    stage.simulator.always(model, Answer(prompt_tokens=20, completion_tokens=90))
    response = await post(stage, code)
    assert 95 <= int(response.headers["x-event-max-output-tokens"]) <= 100
    refused = await post(stage, code)
    assert (refused.status, refused.error["code"], refused.error["type"]) == (
        429,
        "budget_exceeded",
        "insufficient_quota",
    )
    assert re.fullmatch(
        r"You have \$0\.\d+ of \$0\.10 left today, too little for this request\. You can continue on .* UTC\.",
        refused.error["message"],
    )
    assert refused.headers["x-should-retry"] == "false"


async def test_the_money_of_the_event_is_refused_without_its_figures(stage: Stage) -> None:
    model = await priced(stage, completion_price=Decimal(1000))
    code = await event_of(stage, model, cost_total=dollars("0.1"), organizer="Kim")
    stage.simulator.always(model, Answer(prompt_tokens=20, completion_tokens=80))
    response = await post(stage, code)
    refused = [await post(stage, code) for _ in range(3)][-1]
    assert (refused.status, refused.error["code"]) == (429, "event_budget_exceeded")
    assert "$" not in refused.error["message"] and "Kim" in refused.error["message"]
    assert not any(name.startswith("x-event-budget") for name in response.headers)
    shown = await get_event(stage, code)
    assert shown["budget"] is None and shown["total_is_used"] is True


@pytest.mark.parametrize(("left", "is_used"), [(15, True), (16, False)])
async def test_an_event_shows_that_no_short_call_fits_into_its_budget(
    stage: Stage, left: int, is_used: bool
) -> None:
    """The shortest call costs 16 millionths: its 32 tokens cost half a millionth each."""
    model = await priced(stage, prompt_price=Decimal("0.5"), completion_price=Decimal("0.5"))
    code = await event_of(stage, model, cost_total=1000 + left, cost_per_day=5)
    await stage.tables.write_ledger(Key(code, TOTAL_ROW), LedgerRow(Amount(cost=1000), Amount(cost=1000)))
    shown = await get_event(stage, code)
    assert shown["total_is_used"] is is_used and shown["least_cost"] == 0.000016
    assert shown["budget"]["remaining"] < shown["least_cost"]


@pytest.mark.parametrize("limit", ["cost_per_day", "cost_total"])
async def test_a_call_that_costs_more_than_the_whole_budget_must_be_shorter(stage: Stage, limit: str) -> None:
    model = await priced(stage)
    code = await event_of(stage, model, **{limit: 2000})
    refused = await post(stage, code, messages=[{"role": "user", "content": "What is a glove box? " * 400}])
    kind = "budget_exceeded" if limit == "cost_per_day" else "event_budget_exceeded"
    owner = r"your daily budget of \$0\.002" if limit == "cost_per_day" else r"this event's budget"
    assert (refused.status, refused.error["code"]) == (429, kind)
    assert re.fullmatch(
        rf"Your message is too long: it can cost \$0\.00\d+, more than {owner}\. "
        r"Send a shorter one, or use a cheaper model\.",
        refused.error["message"],
    )


async def test_a_linked_file_that_can_cost_more_than_the_budget_is_named(stage: Stage) -> None:
    model = await priced(stage)
    code = await event_of(stage, model, cost_per_day=2000)
    part = {"type": "file", "file": {"filename": "a.pdf"}}
    refused = await post(stage, code, messages=[{"role": "user", "content": [part]}])
    assert re.fullmatch(
        r"Your request is too large: it can cost \$\d+\.\d+, more than your daily budget of \$0\.002\. A file "
        r"whose content is not in the request can cost up to [\d,]+ tokens\. Send its content, as "
        r"'file_data', or use a cheaper model\.",
        refused.error["message"],
    )


@pytest.mark.parametrize("changes", [{"prompt_price": None}, {"completion_price": None}, {"currency": "EUR"}])
async def test_a_model_without_a_price_is_closed_in_an_event_with_a_budget(
    stage: Stage, changes: dict[str, Any]
) -> None:
    model = await priced(stage, **changes)
    code = await event_of(stage, model, cost_total=dollars("2"), requests_per_day=5)
    refused = await post(stage, code)
    assert (refused.status, refused.error["code"]) == (503, "model_not_priced")
    assert not [call for call in stage.simulator.calls if call.deployment == model]
    assert refused.headers["x-ratelimit-remaining-requests"] == "5"
    assert (await post(stage, await event_of(stage, model))).status == 200


async def test_an_event_with_a_budget_allows_no_hosted_tool(stage: Stage) -> None:
    model = await priced(stage)
    code = await event_of(stage, model, cost_total=dollars("2"), tools=("web_search",))
    body = {"model": model, "input": "Hi", "tools": [{"type": "web_search"}]}
    response = await response_of(stage.post("/v1/responses", headers={"api-key": f"{code}/amy"}, json=body))
    assert response.error["code"] == "tool_not_allowed"


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ('"service_tier": "priority"', "service_tier"),
        (r'"service\u005ftier": "priority"', "service_tier"),
        ('"web_search_options": {}', "web_search_options"),
        ('"service_tier": "default", "user": "web_search_options"', None),
    ],
)
async def test_a_call_that_costs_more_than_its_tokens_is_refused_in_an_event_with_a_budget(
    stage: Stage, member: str, name: str | None
) -> None:
    model = await priced(stage)
    body = f'{{"messages": [{{"role": "user", "content": "Hi"}}], {member}}}'
    for limits in ({}, {"cost_total": dollars("2")}):
        code = await event_of(stage, model, **limits)
        response = await response_of(stage.post(headers={"api-key": f"{code}/amy"}, data=body))
        if limits and name:
            assert (response.error["code"], response.error["param"]) == ("unsupported_value", name)
        else:
            assert response.status == 200


async def test_a_cut_stream_is_charged_by_the_bound_of_its_tokens(stage: Stage) -> None:
    model = await priced(stage)
    code = await event_of(stage, model, cost_per_day=dollars("2"))
    stage.simulator.behave(model, CutStream(after=5))
    await post(stage, code, stream=True)
    await sweep(stage)
    used = (await stage.tables.read_ledger(row_key(code))).used
    (row,) = await usage_of(stage, code)
    exact = row.counts.prompt_tokens * PROMPT + row.counts.completion_tokens * COMPLETION
    assert 0 < exact <= used.cost == row.counts.cost < exact + 1


async def test_an_attendee_can_have_a_budget_of_their_own(stage: Stage) -> None:
    model = await priced(stage)
    code = await event_of(
        stage, model, cost_per_day=dollars("2"), exceptions={"amy": {"cost_per_day": dollars("5")}}
    )
    limits = [(await post(stage, code, user)).headers["x-event-budget-limit"] for user in ("amy", "bob")]
    assert limits == ["5.00", "2.00"]


async def test_an_event_without_a_budget_counts_its_cost(stage: Stage) -> None:
    model = await priced(stage)
    code = await event_of(stage, model)
    stage.simulator.always(model, Answer(prompt_tokens=1000, completion_tokens=70))
    response = await post(stage, code)
    assert (await usage_of(stage, code))[0].counts.cost == 2501 + 700
    assert not any(name.startswith("x-event-budget") for name in response.headers)
