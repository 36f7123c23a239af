"""Checkouts of this project in temporary folders, for tests of the setup and of `dev.py run`."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from functools import partial
from pathlib import Path

from tools.processes import ROOT

_FILES = ("dev.py", "manage.py", "function_app.py", "host.json")
_FOLDERS = ("admin", "shared", "tools")
_REQUIREMENTS = ("requirements-run.txt", "requirements-admin.txt", "requirements-dev.txt")
_PACKAGE = {"name": "no-packages", "version": "1.0.0"}
_LOCK = {**_PACKAGE, "lockfileVersion": 3, "requires": True, "packages": {"": _PACKAGE}}
_PYTEST = "import sys; print(sys.argv[1:], '%d.%d' % sys.version_info[:2]); sys.exit(7)"


def without_packages(folder: Path) -> Path:
    """Its setup is real but has nothing to download. Its pytest prints its arguments and exits with 7."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, folder)
    for name in _REQUIREMENTS:
        (folder / name).touch()
    (folder / "package.json").write_text(json.dumps(_PACKAGE))
    (folder / "package-lock.json").write_text(json.dumps(_LOCK))
    (folder / "pytest.py").write_text(_PYTEST)
    return folder


def lend_packages(folder: Path) -> None:
    """Gives a checkout that is set up the packages of these tests."""
    (packages,) = (folder / ".venv").glob("[Ll]ib/**/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    (folder / "node_modules" / "azurite").symlink_to(ROOT / "node_modules" / "azurite")


def call(
    folder: Path, *arguments: str, program: str = "dev.py", python: str = sys.executable, **env: str
) -> subprocess.CompletedProcess[str]:
    run = partial(subprocess.run, cwd=folder, env=os.environ | env, timeout=280, check=False)
    return run([python, program, *arguments], capture_output=True, text=True)


def write_script(path: Path, content: str) -> None:
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)


def ended(pid: int) -> bool:
    """Waits until the process has ended. A zombie has ended too."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    for _ in range(300):
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False
