"""`manage.py events rehearse`: real requests, a budget of its own, and what they show."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.admin.manage import Result, manage, start
from tests.conftest import Stage
from tools.azurite import Azurite
from tools.simulator import Answer, RateLimited

SHORT = ("--attendees", "8", "--minutes", "0.03")


async def event_with_price(stage: Stage, price: int = 1, **limits: Any) -> tuple[str, str]:
    model = await stage.add_deployment(prompt_price=Decimal(price), completion_price=Decimal(price))
    stage.simulator.always(model, Answer("Short."))
    return await stage.add_event(models=(model,), default_model=model, **limits), model


async def rehearse(stage: Stage, azurite: Azurite, code: str, *options: str) -> Result:
    return await manage(azurite, "events", "rehearse", code, "--url", stage.url, *SHORT, *options)


async def test_attendees_ask_and_the_report_has_times_and_money(stage: Stage, azurite: Azurite) -> None:
    code, model = await event_with_price(stage, cost_total=2_000_000)
    found = (await rehearse(stage, azurite, code, "--json")).json
    calls = [call for call in stage.simulator.calls if call.deployment == model]
    assert found["requests"] == found["served"] == len(calls) >= 8
    assert found["spent"] == sum(call.usage.total for call in calls if call.usage)
    assert found["enough_for_attendees"] == found["attendees"] == 8 and found["is_lower_bound"]
    assert found["first_byte_seconds"]["median"] <= found["answer_seconds"]["median"]
    keys = {call.json["messages"][0]["content"] for call in calls}
    assert len(keys) == len(calls), "each prompt differs, so that none comes from a cache"
    text = await rehearse(stage, azurite, code)
    assert "8 attendees ask" in text.errors and "Prompts: 6 of 10 have about 200 tokens" in text.errors
    assert "Enough for    at least 8 attendees" in text.output and "Budget        $2.00 last" in text.output


async def test_a_rehearsal_never_costs_more_than_its_budget(stage: Stage, azurite: Azurite) -> None:
    code, _ = await event_with_price(stage, price=400)
    found = (await rehearse(stage, azurite, code, "--budget", "0.5", "--json")).json
    assert found["ended_by"] == "budget" and found["spent"] <= 500_000


async def test_a_deployment_at_its_limit_is_named(stage: Stage, azurite: Azurite) -> None:
    code, model = await event_with_price(stage)
    stage.simulator.always(model, RateLimited())
    found = (await rehearse(stage, azurite, code, "--json")).json
    assert found["not_served"].keys() == {"upstream_busy"} and not found["is_lower_bound"]
    assert found["deployments_at_their_limit"] == {model: "429"}
    assert found["enough_for_attendees"] < 8


async def test_ctrl_c_reports_what_was_seen(stage: Stage, azurite: Azurite) -> None:
    code, model = await event_with_price(stage)
    command = ("events", "rehearse", code, "--url", stage.url, "--attendees", "3", "--minutes", "0.2")
    process = await start(azurite, *command)
    await stage.simulator.until(lambda calls: any(call.deployment == model for call in calls), 30)
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert output.decode().startswith("You stopped it.\n") and "Requests      " in output.decode()


async def test_a_model_without_a_price_is_not_rehearsed(stage: Stage, azurite: Azurite) -> None:
    model = await stage.add_deployment()
    code = await stage.add_event(models=(model,), default_model=model)
    assert f"{model} has no price in USD." in (await rehearse(stage, azurite, code)).error


async def test_a_closed_event_is_not_rehearsed(stage: Stage, azurite: Azurite) -> None:
    now, hour = datetime.now(UTC), timedelta(hours=1)
    closed = {"--ends +2h": {"ends_at": now - hour}, "--starts now": {"starts_at": now + hour}}
    for option, times in closed.items():
        code = await stage.add_event(**times)
        assert f"`events update {code} {option}`" in (await rehearse(stage, azurite, code)).error
    code = await stage.add_event(active=False)
    assert f"`events update {code} --resume`" in (await rehearse(stage, azurite, code)).error
