"""Finds a Python of a given version on this machine."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def version_of(python: Path) -> str | None:
    """Such as `3.13`; None when it does not run, as a pyenv shim for a version that is not chosen."""
    asked = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def find(wanted: str) -> Path | None:
    """`wanted` is a version such as `3.13`, or the path of an interpreter."""
    if not re.fullmatch(r"\d+\.\d+", wanted):
        return Path(wanted) if version_of(Path(wanted)) else None
    return next((python for python in _candidates(wanted) if version_of(python) == wanted), None)


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    names = [shutil.which(name) for name in (f"python{version}", "python3", "python")]
    yield from (Path(name) for name in names if name)
    for folder in _version_folders():
        for pattern in (
            f"*{version}.*/bin/python3",
            f"*{version}.*/python.exe",
            f"*{version}.*/x64/python.exe",
        ):
            yield from sorted(folder.glob(pattern), reverse=True)
    if sys.platform == "win32" and (found := _ask_launcher(version)):
        yield found


def _version_folders() -> list[Path]:
    """Where pyenv and uv keep theirs."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    return [pyenv / "versions", pyenv / "pyenv-win" / "versions", home / ".local" / "share" / "uv" / "python"]


def _ask_launcher(version: str) -> Path | None:
    asked = ["py", f"-{version}", "-c", "import sys; print(sys.executable)"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None
