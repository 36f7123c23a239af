"""All tests run in several processes, a choice of tests in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEST = """
import os
from pathlib import Path

def test_one():
    Path("ran-in-" + os.environ.get("PYTEST_XDIST_WORKER", "here")).touch()
"""


@pytest.mark.parametrize(
    ("arguments", "process"),
    [([], "gw"), (["-k", "one"], "here"), (["test_some.py"], "here"), (["-s"], "here"), (["--help"], None)],
)
def test_only_a_full_run_uses_other_processes(
    tmp_path: Path, arguments: list[str], process: str | None
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -n auto")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.workers",)')
    (tmp_path / "test_some.py").write_text(TEST)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "xdist", *arguments]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    ran_in = [path.name.rstrip("0123456789") for path in tmp_path.glob("ran-in-*")]
    assert ran_in == ([f"ran-in-{process}"] if process else [])
