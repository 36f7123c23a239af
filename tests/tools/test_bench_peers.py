"""Other proxies in the benchmark: how they are found and run, and that their faults stay theirs.

Small programs stand for them, so none needs to be installed.
"""

import re
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from tests.tools.checkout import write_script
from tools.bench import peers, report, run
from tools.bench.peers import LeftOut
from tools.bench.results import Plan, Results, Sample
from tools.bench.scenarios import PLAIN_16, SCENARIOS
from tools.bench.targets import LOCAL, PASSTHROUGH, Program
from tools.processes import ROOT

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.skipif(sys.platform == "win32", reason="peers take part on Linux and macOS"),
]

BRIEF = Plan(rounds=1, seconds=0.5, warm_seconds=0.1, memory_responses=0)
FIGURE = r"[\d,.]+"
SPREAD = rf"{FIGURE} \({FIGURE} to {FIGURE}\)"
BUSY = rf"{FIGURE} / {FIGURE} / {FIGURE}"
BREAKING = """
import sys
from aiohttp import web
from tools.bench import passthrough

@web.middleware
async def once(request, handler, good=[True]):
    if good and good.pop():
        return await handler(request)
    sys.stderr.write("out of order\\n")
    return web.Response(status=500, text="broken")

app = passthrough.create_app(f"http://127.0.0.1:{sys.argv[2]}")
app.middlewares.append(once)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
"""
DYING = "import os, sys; sys.exit('the reason ' + ' '.join(sorted(os.environ)))"
SMALL_PEERS = {
    "honest": ["-m", "tools.bench.passthrough"],
    "breaking": ["-c", BREAKING],
    "dying": ["-c", DYING],
}


def small_peer(name: str, *code: str) -> Program:
    """Runs Python code, with the ports to serve on and of the upstream as its arguments."""
    env = peers.environment(PYTHONPATH=str(ROOT))
    return Program(name, lambda _, *ports: [sys.executable, *code, *map(str, ports)], env)


@pytest.fixture(scope="module")
def figures() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET_OF_OURS", "x")
        found = {name: partial(small_peer, name, *code) for name, code in SMALL_PEERS.items()}
        results = run.run(BRIEF, LOCAL, *peers.found({"absent": absent, **found}))
        return f"{report.summary(results)}\n\n{report.details(results)}"


def absent() -> Program:
    raise LeftOut("it is not here. Install it.")


def rows_of(figures: str, name: str) -> list[str]:
    return re.findall(rf"(?m)^\|.*?\| {name} \| (.*) \|$", figures)


def test_peer_has_every_figure_of_the_passthrough(figures: str) -> None:
    for name, ratio in ((PASSTHROUGH, ""), ("honest", FIGURE)):
        *plain, streams, paced = rows_of(figures, name)
        assert len(plain) + 2 == len(SCENARIOS) - 2
        assert re.fullmatch(rf"{FIGURE} \| {ratio} \| {FIGURE} \| {ratio} \|  \|  \|  \| {BUSY}", plain[0])
        assert re.fullmatch(rf"{FIGURE} \| {ratio} \| {FIGURE} \| {ratio} \|  \|  \|  \| {BUSY}", streams)
        cells = [SPREAD, ratio, SPREAD, ratio, SPREAD, SPREAD, "", BUSY]
        assert re.fullmatch(r" \| ".join(cells), paced)
        assert re.search(rf"(?m)^\| {name} (\| {FIGURE} ){{5}}\| \d+ \|$", figures)


def test_peer_with_wrong_responses_takes_no_further_part_and_affects_no_other(figures: str) -> None:
    assert all(row.startswith("- |") for row in rows_of(figures, "breaking"))
    reason = figures.split("breaking took no further part:\n\n")[1]
    first = rf'    in "{PLAIN_16.name}": \d+ x status 500: broken. Its last lines:\n    out of order'
    assert re.match(first, reason)
    assert "Every response that counts was right." in figures
    assert "not measured" not in figures


def test_peer_that_does_not_start_is_reported_and_has_none_of_our_environment(figures: str) -> None:
    assert "| dying | - | - | - | - | - | - |" in figures
    assert "exit status 1" in figures
    assert re.search(r"    the reason HOME (LC_CTYPE )?PATH PYTHONPATH$", figures, re.MULTILINE)
    assert "A_SECRET_OF_OURS" not in figures


def test_peer_that_cannot_run_here_is_left_out_with_the_reason(figures: str) -> None:
    assert "absent took no further part:\n\n    it is not here. Install it." in figures


def test_nginx_that_is_not_installed_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(LeftOut, match="not on this machine's PATH"):
        peers.nginx(str(tmp_path))


def test_nginx_on_the_path_is_used(tmp_path: Path) -> None:
    write_script(tmp_path / "nginx", "echo nginx version: nginx/1.2.3 '(Some)' >&2")
    peer = peers.nginx(str(tmp_path))
    assert peer.name == "nginx 1.2.3"
    assert peer.command(tmp_path, 1234, 5678)[0] == str(tmp_path / "nginx")
    config = (tmp_path / "nginx.conf").read_text()
    assert "listen 127.0.0.1:1234 " in config
    assert "server 127.0.0.1:5678;" in config


def test_nginx_that_does_not_run_is_left_out_with_its_message(tmp_path: Path) -> None:
    write_script(tmp_path / "nginx", "echo libssl.so.3: not found >&2; exit 127")
    with pytest.raises(LeftOut, match=r"does not run here[\s\S]*libssl\.so\.3"):
        peers.nginx(str(tmp_path))


def test_all_packages_of_litellm_are_pinned_and_none_is_a_malicious_release() -> None:
    lines = peers.LITELLM_REQUIREMENTS.read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)?", pin) for pin in pins)
    assert not {f"litellm=={bad}" for bad in ("1.82.7", "1.82.8", "1.107.0")} & set(pins)
    assert sum(pin.startswith("litellm==") for pin in pins) == 1


def test_compiled_peer_is_pinned_by_version_and_hashes() -> None:
    lines = peers.FERROGW_REQUIREMENTS.read_text().splitlines()
    pin, *hashes = (line.removesuffix(" \\") for line in lines if not line.startswith("#"))
    assert re.fullmatch(r"ferrogw==[\d.]+", pin)
    assert hashes and all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}", one) for one in hashes)


def test_target_beside_the_compiled_peer_is_in_the_summary() -> None:
    sample = Sample(rate=100, cpu=1, p50=1, p99=1, table_calls=0, busy=1, generator_busy=0, upstream_busy=0)
    name = f"{peers.COMPILED} 1.0"
    results = Results(BRIEF, LOCAL, (name,))
    for scenario, target in product(SCENARIOS, (LOCAL, PASSTHROUGH, name)):
        results.samples[scenario, target] = [replace(sample, rate=50) if target == name else sample]
    summary = report.summary(results)
    assert (
        f"| {PLAIN_16.name}: requests a second, ratio to {name} | at least 1 | 2.00 |  | reached |" in summary
    )
    assert f"| streams at full speed: chunks a second, ratio to {name} | at least 1 | 2.00 |" in summary
