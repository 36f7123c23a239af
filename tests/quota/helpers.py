"""Values, fakes and calls that several tests of the quota share."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shared.core.errors import ProxyError
from shared.core.models import Credential, Event, Usage
from shared.core.money import FREE
from shared.quota.hold import Hold, Need
from shared.quota.ledger_row import Key
from shared.quota.quota import Quota
from shared.quota.standing import TOTAL_ROW
from tests.conftest import EVENT, QUESTION, Stage
from tests.responses import WireResponse, response_of

IDLE_SECONDS = 600.0
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
AMY, BOB = Credential("hackathon", "amy"), Credential("hackathon", "bob")
KEY = Key("hackathon", "amy:2026-01-31")
TOTAL = Key("hackathon", TOTAL_ROW)
NEED = Need(prompt_tokens=20, output_limit=100, choices=1)


async def no_sleep(_: float) -> None:
    await asyncio.sleep(0)


async def turn_loop() -> None:
    """Let every task run until it waits for something."""
    for _ in range(8):
        await asyncio.sleep(0)


def event_with(**limits: int | None) -> Event:
    return replace(EVENT, **limits)  # type: ignore[arg-type]


async def hold_for(
    quota: Quota, credential: Credential, event: Event, need: Need = NEED, now: datetime = NOW
) -> Hold:
    """Hold for a call whose prompt costs exactly its bound."""

    async def count() -> int:
        return need.prompt_tokens

    return await quota.hold(credential, event, need, count, now)


async def call(quota: Quota, event: Event, credential: Credential = AMY) -> str:
    """Make a call that uses 50 tokens; returns "ok" or the code of the refusal."""
    try:
        hold = await hold_for(quota, credential, event)
    except ProxyError as error:
        return error.code
    hold.settle(Usage(20, 30), FREE)
    return "ok"


def row_key(code: str, user: str = "amy") -> Key:
    """The key of a user's row of today, in an event whose day is in UTC."""
    return Key(code, f"{user}:{datetime.now(UTC).date().isoformat()}")


async def post(stage: Stage, code: str, user: str = "amy", **body: object) -> WireResponse:
    """One chat completion of a user of the event."""
    return await response_of(stage.post(headers={"api-key": f"{code}/{user}"}, json=QUESTION | body))


async def post_many(stage: Stage, code: str, calls: int) -> list[int]:
    """The statuses of several calls, one after another."""
    return [(await post(stage, code)).status for _ in range(calls)]


async def sweep(stage: Stage) -> None:
    """Write everything that the instance knows to the table."""
    assert stage.web._wiring is not None
    await stage.web._wiring.quota.sweep(everything=True)


async def get_event(stage: Stage, code: str, user: str = "amy") -> dict[str, Any]:
    """The response to `GET /v1/event`."""
    headers = {"api-key": f"{code}/{user}"}
    response = await response_of(stage.http.get(f"{stage.url}/v1/event", headers=headers))
    event: dict[str, Any] = json.loads(response.body)
    return event
