"""The benchmark's parts, and one short run of all of it. No test checks how fast anything is."""

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.bench import chart, growth, load, report
from tools.bench.scenarios import (
    PACE_MS,
    PACED,
    PLAIN_16,
    RESPONSES_STREAMS,
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
@pytest.mark.parametrize(
    "scenario", [PLAIN_16, SLOW_64, STREAMS, RESPONSES_STREAMS, PACED], ids=lambda one: one.name
)
async def test_every_chunk_of_a_stream_is_counted(tmp_path: Path, scenario: Scenario, through: str) -> None:
    scenario = replace(scenario, connections=2)
    async with (
        started(our_program(UPSTREAM), tmp_path) as upstream,
        started(our_program(PASSTHROUGH), tmp_path, upstream.port) as passing,
        load.running(
            (upstream if through == UPSTREAM else passing).port, scenario, requests(scenario)
        ) as tally,
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
    async with upstream as target, load.running(target.port, PACED, requests(PACED)) as tally:
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


def test_another_proxys_key_is_a_bearer_token() -> None:
    head = next(requests(PLAIN_16, "sk-1")).split(b"\r\n\r\n")[0].split(b"\r\n")
    assert b"authorization: Bearer sk-1" in head
    assert not any(line.startswith(b"api-key") for line in head)


def bench(*options: str) -> str:
    command = [sys.executable, "-m", "tools.bench", "--quick", "--rounds", "1", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_short_run_prints_every_figure_and_replaces_those_in_the_pages(tmp_path: Path) -> None:
    app, (begin, end) = WORKER if AVAILABLE else LOCAL, report.markers()
    pages = [tmp_path / "performance.md", tmp_path / "performance-runs.md"]
    for page in pages:
        page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    figures = bench("--write", str(tmp_path))
    summary, details = [
        re.fullmatch(f"before\n{begin}\n\n(.*)\n\n{end}\nafter\n", page.read_text(), re.DOTALL)
        for page in pages
    ]
    assert summary and details and figures == f"{summary[1]}\n\n{details[1]}\n"
    for name, count in ((app, len(SCENARIOS)), (PASSTHROUGH, len(SCENARIOS) - 2)):
        assert len(re.findall(rf"(?m)^\|.*\| {name} \| [\d,.]+ .*\| [-\d]", details[1])) == count
    assert all(f"| {scenario.name}: " in details[1] for scenario in SCENARIOS)
    assert summary[1].count("**missed**") + summary[1].count("| reached |") == 10
    assert len(re.findall(rf"(?m)^\| {app} (\| [\d.]+ ){{6}}\|$", summary[1])) == 1
    assert "not measured" not in figures
    assert f"targets are for `{app}`" in figures and "Every response that counts was right." in figures
    assert_chart(tmp_path / "images" / "speed.svg", app, PASSTHROUGH)


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_growth_prints_every_curve_and_writes_page_and_chart(tmp_path: Path) -> None:
    figures = bench("--growth", "--write", str(tmp_path))
    for curve in growth.QUICK:
        values = " / ".join(map(str, curve.values))
        row = rf"(?m)^\| {curve.name} \| {values} \| [\d,]+ / [\d,]+ \| \d+ / \d+ \| (do not|\*\*)"
        assert re.search(row, figures)
    assert figures.strip() in (tmp_path / "performance.md").read_text()
    assert_chart(tmp_path / "images" / "growth.svg", *(f"µs: {curve.name}" for curve in growth.QUICK))


def test_curve_bends_where_a_point_is_above_the_line_through_those_before() -> None:
    assert not growth.bends([(1, 100), (10, 110), (100, 210)])  # straight
    assert not growth.bends([(1, 100), (10, 90), (100, 100)])  # flat, with noise
    assert not growth.bends([(1, 100), (1000, 300), (100_000, 310)])
    assert growth.bends([(1, 100), (10, 110), (100, 400)])
    assert growth.bends([(1, 100), (10, 500), (20, 2000), (30, 3500)])


def test_names_in_a_chart_may_have_any_characters(tmp_path: Path) -> None:
    chart_file = tmp_path / "chart.svg"
    chart_file.write_text(chart.bars("a & b", [("<plain>", [chart.Bar("x & y", 3.0)])], 1.0, 2.0))
    assert_chart(chart_file, "<plain>", "x & y", "3.00 →")


def assert_chart(file: Path, *texts: str) -> None:
    found = {element.text for element in ElementTree.parse(file).iter("{http://www.w3.org/2000/svg}text")}
    assert {*texts} <= found
