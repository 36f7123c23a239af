"""The benchmark's parts, and one short run of all of it. How fast anything is, no test says."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench import load, targets
from tools.bench.load import Failed
from tools.bench.measure import percentile
from tools.bench.mock import CHUNKS
from tools.bench.requests import PACE_MS, SLOW_MS, Kind, requests
from tools.bench.results import LOCAL, PASSTHROUGH, SCENARIOS, UPSTREAM
from tools.processes import ROOT


async def one_answer_each(port: int, kind: Kind, connections: int) -> load.Tally:
    """What came back while each connection had time for an answer at least."""
    async with load.running(port, requests(kind, users=3), connections, paced=kind is Kind.PACED) as tally:
        while tally.answers < connections:  # noqa: ASYNC110 - a tally tells nobody
            await asyncio.sleep(0.01)
    return tally


@pytest.mark.parametrize("through", [UPSTREAM, PASSTHROUGH])
@pytest.mark.parametrize("kind", Kind)
async def test_every_chunk_of_every_stream_is_counted(tmp_path: Path, kind: Kind, through: str) -> None:
    async with targets.mock(tmp_path) as upstream, targets.passthrough(tmp_path, upstream.port) as passing:
        port = upstream.port if through == UPSTREAM else passing.port
        tally = await one_answer_each(port, kind, connections=2)
    assert not tally.failures
    assert tally.chunks == (0 if kind in {Kind.PLAIN, Kind.SLOW} else tally.answers * CHUNKS)
    if kind is Kind.PACED:
        assert len(tally.delays) >= tally.chunks
        assert all(0 <= delay < CHUNKS * PACE_MS / 1000 for delay in tally.delays)
    if kind is Kind.SLOW:
        assert len(tally.delays) == tally.answers
        early_ms = 2  # the loop counts its timers in whole milliseconds, from the beginning of a turn
        assert all(delay >= (SLOW_MS - early_ms) / 1000 for delay in tally.delays)


async def test_chunks_count_when_they_arrive_though_no_stream_ends(tmp_path: Path) -> None:
    async with (
        targets.mock(tmp_path) as upstream,
        load.running(upstream.port, requests(Kind.PACED, users=3), 2, paced=True) as tally,
    ):
        for _ in range(2):
            tally.reset()
            while len(tally.delays) < 20:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
            assert (tally.arrived(), tally.answers) == (len(tally.delays), 0)


async def test_wrong_answers_fail_the_run(tmp_path: Path) -> None:
    async with targets.mock(tmp_path) as upstream, targets.passthrough(tmp_path, upstream.port) as passing:
        garbage = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: nonsense\r\ncontent-length: 2\r\n\r\n{}"
        with pytest.raises(Failed, match="status 417"):
            await load.first_answer(passing.port, garbage)


def test_requests_are_what_an_attendee_sends_and_rotate_over_the_users() -> None:
    sent = requests(Kind.STREAM, users=2)
    heads, bodies = zip(*(next(sent).split(b"\r\n\r\n") for _ in range(3)), strict=True)
    assert [head.split(b"api-key: ")[1].split(b"\r\n")[0] for head in heads] == [
        b"bench/user-0",
        b"bench/user-1",
        b"bench/user-0",
    ]
    assert json.loads(bodies[0])["stream"] is True


@pytest.mark.parametrize(("share", "value"), [(0, 1.0), (0.5, 3.0), (0.99, 4.0), (1, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


@pytest.mark.timeout(240)
def test_a_short_run_tells_every_figure_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    command = [
        sys.executable,
        "-m",
        "tools.bench",
        "--quick",
        "--local",
        "--rounds",
        "1",
        "--write",
        str(page),
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stderr
    written = page.read_text(encoding="utf-8")
    assert ran.stdout == written + "\n"
    for name in (LOCAL, PASSTHROUGH, UPSTREAM, *(scenario.name for scenario in SCENARIOS)):
        assert f"| {name}" in written
    assert written.count("**missed**") + written.count("| reached |") == 9
    assert "not measured" not in written
