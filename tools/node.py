"""Installs npm packages: Azurite, the local table storage, and what tests need. Standard library only."""

import re
import shutil
import subprocess
from pathlib import Path

from admin.environment import digest
from admin.local_runs import ROOT
from admin.steps import SetupError, make

_OLDEST = 20
_AZURITE = "Azurite, the local table storage"
_AGAIN = "then run the command again."
_FAIL_SOON = "--fetch-retry-maxtimeout=10000"  # milliseconds; the default delays "no network" by a minute
_OPTIONS = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", _FAIL_SOON]


def prepare() -> None:
    """Installs Azurite if it is missing or has changed. Raises SetupError."""
    _check_version()
    install(ROOT, _AZURITE)


def install(folder: Path, name: str) -> Path:
    """Installs the packages of a `package-lock.json` that are missing or have changed. Raises SetupError.

    Returns the folder with the packages. `name` says what they are.
    """
    modules = folder / "node_modules"
    stamp = digest(folder / "package.json", folder / "package-lock.json")
    failed = f"Could not install {name}. Check that you can reach the npm registry, {_AGAIN}"
    make(modules, modules, [stamp], lambda step: step(f"installing {name}", npm("ci", folder), failed))
    return modules


def npm(subcommand: str, folder: Path, *arguments: str) -> list[str]:
    """A command that installs packages in a folder. Raises SetupError."""
    program = shutil.which("npm")
    if not program:
        raise SetupError(f"Cannot find `npm`, which comes with Node.js. Install it, {_AGAIN}")
    return [program, subcommand, "--prefix", str(folder), *_OPTIONS, *arguments]


def _check_version() -> None:
    needs = f"{_AZURITE}, needs Node.js {_OLDEST} or newer."
    node = shutil.which("node")
    if not node:
        raise SetupError(f"{needs} Install Node.js, {_AGAIN}")
    result = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = re.match(r"v(\d+)\.", result.stdout)
    if not major or int(major[1]) < _OLDEST:
        found = f"This is {result.stdout.strip()}." if major else "`node --version` does not work."
        raise SetupError(f"{needs} {found} Install a newer one, {_AGAIN}")
