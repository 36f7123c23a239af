"""Sets up the checkout: creates `.venv` and installs the Python packages that a command needs.

Uses the standard library only, because it runs before any package is installed.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python can read this far
    sys.stderr.write("Python 3.11 or newer is required. This is Python %d.%d.\n" % sys.version_info[:2])  # noqa: UP031
    raise SystemExit(2)

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from admin.local_runs import ROOT
from admin.steps import SetupError, Step, make, read, say, stamp_of

RUN, ADMIN, DEVELOPMENT = "requirements-run.txt", "requirements-admin.txt", "requirements-dev.txt"
_LEVELS = (RUN, ADMIN, DEVELOPMENT)
"""Each file includes the ones before it."""
_VENV = ROOT / ".venv"
_NEEDED_BY_MANAGE = ("azure.data.tables", "dotenv", "vl_convert", "xkcdpass", "genai_prices", "segno")
"""At least one package of each level, and those that an older `.venv` may lack."""
_UNFINISHED = "unfinished"
_VENV_FAILED = (
    "Could not create a virtual environment. On Debian and Ubuntu, install the `python3-venv` package, "
    "then run the command again."
)
_PIP_FAILED = (
    "Could not install the Python packages. Check that you can reach the package index, "
    "then run the command again."
)


def enter() -> None:
    """Makes the packages of `manage.py` importable. Call it before you import them.

    If this Python lacks them, the program restarts with the Python of `.venv`.
    """
    if all(map(_can_import, _NEEDED_BY_MANAGE)):
        return
    inside = Path(sys.prefix).resolve() == _VENV.resolve()
    if inside:
        stamp_of(_VENV).unlink(missing_ok=True)  # the packages are missing, whatever the stamp says
    try:
        python = _ready_python_of_any_version() or prepare(ADMIN)
    except SetupError as error:
        say(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if inside:
        importlib.invalidate_caches()
    else:
        become([str(python), *sys.orig_argv[1:]])


def become(command: list[str]) -> NoReturn:
    """Replaces this process with another program. On Windows, waits for that program instead."""
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execv(command[0], command)  # noqa: S606
    process = subprocess.Popen(command)  # noqa: S603
    while True:
        with suppress(KeyboardInterrupt):  # Ctrl-C reaches the program too, which decides what to do
            raise SystemExit(process.wait())


def prepare(requirements: str, python: Path | None = None) -> Path:
    """Installs the packages in `requirements` if they are missing, and returns the Python that has them.

    Another interpreter, `python`, gets a virtual environment of its own in `.venvs`. Raises SetupError.
    """
    version = version_of(python) if python else _this_version()
    if not version:
        raise SetupError(f"{python} is not a working Python.")
    venv = ROOT / ".venvs" / version if python else _VENV
    with_more = _LEVELS[_LEVELS.index(requirements) :]
    stamps = [_stamp(version, level) for level in with_more]
    install = ["-r", requirements]
    make(
        venv,
        _python_in(venv),
        stamps,
        lambda step: _install(venv, version, python, "the Python packages", install, step),
    )
    return _python_in(venv)


def beside(name: str, requirements: Path) -> Path:
    """Returns the Python of `.venvs/NAME`, for packages that conflict with ours.

    `requirements` pins every package. Only wheels are installed, so no setup code runs. Raises SetupError.
    """
    version, venv = _this_version(), ROOT / ".venvs" / name
    stamp = f"Python {version}, {digest(requirements)}"
    install = ["-r", str(requirements), "--no-deps", "--only-binary", ":all:"]
    make(venv, _python_in(venv), [stamp], lambda step: _install(venv, version, None, name, install, step))
    return _python_in(venv)


def version_of(python: Path) -> str | None:
    """Returns a version such as `3.13`, or None if this Python does not work."""
    return output_of([str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])


def output_of(command: list[str]) -> str | None:
    """Returns the output of a program, or None if it does not work."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def digest(*files: Path) -> str:
    content = b"\0".join(file.read_bytes().replace(b"\r\n", b"\n") for file in files)
    return hashlib.sha256(content).hexdigest()


def _install(
    venv: Path, version: str, base: Path | None, packages: str, arguments: list[str], step: Step
) -> None:
    stamp = stamp_of(venv)
    before = read(stamp)
    if before == _UNFINISHED or not _python_in(venv).exists() or _version_in(venv) != version:
        _create(venv, base or Path(sys.executable), step)
        before = ""
    stamp.write_text(_UNFINISHED, encoding="utf-8")
    pip = [str(_python_in(venv)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    try:
        step(f"installing {packages}", [*pip, "--no-compile", *arguments], _PIP_FAILED)
    except SetupError:
        stamp.write_text(before, encoding="utf-8")  # a failed pip changes nothing: keep what worked
        raise


def _create(venv: Path, base: Path, step: Step) -> None:
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)
    venv.mkdir(parents=True)
    stamp_of(venv).write_text(_UNFINISHED, encoding="utf-8")
    title = f"creating the virtual environment {venv.relative_to(ROOT)}"
    step(title, [str(base), "-m", "venv", str(venv)], _VENV_FAILED)


def _ready_python_of_any_version() -> Path | None:
    version = _version_in(_VENV)
    stamps = [_stamp(version, level) for level in (ADMIN, DEVELOPMENT)] if version else []
    python = _python_in(_VENV)
    return python if python.exists() and read(stamp_of(_VENV)) in stamps else None


def _stamp(version: str, requirements: str) -> str:
    return f"Python {version}, {requirements}, {digest(*sorted(ROOT.glob('requirements*.txt')))}"


def _this_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _version_in(venv: Path) -> str | None:
    found = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", read(venv / "pyvenv.cfg"), re.MULTILINE)
    return found[1] if found else None


def _python_in(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if sys.platform == "win32" else venv / "bin" / "python"


def _can_import(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
