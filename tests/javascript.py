"""The JavaScript clients of the standard tests."""

from __future__ import annotations

import shutil
from pathlib import Path

from admin.environment import digest
from admin.steps import make
from tools import clients

FOLDER = Path(__file__).parent / "app" / "npm"


def node_modules() -> Path:
    """The packages of the clients. They are installed the first time. Raises SetupError."""
    modules = FOLDER / "node_modules"
    install = [shutil.which("npm") or "npm", "ci", "--ignore-scripts", "--no-audit", "--prefix", str(FOLDER)]
    advice = "Check that you can reach the npm registry, then run the command again."
    make(
        modules,
        modules,
        [digest(FOLDER / "package-lock.json")],
        lambda step: step("installing the JavaScript clients", install, advice),
    )
    return modules


def program(name: str, folder: Path) -> Path:
    """A copy of a program of tests/clients in `folder`, with the packages beside it."""
    (folder / "node_modules").symlink_to(node_modules())
    return clients.copy(clients.PROGRAMS / f"{name}.mjs", folder)
