from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra import compiler as bicep

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compiler() -> Iterator[bicep.Compiler]:
    program = bicep.find()
    if program is None:
        missing = "No Bicep compiler found. Run `az bicep install`, or put `bicep` on the PATH."
        if os.environ.get(bicep.REQUIRED):
            pytest.fail(f"{missing} {bicep.REQUIRED} is set.")
        pytest.skip(missing)
    running = bicep.Compiler(program)
    yield running
    running.close()


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/, for parameter files: azd would use one in the original."""
    return copy_infra(tmp_path_factory.mktemp("bicep"))


def copy_infra(folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "hooks")
    return Path(shutil.copytree(ROOT / "infra", folder / "infra", ignore=ignored))


def hook_environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment of a hook: this one without variables that hooks or the app read, and `variables`."""
    ours = ("EVENT_", "AZURE_", "PROXY_", "VNET_", "ADMIN_", "HOOK_", "IDENTITY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables
