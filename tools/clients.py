"""Installs the clients of tests/clients, each with its packages in an environment of its own.

A program names its packages in its first lines: a Python program as inline script metadata (PEP 723), a
JavaScript program, or one that runs a command from npm, in a line such as `// npm: openai@6.49.0`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from admin import environment
from admin.local_runs import ROOT
from admin.steps import SetupError, make
from tools import node

TESTS = ROOT / "tests" / "clients"
PROGRAMS = TESTS / "programs"
_SHARED = ("city.py", "steps.py", "steps.mjs")
_FOLDER = ROOT / ".clients"
_NPM = re.compile(r"^(?://|#) npm: (.+)$", re.MULTILINE)
_PYTHON = re.compile(r"^# dependencies = (\[.+\])$", re.MULTILINE)


def programs() -> list[Path]:
    found = (path for path in PROGRAMS.iterdir() if path.suffix in {".py", ".mjs"})
    return sorted(path for path in found if path.name not in _SHARED)


def packages(program: Path) -> list[str]:
    """The packages that a program names, with their versions."""
    text = program.read_text(encoding="utf-8")
    if npm := _NPM.search(text):
        return npm[1].split()
    python = _PYTHON.search(text)
    return [str(package) for package in json.loads(python[1])] if python else []


def prepare() -> Path:
    """Installs uv, which builds the Python environments, and returns its path. Raises SetupError."""
    python = environment.beside("clients", TESTS / "requirements.txt")
    return python.with_name("uv.exe" if sys.platform == "win32" else "uv")


def install(program: Path, uv: Path) -> list[str]:
    """Installs the packages of a program and returns the command that runs it. Raises SetupError."""
    packages = _NPM.search(program.read_text(encoding="utf-8"))
    if packages:
        _install_npm(folder_of(program), packages[1].split())
    if program.suffix == ".mjs":
        return [str(shutil.which("node")), str(copy(program, folder_of(program)))]
    return [sys.executable if packages else _python(program, uv), str(program)]


def folder_of(program: Path) -> Path:
    """The folder with the `node_modules` of a program."""
    return _FOLDER / program.stem


def copy(program: Path, folder: Path) -> Path:
    """A copy in `folder`: Node looks for packages beside the program that imports them."""
    shutil.copy(PROGRAMS / "steps.mjs", folder)
    return Path(shutil.copy(program, folder))


def _python(program: Path, uv: Path) -> str:
    """The Python of the environment that uv keeps for this program."""
    _run("uv", [str(uv), "sync", "--quiet", "--python", sys.executable, "--script", str(program)])
    return _run("uv", [str(uv), "python", "find", "--script", str(program)]).strip()


def _install_npm(folder: Path, packages: list[str]) -> None:
    command = node.npm("install", folder, "--no-package-lock", *packages)

    def build(_: object) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
        _run("npm", command)

    make(folder, folder / "node_modules", [" ".join(packages)], build)


def _run(name: str, command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if result.returncode:
        raise SetupError(f"{name}: {(result.stderr or result.stdout).strip()[-500:]}")
    return result.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
