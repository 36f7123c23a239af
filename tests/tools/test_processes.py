"""The parts of `dev.py run`: children that end with us, locks that end with their process, folders, ports."""

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from admin import locks
from admin.local_runs import Run
from tools import ports, runs
from tools.azurite import is_emulator
from tools.processes import Child, ChildError, attached

HOLDER = "import sys; from pathlib import Path; from admin import locks; lock = locks.take(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_is_kept_and_relayed_with_the_name() -> None:
    relayed: list[tuple[str, str]] = []
    with Child("it", python("print('one'); print('two')"), relay=lambda *line: relayed.append(line)) as child:
        assert child.expect("tw", 30) == "two"
        child.finish(30)
    assert relayed == [("it", "one"), ("it", "two")]


@pytest.mark.parametrize(
    ("code", "message", "seconds"),
    [
        ("print('sorry'); raise SystemExit(3)", r"it ended with exit status 3\. Its last lines:\nsorry", 30),
        ("import sys; sys.stdin.read()", "it was not ready after 0 seconds, without output", 0.1),
    ],
)
def test_child_that_is_not_ready_is_an_error_with_its_output(code: str, message: str, seconds: float) -> None:
    with Child("it", python(code)) as child, pytest.raises(ChildError, match=message):
        child.expect("ready", seconds)


def test_child_that_does_not_end_is_killed() -> None:
    with Child("it", python("import time; print('ready', flush=True); time.sleep(99)")) as child:
        child.expect("ready", 30)
        child.end(grace_seconds=0.1)
    assert child.status not in (0, None)


def test_attached_module_gets_its_arguments_and_the_settings_of_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IN_FILE=file\nIN_BOTH=file\n")
    program = "import os, sys; print(sys.argv[1:], os.environ['IN_FILE'], os.environ['IN_BOTH'])"
    (tmp_path / "shown.py").write_text(program)
    command = attached(Path(sys.executable), "shown", "--once", env_file=tmp_path / ".env")
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "IN_BOTH": "environment"}
    with Child("it", command, env=env) as child:
        child.finish(30)
    assert child.last_lines() == "['--once'] file environment"


def test_lock_is_exclusive_and_does_not_outlive_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Child("holder", [*python(HOLDER), str(path)]) as holder:
        holder.expect("held", 30)
        assert locks.take(path) is None
        holder.kill()
        first = locks.take(path)
        assert first
        assert locks.take(path) is None
        first.close()
        with locks.held(path, pytest.fail):
            pass


def test_each_port_keeps_its_folder_whichever_run_starts_first(tmp_path: Path) -> None:
    with ExitStack() as first, ExitStack() as second:
        taken = [one.enter_context(runs.slot([7071, 7072], tmp_path)) for one in (first, second)]
        assert [slot.port for slot in taken] == [7071, 7072]
        assert taken[0].folder != taken[1].folder
        first.close()
        with runs.slot([7071, 7072], tmp_path) as again:
            assert again == taken[0]
    with runs.slot([7072], tmp_path) as again:
        assert again == taken[1]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_only_the_user_can_read_an_announced_run(tmp_path: Path) -> None:
    with runs.slot([0], tmp_path) as slot:
        runs.announce(Run.now(slot.folder, "http://it", "a secret", None))
        assert (slot.folder / "run.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_is_not_free(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        taken = server.getsockname()[1]
        assert not ports.is_free(taken)
    socket.create_server((ports.HOST, ports.free())).close()


def test_no_two_running_processes_get_the_same_port() -> None:
    """With chance alone, about 20 of these ports would be given twice."""
    take = "import sys; from tools import ports; print(*(ports.free() for _ in range(200)), flush=True); sys.stdin.read()"
    with ExitStack() as stack:
        takers = [stack.enter_context(Child("taker", python(take))) for _ in range(4)]
        taken = [port for taker in takers for port in taker.expect(" ", 60).split()]
    assert len(set(taken)) == len(taken) == 800


def test_only_the_account_of_the_emulator_may_have_the_demo() -> None:
    account = "DefaultEndpointsProtocol=https;AccountName={};AccountKey=x"
    assert is_emulator("UseDevelopmentStorage=true")
    assert is_emulator(account.format("devstoreaccount1"))
    for tables in (account.format("contoso"), account.format("devstoreaccount12"), ""):
        assert not is_emulator(tables)
