"""What `dev.py` stands on: children that end with us, locks that die with their process, slots, ports."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from admin import locks
from admin.local_runs import Run, running
from tools import interpreters, ports, runs
from tools.azurite import is_emulator
from tools.processes import ROOT, Child, ChildError, attached

PYTHON = Path(sys.executable)
DEAF = "import time; print('ready', flush=True); time.sleep(99)"
HOLDER = """
import sys
from pathlib import Path
from admin import locks
lock = locks.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
# Starts a child, and has no chance to say goodbye to it.
PARENT = """
import os, sys
from pathlib import Path
from tools.processes import Child, attached
child = Child("child", attached(Path(sys.executable), "tests.tools.sleeper"))
print(child.expect("asleep as", 30).split()[-1], flush=True)
os._exit(9)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_are_kept_and_relayed_with_their_name() -> None:
    relayed: list[tuple[str, str]] = []
    with Child("it", python("print('one'); print('two')"), relay=lambda *line: relayed.append(line)) as child:
        assert child.expect("tw", 30) == "two"
        child.finish(30)
    assert relayed == [("it", "one"), ("it", "two")]


def test_one_that_ends_before_it_is_ready_is_told_with_its_last_lines() -> None:
    told = r"it ended with exit status 3; its last lines:\nso sorry"
    failing = python("print('so sorry'); raise SystemExit(3)")
    with Child("it", failing) as child, pytest.raises(ChildError, match=told):
        child.expect("ready", 30)


def test_one_that_is_not_ready_in_time_is_told() -> None:
    told = "it was not ready after 0 seconds, without a word"
    with Child("it", python("import sys; sys.stdin.read()")) as child, pytest.raises(ChildError, match=told):
        child.expect("ready", 0.1)


def test_one_that_does_not_listen_is_killed() -> None:
    with Child("it", python(DEAF)) as child:
        child.expect("ready", 30)
        child.end(grace_seconds=0.1)
    assert child.status not in (0, None)


@pytest.mark.skipif(sys.platform == "win32", reason="asks ps")
def test_children_end_when_their_parent_is_gone_without_a_word() -> None:
    answer = subprocess.run(python(PARENT), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 9
    assert ended(int(answer.stdout))


def test_an_attached_module_gets_its_arguments_and_the_settings_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SAID=file\nHOME_OF=file\n")
    env = {**os.environ, "HOME_OF": "environment"}
    command = attached(PYTHON, "tests.tools.sleeper", "--once", env_file=tmp_path / ".env")
    with Child("it", command, env=env) as child:
        child.finish(30)
    assert child.last_lines().splitlines() == ["['--once']", "file environment"]


def test_a_lock_is_held_once_at_a_time(tmp_path: Path) -> None:
    first = locks.take(tmp_path / "lock")
    assert first
    assert locks.take(tmp_path / "lock") is None
    first.close()
    second = locks.take(tmp_path / "lock")
    assert second
    second.close()


def test_a_lock_does_not_outlive_its_process(tmp_path: Path) -> None:
    with holding(tmp_path / "lock") as holder:
        assert locks.take(tmp_path / "lock") is None
        holder.kill()
        lock = locks.take(tmp_path / "lock")
        assert lock
        lock.close()


def test_a_port_has_the_same_folder_each_time_whichever_run_begins_first(tmp_path: Path) -> None:
    with ExitStack() as first, ExitStack() as second:
        taken = [one.enter_context(runs.slot([7071, 7072], tmp_path)) for one in (first, second)]
        assert [slot.port for slot in taken] == [7071, 7072]
        assert taken[0].folder != taken[1].folder
        first.close()
        with runs.slot([7071, 7072], tmp_path) as again:
            assert again == taken[0]
    with runs.slot([7072], tmp_path) as again:
        assert again == taken[1]


def test_a_folder_that_another_run_has_is_not_given_away(tmp_path: Path) -> None:
    with runs.slot([7071], tmp_path), pytest.raises(runs.InUse), runs.slot([7071], tmp_path):
        pytest.fail("two have it")


def test_of_any_port_each_run_has_the_first_folder_that_is_free(tmp_path: Path) -> None:
    with ExitStack() as first, runs.slot([0], tmp_path) as other:
        taken = first.enter_context(runs.slot([0], tmp_path))
        assert taken.folder != other.folder
        first.close()
        with runs.slot([0], tmp_path) as again:
            assert again == taken


def test_running_lists_the_latest_first_until_they_end(tmp_path: Path) -> None:
    with runs.slot([0], tmp_path) as first:
        runs.announce(Run.now(first.folder, "http://first", "tables", None))
        with runs.slot([0], tmp_path) as second:
            runs.announce(Run.now(second.folder, "http://second", "tables", None))
            assert [run.url for run in running(tmp_path)] == ["http://second", "http://first"]
        assert [run.url for run in running(tmp_path)] == ["http://first"]
    assert running(tmp_path) == []


def test_a_run_that_was_killed_is_not_running(tmp_path: Path) -> None:
    """Even when another process, here this one, has its number."""
    folder = tmp_path / "run-1"
    folder.mkdir()
    with holding(folder / "lock") as holder:
        runs.announce(Run.now(folder, "http://killed", "tables", None))
        assert len(running(tmp_path)) == 1
        holder.kill()
        assert running(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions on Windows")
def test_only_the_user_reads_what_a_run_announces(tmp_path: Path) -> None:
    with runs.slot([0], tmp_path) as slot:
        runs.announce(Run.now(slot.folder, "http://it", "a secret", None))
        assert (slot.folder / "run.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
        assert ports.next_free(taken) > taken


def test_a_free_port_can_be_had() -> None:
    socket.create_server((ports.HOST, ports.free())).close()


def test_this_python_is_found_by_its_version() -> None:
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert interpreters.find(ours) == PYTHON
    assert interpreters.version_of(PYTHON) == ours


def test_a_program_that_fails_is_not_an_interpreter(tmp_path: Path) -> None:
    assert interpreters.find(str(tmp_path / "not-there")) is None


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ("UseDevelopmentStorage=true", True),
        ("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=x", True),
        ("DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=x", False),
        ("DefaultEndpointsProtocol=https;AccountName=devstoreaccount12;AccountKey=x", False),
        ("", False),
    ],
)
def test_an_emulator_is_told_from_a_real_account(tables: str, *, expected: bool) -> None:
    assert is_emulator(tables) is expected


@contextmanager
def holding(path: Path) -> Iterator[Child]:
    """Another process that holds the lock."""
    with Child("holder", [*python(HOLDER), str(path)]) as holder:
        holder.expect("held", 30)
        yield holder


def ended(pid: int) -> bool:
    """Whether it ends: its parent's end takes a moment to reach it. One that nobody buries has ended too."""
    asked = ["ps", "-o", "stat=", "-p", str(pid)]
    for _ in range(300):
        state = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False
