"""Installs Azurite, the local table storage, in `node_modules`. Standard library only."""

import re
import shutil
import subprocess

from admin.environment import digest
from admin.local_runs import ROOT
from admin.steps import SetupError, Step, make

_OLDEST = 20
_AGAIN = "then run the command again."
_NODE_MODULES = ROOT / "node_modules"
_FAIL_SOON = "--fetch-retry-maxtimeout=10000"  # milliseconds; the default delays "no network" by a minute
_NPM_CI = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", _FAIL_SOON]
_NPM_FAILED = f"Could not install Azurite. Check that you can reach the npm registry, {_AGAIN}"


def prepare() -> None:
    """Installs the npm packages if they are missing or have changed. Raises SetupError."""
    _check_version()
    stamp = digest(ROOT / "package.json", ROOT / "package-lock.json")
    make(_NODE_MODULES, _NODE_MODULES, [stamp], _install)


def _check_version() -> None:
    needs = f"Azurite, the local table storage, needs Node.js {_OLDEST} or newer."
    node = shutil.which("node")
    if not node:
        raise SetupError(f"{needs} Install Node.js, {_AGAIN}")
    result = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = re.match(r"v(\d+)\.", result.stdout)
    if not major or int(major[1]) < _OLDEST:
        found = f"This is {result.stdout.strip()}." if major else "`node --version` does not work."
        raise SetupError(f"{needs} {found} Install a newer one, {_AGAIN}")


def _install(step: Step) -> None:
    npm = shutil.which("npm")
    if not npm:
        raise SetupError(f"Cannot find `npm`, which comes with Node.js. Install it, {_AGAIN}")
    step("installing Azurite, the local table storage", [npm, *_NPM_CI], _NPM_FAILED)
