"""All tests run in several processes, a choice of them in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import os
from pathlib import Path

def test_one():
    Path("ran-in-" + os.environ.get("PYTEST_XDIST_WORKER", "here")).touch()
"""


ALL, CHOSEN = ["gw"], ["here"]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ([], ALL),
        (["-k", "one"], CHOSEN),
        (["test_some.py"], CHOSEN),
        (["-s"], CHOSEN),
        (["--help"], []),
    ],
)
def test_only_all_tests_run_in_other_processes(
    tmp_path: Path, arguments: list[str], where: list[str]
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -n auto")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.workers",)')
    (tmp_path / "test_some.py").write_text(TESTS)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "xdist", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [path.name.rstrip("0123456789") for path in tmp_path.glob("ran-in-*")] == [
        f"ran-in-{one}" for one in where
    ]
