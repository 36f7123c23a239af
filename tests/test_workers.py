"""All tests run in several processes, a choice of tests in one. Their children can be interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parent.parent
TEST = """
import os
from pathlib import Path

import pytest

@pytest.mark.mine
def test_one():
    Path("ran-in-" + os.environ.get("PYTEST_XDIST_WORKER", "here")).touch()
"""


@pytest.mark.parametrize(
    ("arguments", "process"),
    [
        ([], "gw"),
        (["-m", "not slow"], "gw"),
        (["-m", "mine"], "here"),
        (["-k", "one"], "here"),
        (["test_some.py"], "here"),
        (["-s"], "here"),
        (["--help"], None),
    ],
)
def test_only_a_full_run_uses_other_processes(
    tmp_path: Path, arguments: list[str], process: str | None
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -n auto\nmarkers = mine")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.workers",)')
    (tmp_path / "test_some.py").write_text(TEST)
    run_tests(tmp_path, *arguments)
    ran_in = [path.name.rstrip("0123456789") for path in tmp_path.glob("ran-in-*")]
    assert ran_in == ([f"ran-in-{process}"] if process else [])


INTERRUPT = """
import signal, subprocess, sys

def test_interrupt():
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert b"KeyboardInterrupt" in done.stderr
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("processes", [[], ["-n", "1"]])
def test_ctrl_c_reaches_the_children_of_tests_that_a_shell_runs_in_the_background(
    tmp_path: Path, processes: list[str]
) -> None:
    """Such a shell lets its children ignore SIGINT."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.workers",)')
    (tmp_path / "test_some.py").write_text(INTERRUPT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_tests(tmp_path, *processes)
    finally:
        signal.signal(signal.SIGINT, before)


def run_tests(folder: Path, *arguments: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "xdist", *arguments]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
