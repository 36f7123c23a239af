"""Finds a Python of a given version on this machine."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from admin.environment import output_of, version_of


def find(wanted: str) -> Path | None:
    """Finds an interpreter by its version, such as `3.13`, or by its path."""
    if not re.fullmatch(r"\d+\.\d+", wanted):
        return Path(wanted) if version_of(Path(wanted)) else None
    return next((python for python in _candidates(wanted) if version_of(python) == wanted), None)


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    names = [shutil.which(name) for name in (f"python{version}", "python3", "python")]
    yield from (Path(name) for name in names if name)
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    uv = home / ".local" / "share" / "uv" / "python"
    for folder in (pyenv / "versions", pyenv / "pyenv-win" / "versions", uv):
        for program in ("bin/python3", "python.exe", "x64/python.exe"):
            yield from sorted(folder.glob(f"*{version}.*/{program}"), reverse=True)
    if sys.platform == "win32":
        yield from _known_to_launcher(version)


def _known_to_launcher(version: str) -> Iterator[Path]:
    if path := output_of(["py", f"-{version}", "-c", "import sys; print(sys.executable)"]):
        yield Path(path)
