"""Sets the checkout up: a virtual environment with the Python packages, and Azurite in node_modules.

What is there already and still fits is left alone. Standard library only, as all that this imports: it runs
before anything is installed.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one module that an older Python is given to read
    sys.stderr.write(
        "This needs Python 3.11 or newer, and this is %d.%d: install one, for example from "  # noqa: UP031
        "your system's packages, and start the command with it.\n" % sys.version_info[:2]
    )
    raise SystemExit(2)

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from admin import locks
from tools import interpreters
from tools.processes import ROOT, attached
from tools.steps import SetupError, about, say, step

VENV = ROOT / ".venv"
NODE_MODULES = ROOT / "node_modules"
OLDEST_NODE = 20
_NEEDED = (
    *("aiohttp", "azure.data.tables", "azure.identity", "click", "dateutil", "dotenv", "jinja2", "msgspec"),
    *("rich", "vl_convert", "xkcdpass"),
)
_UNFINISHED = "unfinished"
_WAITING = "Another command is setting up this checkout: waiting for it."
_ALL, _ADMINISTRATION = "requirements-dev.txt", "requirements-admin.txt"
"""The first holds the second, which is what `manage.py` needs: a fraction of it."""
_PIP_INSTALL = ["install", "--disable-pip-version-check", "--no-input", "-r"]
_NPM_CI = [
    *("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
    "--fetch-retry-maxtimeout=10000",  # ms; by default one waits a minute to hear that there is no network
]
_PIP_FAILED = (
    "Could not install the Python packages: is the package index within reach? If so, run this again."
)
_NPM_FAILED = "Could not install Azurite: is the npm registry within reach? If so, run this again."


def enter() -> None:
    """For the first lines of a program that needs our packages, before it imports them.

    Returns when they can be imported. Else the program is started again with the Python of `.venv`, which is
    set up first where needed, and this process ends with it.
    """
    if all(_can_import(name) for name in _NEEDED):
        return
    is_inside = Path(sys.prefix).resolve() == VENV.resolve()
    if is_inside:  # and yet they are missing: it does not hold what its stamp says
        _stamp_of(VENV).unlink(missing_ok=True)
    try:
        python = _ready_python() or prepare(node=False, requirements=_ADMINISTRATION)
    except SetupError as error:
        say(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if is_inside:
        importlib.invalidate_caches()
    else:
        become([str(python), *sys.orig_argv[1:]])


def become(command: list[str]) -> NoReturn:
    """Goes on as another program. On Windows, which has no such thing, it is waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        os.execv(command[0], command)  # noqa: S606 - there is no shell to want
    process = subprocess.Popen(command)
    while True:
        with suppress(KeyboardInterrupt):  # the program got it too, and decides
            raise SystemExit(process.wait())


def prepare(*, node: bool, python: Path | None = None, requirements: str = _ALL) -> Path:
    """Does what is missing or has changed, and returns the Python of the virtual environment.

    Without `node` npm's packages are not looked at. `python` is another interpreter than this one, which gets
    a virtual environment of its own in `.venvs`. Raises SetupError.
    """
    base = python or Path(sys.executable)
    version = interpreters.version_of(python) if python else f"{sys.version_info[0]}.{sys.version_info[1]}"
    if not version:
        raise SetupError(f"{python} is not a Python that runs.")
    venv = VENV if python is None else ROOT / ".venvs" / version
    try:
        if node:
            _check_node()
        _make(
            venv,
            lambda: _python_is_ready(venv, version, requirements),
            lambda: _install_python_packages(
                venv,
                version,
                base,
                "the Python packages",
                [requirements],
                _python_stamp(version, requirements),
            ),
        )
        if node:
            _make(NODE_MODULES, _npm_is_ready, _install_npm_packages)
    except OSError as error:
        raise SetupError(about(error)) from error
    return _python_in(venv)


def beside(name: str, requirements: Path) -> Path:
    """The Python of `.venvs/NAME`, for a program whose packages do not go with ours; set up where needed.

    `requirements` pins them with all that they bring along, and nothing else is installed; as wheels, so that
    no code of theirs runs before the program does. Raises SetupError.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    venv, stamp = ROOT / ".venvs" / name, f"Python {version}, {_digest(requirements)}"
    try:
        arguments = [str(requirements), "--no-deps", "--only-binary", ":all:"]
        _make(
            venv,
            lambda: _is_made(venv, stamp),
            lambda: _install_python_packages(venv, version, Path(sys.executable), name, arguments, stamp),
        )
    except OSError as error:
        raise SetupError(about(error)) from error
    return _python_in(venv)


def _ready_python() -> Path | None:
    """That of `.venv`, when it is set up; of whatever version: it need not be ours."""
    version = _version_in(VENV)
    return _python_in(VENV) if version and _python_is_ready(VENV, version, _ADMINISTRATION) else None


def _make(folder: Path, is_ready: Callable[[], bool], make: Callable[[], None]) -> None:
    """Each folder has a lock of its own: commands which need different ones do not wait for one another."""
    if is_ready():
        return
    with locks.held(ROOT / ".local" / f"set-up-{folder.name}.lock", lambda: say(_WAITING)):
        if not is_ready():  # another process may have made it while we waited
            make()


def _python_is_ready(venv: Path, version: str, requirements: str) -> bool:
    return _is_made(venv, *(_python_stamp(version, one) for one in (_ALL, requirements)))


def _is_made(venv: Path, *stamps: str) -> bool:
    return _python_in(venv).exists() and _read(_stamp_of(venv)) in stamps


def _npm_is_ready() -> bool:
    return _read(_stamp_of(NODE_MODULES)) == _npm_stamp()


def _python_stamp(version: str, requirements: str) -> str:
    return f"Python {version}, {requirements}, {_digest(*sorted(ROOT.glob('requirements*.txt')))}"


def _npm_stamp() -> str:
    return _digest(ROOT / "package.json", ROOT / "package-lock.json")


def _stamp_of(folder: Path) -> Path:
    """What is in this file says what the folder was made from; it is written when that has succeeded."""
    return folder / ".made-from"


def _install_python_packages(
    venv: Path, version: str, base: Path, packages: str, arguments: list[str], made_from: str
) -> None:
    stamp = _stamp_of(venv)
    if _read(stamp) == _UNFINISHED or not _python_in(venv).exists() or _version_in(venv) != version:
        _create_venv(venv, base)
    stamp.write_text(_UNFINISHED, encoding="utf-8")
    install = [*_PIP_INSTALL, *arguments]
    try:
        step(f"installing {packages}", attached(_python_in(venv), "pip", *install), _PIP_FAILED)
    except SetupError:  # pip took back what it had begun, so what is there may be built upon
        stamp.unlink()
        raise
    stamp.write_text(made_from, encoding="utf-8")


def _create_venv(venv: Path, base: Path) -> None:
    _check_venv_module(base)
    _remove(venv)
    venv.mkdir(parents=True)
    _stamp_of(venv).write_text(_UNFINISHED, encoding="utf-8")
    where = venv.relative_to(ROOT)
    step(
        f"creating the virtual environment {where}",
        [str(base), "-m", "venv", str(venv)],
        f"Could not create the virtual environment {where}.",
    )


def _install_npm_packages() -> None:
    npm = shutil.which("npm")
    if not npm:
        raise SetupError(
            "npm is missing, which comes with Node.js: install it (`npm --version` must answer)."
        )
    _stamp_of(NODE_MODULES).unlink(missing_ok=True)
    step(
        "installing Azurite, the local table storage, from npm",
        [npm, *_NPM_CI],
        _NPM_FAILED,
    )
    NODE_MODULES.mkdir(exist_ok=True)
    _stamp_of(NODE_MODULES).write_text(_npm_stamp(), encoding="utf-8")


def _check_node() -> None:
    wanted = f"Azurite, the local table storage, needs Node.js {OLDEST_NODE} or newer"
    node = shutil.which("node")
    if not node:
        raise SetupError(f"{wanted}, and `node` is missing: install it, then run the command again.")
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    major = re.match(r"v(\d+)\.", answer.stdout)
    if not major or int(major[1]) < OLDEST_NODE:
        found = answer.stdout.strip() or "one that does not run"
        raise SetupError(f"{wanted}, and this is {found}: install a newer one, then run the command again.")


def _check_venv_module(base: Path) -> None:
    asked = subprocess.run([str(base), "-c", "import venv, ensurepip"], capture_output=True, check=False)
    if asked.returncode != 0:
        raise SetupError(
            f"{base} lacks the modules venv and ensurepip: install them (on Debian and Ubuntu: "
            f"`sudo apt install python{interpreters.version_of(base)}-venv`), then run the command again."
        )


def _can_import(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False


def _python_in(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if sys.platform == "win32" else venv / "bin" / "python"


def _version_in(venv: Path) -> str | None:
    found = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", _read(venv / "pyvenv.cfg"), re.MULTILINE)
    return found[1] if found else None


def _digest(*files: Path) -> str:
    content = b"\0".join(file.read_bytes().replace(b"\r\n", b"\n") for file in files)
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
