"""Others in the benchmark: how they are found and run, and that what they do wrong spoils nothing.

None of them is needed: small programs stand for them.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench import peers, report, rounds
from tools.bench.peers import litellm, nginx, program
from tools.bench.peers.peer import LeftOut, Peer
from tools.bench.results import LOCAL, PASSTHROUGH, SCENARIOS, Plan
from tools.processes import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="peers take part on Linux and macOS")

BRIEF = Plan(rounds=1, seconds=0.25, warm_seconds=0.05, memory_answers=0)
FIGURE = r"[\d,.]+"
SPREAD = rf"{FIGURE} \({FIGURE} to {FIGURE}\)"
"""Of what is taken several times in the only round."""


def small_peer(name: str, *good: int) -> Peer:
    module = [sys.executable, "-m", "tests.tools.small_peer"]
    return Peer(
        name,
        policy="none at all.",
        command=lambda _, port, upstream: [*module, *map(str, (port, upstream, *good))],
        env={"PYTHONPATH": str(ROOT)},
    )


def dying_peer(name: str) -> Peer:
    dying = "import os, sys; sys.exit('not today, ' + ' '.join(sorted(os.environ)))"
    return Peer(name, policy="none.", command=lambda *_: [sys.executable, "-c", dying])


@pytest.fixture(scope="module")
def page() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET_OF_OURS", "x")
        taking_part = [small_peer("honest"), small_peer("breaking", 1), dying_peer("dying")]
        results = rounds.run(BRIEF, lambda _: None, taking_part, with_worker=False)
    return report.text(results, {"absent": "it is not here: install it."})


@pytest.mark.timeout(200)
def test_a_peer_gets_a_row_with_every_figure_beside_ours(page: str) -> None:
    for name, ratio in ((PASSTHROUGH, ""), (LOCAL, FIGURE), ("honest", FIGURE)):
        wanted = [FIGURE, ratio, FIGURE, ratio, FIGURE, ratio, SPREAD, FIGURE, FIGURE]
        assert re.fullmatch(r" \| ".join(wanted), row(page, name)), name


def test_a_peer_takes_part_in_all_scenarios_that_the_passthrough_does(page: str) -> None:
    every, busy = page.split("## Every figure")[1].split("## How busy each process was")
    for part in (every, busy):
        rows = [len(re.findall(rf"(?m)^\|.*\| {name} \|", part)) for name in (PASSTHROUGH, "honest")]
        assert rows == [len(SCENARIOS) - 1] * 2


def test_wrong_answers_of_a_peer_are_told_with_its_log_and_spoil_nothing(page: str) -> None:
    assert row(page, "breaking").startswith("failed |  | failed |  | failed |  | failed | ")
    told = page.split('breaking failed in "plain, 16 connections":')[1]
    assert re.match(r"\s+\d+ x status 500: broken; its last lines:\n    out of order", told)
    assert "Every other response was right." in page
    assert "not measured" not in page


def test_a_peer_that_does_not_start_is_told_with_its_last_words(page: str) -> None:
    assert row(page, "dying").startswith("did not start |")
    assert "exit status 1" in page
    assert "    not today, HOME " in page


def test_a_peer_sees_nothing_of_our_environment(page: str) -> None:
    assert "A_SECRET_OF_OURS" not in page
    assert re.search(r"not today, HOME (LC_CTYPE )?PATH$", page, re.MULTILINE)


def test_a_peer_that_cannot_be_had_is_left_out_with_the_reason(page: str) -> None:
    assert row(page, "absent").startswith("left out |")
    assert "absent is left out:\n\n    it is not here: install it." in page


def test_one_that_is_left_out_leaves_the_others_in() -> None:
    def missing() -> Peer:
        raise LeftOut("why")

    taking_part, left_out = peers.found({"one": missing, "two": lambda: small_peer("two")})
    assert ([peer.name for peer in taking_part], left_out) == (["two"], {"one": "why"})


def test_a_peer_is_the_process_that_was_started_and_ends_with_its_parent() -> None:
    command = [sys.executable, "-I", program.__file__, "/bin/sh", "-c", "echo $$; exec sleep 60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        assert int(process.stdout.readline()) == process.pid
        process.stdin.close()
        assert process.wait(20) == -15


def test_nginx_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(LeftOut, match=r"not on this machine's PATH, and there is no apt-get .*: install it"):
        nginx.found(str(tmp_path), tmp_path / "nginx")


def test_nginx_that_is_on_the_path_is_taken(tmp_path: Path) -> None:
    write_script(tmp_path / "nginx", "echo nginx version: nginx/1.2.3 '(Some)' >&2")
    peer = nginx.found(str(tmp_path), tmp_path / "folder")
    assert peer.name == "nginx 1.2.3"
    assert peer.command(tmp_path, 1234, 5678)[0] == str(tmp_path / "nginx")
    config = (tmp_path / "nginx.conf").read_text()
    assert "listen 127.0.0.1:1234 " in config
    assert "server 127.0.0.1:5678;" in config


def test_nginx_that_does_not_run_is_left_out_with_its_words(tmp_path: Path) -> None:
    write_script(tmp_path / "nginx", "echo libssl.so.3: not found >&2; exit 127")
    with pytest.raises(LeftOut, match=r"does not run here[\s\S]*libssl\.so\.3"):
        nginx.found(str(tmp_path), tmp_path / "folder")


def test_nginx_is_fetched_once_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a folder" / "nginx"
    write_script(tmp_path / "apt-get", "case $* in *download*) touch nginx_1.2.3.deb;; esac")
    unpacked = "$3/usr/sbin/nginx"
    write_script(
        tmp_path / "dpkg-deb",
        f"""test -e "$2" && mkdir -p "$3/usr/sbin" && printf '#!/bin/sh\necho nginx/1.2.3\n' > "{unpacked}"
        chmod 755 "{unpacked}\"""",
    )
    assert [nginx.found(str(tmp_path), folder).name for _ in range(2)] == ["nginx 1.2.3"] * 2
    assert capfd.readouterr().err.count("fetching nginx") == 1
    assert list(folder.parent.iterdir()) == [folder]


def test_what_apt_says_is_told_and_nothing_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "folder" / "nginx"
    write_script(tmp_path / "apt-get", "echo E: Unable to locate package nginx; exit 100")
    write_script(tmp_path / "dpkg-deb", "exit 1")
    with pytest.raises(LeftOut, match=r"could not fetch it[\s\S]*Unable to locate package nginx"):
        nginx.found(str(tmp_path), folder)
    assert list(folder.parent.iterdir()) == []


def test_all_that_litellm_brings_along_is_pinned_and_no_malicious_release() -> None:
    lines = (Path(litellm.__file__).parent / "litellm.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)?", pin) for pin in pins)
    assert not {f"litellm=={bad}" for bad in ("1.82.7", "1.82.8", "1.107.0")} & set(pins)
    assert sum(pin.startswith("litellm==") for pin in pins) == 1


def row(page: str, name: str) -> str:
    """Without the name, of the first table that has one of it."""
    return next(line for line in page.splitlines() if line.startswith(f"| {name} | "))[len(name) + 5 : -2]


def write_script(path: Path, content: str) -> None:
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
