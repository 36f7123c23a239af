"""The benchmark's parts, and one short run of all of it. No test checks how fast anything is."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench import load, report
from tools.bench.scenarios import (
    PACE_MS,
    PACED,
    PLAIN_16,
    SCENARIOS,
    SLOW_64,
    SLOW_MS,
    STREAMS,
    Scenario,
    requests,
)
from tools.bench.targets import LOCAL, PASSTHROUGH, UPSTREAM, WORKER, our_program, started
from tools.bench.upstream import CHUNKS
from tools.official_runtime import AVAILABLE
from tools.processes import ROOT


@pytest.mark.parametrize("through", [UPSTREAM, PASSTHROUGH])
@pytest.mark.parametrize("scenario", [PLAIN_16, SLOW_64, STREAMS, PACED], ids=lambda one: one.name)
async def test_every_chunk_of_a_stream_is_counted(tmp_path: Path, scenario: Scenario, through: str) -> None:
    scenario = replace(scenario, connections=2)
    async with (
        started(our_program(UPSTREAM), tmp_path) as upstream,
        started(our_program(PASSTHROUGH), tmp_path, upstream.port) as passing,
        load.running((upstream if through == UPSTREAM else passing).port, scenario) as tally,
    ):
        while tally.responses < 2:  # noqa: ASYNC110 - a tally has no event
            await asyncio.sleep(0.01)
    assert not tally.failures
    if scenario.paced:  # streams of which some are cut at the end
        assert tally.chunks == len(tally.delays) >= tally.responses * CHUNKS
        assert all(0 <= delay < CHUNKS * PACE_MS / 1000 for delay in tally.delays)
    else:
        assert tally.chunks == (tally.responses * CHUNKS if scenario.stream else 0)
        assert len(tally.delays) == (0 if scenario.stream else tally.responses)
    if scenario.pace == SLOW_64.pace:
        early_ms = 2  # the loop counts its timers in whole milliseconds, from the beginning of a turn
        assert all(delay >= (SLOW_MS - early_ms) / 1000 for delay in tally.delays)


async def test_chunks_count_when_they_arrive_though_no_stream_ends(tmp_path: Path) -> None:
    upstream = started(our_program(UPSTREAM), tmp_path)
    async with upstream as target, load.running(target.port, PACED) as tally:
        for _ in range(2):
            tally.reset()
            while len(tally.delays) < 200:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
            assert (tally.chunks, tally.responses) == (len(tally.delays), 0)


def test_requests_are_an_attendees_and_rotate_over_the_users() -> None:
    sent = requests(replace(STREAMS, users=2))
    heads, bodies = zip(*(next(sent).split(b"\r\n\r\n") for _ in range(3)), strict=True)
    users = [head.split(b"api-key: ")[1].split(b"\r\n")[0] for head in heads]
    assert users == [b"bench/user-0", b"bench/user-1", b"bench/user-0"]
    assert json.loads(bodies[0])["stream"] is True


@pytest.mark.timeout(240)
def test_short_run_prints_every_figure_and_replaces_those_in_the_page(tmp_path: Path) -> None:
    page, app = tmp_path / "performance.md", WORKER if AVAILABLE else LOCAL
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    options = ["--quick", "--rounds", "1", "--write", str(page)]
    command = [sys.executable, "-m", "tools.bench", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    figures = ran.stdout
    assert page.read_text() == f"before\n{report.BEGIN}\n\n{figures}\n{report.END}\nafter\n"
    for name, count in ((app, len(SCENARIOS)), (PASSTHROUGH, len(SCENARIOS) - 1)):
        assert len(re.findall(rf"(?m)^\|.*\| {name} \| [\d,.]+ .*\| [-\d]", figures)) == count
    assert all(f"| {scenario.name}: " in figures for scenario in SCENARIOS)
    assert figures.count("**missed**") + figures.count("| reached |") == 9
    assert "not measured" not in figures
    assert f"targets are for `{app}`" in figures and "Every response that counts was right." in figures
