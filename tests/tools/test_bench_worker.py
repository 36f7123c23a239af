"""The app in the worker library of the cloud, in the benchmark."""

import re

import pytest

from tools.bench import report, rounds
from tools.bench.results import PASSTHROUGH, SCENARIOS, WORKER, Plan
from tools.official_runtime import AVAILABLE, WHY_NOT

BRIEF = Plan(rounds=1, seconds=0.25, warm_seconds=0.05, memory_answers=0)


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
@pytest.mark.timeout(200)
def test_the_worker_serves_every_scenario_of_the_passthrough_and_has_the_headline() -> None:
    page = report.text(rounds.run(BRIEF, lambda _: None), {})
    beside, rest = page.split("## Side by side")[1].split("## Every figure")
    every, busy = rest.split("## How busy each process was")
    for name in (PASSTHROUGH, WORKER):
        assert len(re.findall(rf"(?m)^\| {name} \| [\d,]+ \|", beside)) == 1
    for part in (every, busy):
        rows = [len(re.findall(rf"(?m)^\|.*\| {name} \| [\d,.]+ ", part)) for name in (PASSTHROUGH, WORKER)]
        assert rows == [len(SCENARIOS) - 1, len(SCENARIOS)]
    assert "Every response was right." in page
    assert f"The targets are for `{WORKER}`." in page
