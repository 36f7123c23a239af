"""The app in the cloud's own worker library, in the benchmark."""

import re
import subprocess
import sys

import pytest

from tools.bench import report, rounds
from tools.bench.results import APP, PASSTHROUGH, SCENARIOS, WORKER, Plan
from tools.official_runtime import AVAILABLE, WHY_NOT
from tools.processes import ROOT

BRIEF = Plan(rounds=1, seconds=0.25, warm_seconds=0.05, memory_answers=0)


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
@pytest.mark.timeout(200)
def test_the_worker_takes_part_in_all_scenarios_that_the_passthrough_does_and_answers_right() -> None:
    page = report.text(rounds.run(BRIEF, lambda _: None, with_worker=True), {})
    beside, rest = page.split("## Beside others")[1].split("## Every figure")
    every, busy = rest.split("## What else was under load")
    assert [
        len(re.findall(rf"(?m)^\| {name} \| [\d,]+ \|", beside)) for name in (APP, PASSTHROUGH, WORKER)
    ] == [1] * 3
    for part in (every, busy):
        rows = [len(re.findall(rf"(?m)^\|.*\| {name} \| [\d,.]+ ", part)) for name in (PASSTHROUGH, WORKER)]
        assert rows == [len(SCENARIOS) - 1] * 2
    assert "Every answer was right." in page
    assert page.split("\n")[2].startswith("Written by `python3 dev.py bench --worker --write` on ")


@pytest.mark.skipif(AVAILABLE, reason="this Python has the worker library")
def test_without_the_worker_library_it_is_told_which_command_has_it() -> None:
    command = [sys.executable, "-m", "tools.bench", "--worker"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "`python3 dev.py bench --python 3.13 --worker`" in ran.stderr
