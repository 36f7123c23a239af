"""`bench --overspend` measures a small run of the app, and more than the limit is a failure."""

from dataclasses import replace

import pytest

from tools.attack.stage import USER, opened
from tools.bench.overspend.results import OURS, Results, Row
from tools.bench.overspend.run import DAY, Plan, use_up

pytestmark = pytest.mark.one_python

SMALL = Plan(clients=12, instances=(1,), divisor=10, seconds=30)
REQUESTS = DAY[0]
ALLOWED = REQUESTS.allowed // SMALL.divisor


@pytest.mark.timeout(150)
async def test_app_serves_all_of_the_limit_and_what_is_above_it_is_a_failure() -> None:
    limit = REQUESTS.name
    async with opened(1) as stage:
        rows = []
        for admitted in (ALLOWED, ALLOWED + 1):
            code = await stage.add_event(**{limit: admitted})
            outcome = await use_up(stage, SMALL, REQUESTS, stage.urls, [f"{code}/{USER}"] * SMALL.clients)
            charged = (await stage.used(code, limit)).requests
            assert outcome.reached
            rows.append(Row(OURS, 1, limit, ALLOWED, outcome.billed, outcome.billed, charged))
    assert [row.served for row in rows] == [ALLOWED, ALLOWED + 1]
    assert [row.failed for row in rows] == [False, True]
    assert "| 1.000 / " in str(Results(SMALL.clients, "", rows[:1]))
    assert "| **1.050 / " in str(Results(SMALL.clients, "", rows[1:]))


@pytest.mark.parametrize(
    ("served", "reached", "charged", "failed"),
    [
        (1000, 970, 1000, False),
        (1001, 970, 1001, True),
        (1000, 969, 1000, True),
        (950, 950, 970, False),
        (950, 950, 969, True),
        (1000, None, 1000, True),
    ],
)
def test_early_refusal_is_a_failure_unless_cut_calls_were_charged(
    served: int, reached: int | None, charged: int, failed: bool
) -> None:
    row = Row(OURS, 3, "tokens_total", 1000, served, reached, charged)
    assert row.failed is Results(64, "", [row]).failed is failed
    assert not replace(row, proxy="another").failed
