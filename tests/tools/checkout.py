"""Checkouts of this project in temporary folders, where `dev.py` can do what it likes."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tools.processes import ROOT

_FILES = ("dev.py", "manage.py", "function_app.py", "host.json")
_FOLDERS = ("admin", "shared", "tools")
_NOTHING = {"name": "nothing", "version": "1.0.0"}
_NO_PACKAGES = {**_NOTHING, "lockfileVersion": 3, "requires": True, "packages": {"": _NOTHING}}
_PYTEST = "import sys; print(sys.argv[1:], '%d.%d' % sys.version_info[:2]); sys.exit(7)"


def without_packages(folder: Path) -> Path:
    """Its set-up is real, but has nothing to download; its pytest prints its arguments and exits with 7."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, folder)
    for name in ("requirements-dev.txt", "requirements-admin.txt"):
        (folder / name).write_text("# nothing\n")
    (folder / "package.json").write_text(json.dumps(_NOTHING))
    (folder / "package-lock.json").write_text(json.dumps(_NO_PACKAGES))
    (folder / "pytest.py").write_text(_PYTEST)
    return folder


def lend_packages(folder: Path) -> None:
    """Gives a checkout that is set up the packages that these tests run with."""
    ours = sysconfig.get_path("purelib")
    (its,) = (folder / ".venv").glob("[Ll]ib/**/site-packages")
    (its / "lent.pth").write_text(ours)
    (folder / "node_modules" / "azurite").symlink_to(ROOT / "node_modules" / "azurite")


def call(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What `python3 dev.py ...` answers."""
    asked = [sys.executable, "dev.py", *arguments]
    settings = {**os.environ, **env}
    return subprocess.run(
        asked, cwd=folder, env=settings, capture_output=True, text=True, timeout=100, check=False
    )
