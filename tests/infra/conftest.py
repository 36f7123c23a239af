from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.compiler import Compiler, find

ROOT = Path(__file__).parents[2]
MISSING = "There is no Bicep compiler. Run `az bicep install`, or put `bicep` on the PATH."


@pytest.fixture(scope="session")
def compiler() -> Iterator[Compiler]:
    program = find()
    assert program, MISSING
    running = Compiler(program)
    yield running
    running.close()


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/, for parameter files: azd would use one in the original."""
    return copy_infra(tmp_path_factory.mktemp("bicep"))


def copy_infra(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "hooks")
    return Path(shutil.copytree(ROOT / "infra", folder / "infra", ignore=ignored))


def run_hook(project: Path, hook: str, variables: dict[str, str]) -> tuple[int, str]:
    """Run a hook like azd does, with `variables` as azd's environment; returns exit status and output."""
    ours = ("EVENT_", "AZURE_", "PROXY_", "VNET_", "ADMIN_", "HOOK_", "IDENTITY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, str(project / "infra" / "hooks" / hook)]
    done = subprocess.run(command, env=inherited | variables, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout
