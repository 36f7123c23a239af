"""The set-up, as `dev.py test` and `manage.py` do it: real, in checkouts that need no packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from admin import locks
from tests.tools import checkout
from tools import interpreters

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="stands in for programs with shell scripts")
PYTHON, NPM = "installing the Python packages ...", "installing Azurite"
VENV = "creating the virtual environment"


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout.without_packages(tmp_path_factory.mktemp("pattern"))
    assert checkout.call(folder, "test").returncode == 7
    return folder


@pytest.fixture
def ready(pattern: Path, tmp_path: Path) -> Path:
    """A checkout that is set up."""
    return shutil.copytree(pattern, tmp_path / "ready", symlinks=True)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return checkout.without_packages(tmp_path)


def test_what_is_set_up_is_left_alone(ready: Path) -> None:
    assert checkout.call(ready, "test").stderr == ""


def test_arguments_and_exit_status_are_those_of_pytest(ready: Path) -> None:
    answer = checkout.call(ready, "test", "-k", "one", "tests/tools", "--port", "x", "-x")
    assert answer.stdout.startswith("['-k', 'one', 'tests/tools', '--port', 'x', '-x'] ")
    assert answer.returncode == 7


def test_changed_requirements_are_all_that_is_installed_again(ready: Path) -> None:
    (ready / "requirements-dev.txt").write_text("# changed\n")
    told = checkout.call(ready, "test").stderr
    assert (PYTHON in told, VENV in told, NPM in told) == (True, False, False)


def test_a_changed_package_lock_is_all_that_is_installed_again(ready: Path) -> None:
    with (ready / "package-lock.json").open("a") as lock:
        lock.write("\n\n")
    told = checkout.call(ready, "test").stderr
    assert (PYTHON in told, VENV in told, NPM in told) == (False, False, True)


def test_an_interrupted_installation_begins_anew(ready: Path) -> None:
    (ready / ".venv" / ".made-from").write_text("unfinished")
    (ready / ".venv" / "half-written").touch()
    assert VENV in checkout.call(ready, "test").stderr
    assert not (ready / ".venv" / "half-written").exists()


def test_a_virtual_environment_that_somebody_else_made_is_built_upon(ready: Path) -> None:
    (ready / ".venv" / ".made-from").unlink()
    (ready / ".venv" / "theirs").touch()
    told = checkout.call(ready, "test").stderr
    assert (PYTHON in told, (ready / ".venv" / "theirs").exists()) == (True, True)


def test_one_of_another_python_version_is_made_anew(ready: Path) -> None:
    config = ready / ".venv" / "pyvenv.cfg"
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    config.write_text(config.read_text().replace(f"version = {ours}", "version = 3.9"))
    (ready / ".venv" / ".made-from").write_text("Python 3.9, whatever")
    assert VENV in checkout.call(ready, "test").stderr
    assert f"version = {ours}" in config.read_text()


def test_a_failed_installation_is_told_in_pips_words_and_tried_again(ready: Path) -> None:
    requirements = ready / "requirements-dev.txt"
    requirements.write_text("./not-there\n")
    answer = checkout.call(ready, "test")
    assert answer.returncode == 2
    assert "Could not install the Python packages" in answer.stderr
    assert "not-there" in answer.stderr
    assert "Traceback" not in answer.stderr
    requirements.write_text("# mended\n")
    told = checkout.call(ready, "test").stderr
    assert (PYTHON in told, VENV in told) == (True, False)


def test_two_at_once_set_up_once(fresh: Path) -> None:
    asked = [sys.executable, "dev.py", "test"]
    both = [subprocess.Popen(asked, cwd=fresh, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = "".join(one.communicate(timeout=100)[1] for one in both)
    assert [one.returncode for one in both] == [7, 7]
    assert (told.count(VENV), told.count(NPM)) == (1, 1)


def test_a_python_is_set_up_while_another_still_is(ready: Path) -> None:
    (ready / "requirements-dev.txt").write_text("# changed\n")
    with locks.held(ready / ".local" / "set-up-3.99.lock", pytest.fail):
        told = checkout.call(ready, "test").stderr
    assert (PYTHON in told, "waiting" in told) == (True, False)


def test_one_that_is_being_set_up_is_waited_for(ready: Path) -> None:
    (ready / "requirements-dev.txt").write_text("# changed\n")
    asked = [sys.executable, "dev.py", "test"]
    with locks.held(ready / ".local" / "set-up-.venv.lock", pytest.fail):
        waiting = subprocess.Popen(asked, cwd=ready, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert waiting.stderr.readline().startswith("Another command is setting up")
    told = waiting.communicate(timeout=100)[1]
    assert (waiting.returncode, PYTHON in told) == (7, True)


@POSIX_ONLY
def test_missing_node_is_one_sentence(ready: Path, tmp_path: Path) -> None:
    assert_told(
        ready, tmp_path, "Azurite, the local table storage, needs Node.js 20 or newer, and `node` is missing"
    )


@POSIX_ONLY
def test_an_old_node_is_one_sentence(ready: Path, tmp_path: Path) -> None:
    write_script(tmp_path / "node", "echo v18.19.1")
    assert_told(ready, tmp_path, "needs Node.js 20 or newer, and this is v18.19.1")


@POSIX_ONLY
def test_missing_npm_is_one_sentence(ready: Path, tmp_path: Path) -> None:
    write_script(tmp_path / "node", "echo v20.1.0")
    (ready / "node_modules" / ".made-from").unlink()
    assert_told(ready, tmp_path, "npm is missing, which comes with Node.js")


@POSIX_ONLY
def test_missing_venv_module_is_one_sentence(fresh: Path, tmp_path: Path) -> None:
    python = tmp_path / "python-as-debian-has-it"
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "ensurepip.py").write_text("raise ImportError")
    write_script(python, f'PYTHONPATH="{shadow}" exec "{sys.executable}" "$@"')
    write_script(tmp_path / "node", "echo v20.1.0")
    answer = checkout.call(fresh, "test", "--python", str(python))
    assert (answer.returncode, "sudo apt install python3." in answer.stderr) == (2, True)


def test_a_python_that_is_not_there_is_told_or_passed_over(ready: Path) -> None:
    answers = [checkout.call(ready, "test", "--python", "2.99", *more) for more in ((), ("--if-found",))]
    assert [answer.stderr for answer in answers] == ["Python 2.99 is not on this machine.\n"] * 2
    assert [answer.returncode for answer in answers] == [2, 0]


def test_an_older_python_is_told_so_in_one_sentence(ready: Path) -> None:
    older = next(filter(None, map(interpreters.find, ("3.10", "3.9", "3.8"))), None)
    if older is None:
        pytest.skip("there is no older Python on this machine")
    for program in ("dev.py", "manage.py"):
        answer = subprocess.run([older, program], cwd=ready, capture_output=True, text=True, check=False)
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert answer.stderr.startswith("This needs Python 3.11 or newer")


@POSIX_ONLY
def test_manage_py_goes_on_with_the_python_that_has_its_packages(ready: Path) -> None:
    checkout.lend_packages(ready)
    asked = [str(Path(sys.base_prefix, "bin", "python3")), "manage.py", "--help"]
    answer = subprocess.run(asked, cwd=ready, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr, "events" in answer.stdout) == (0, "", True)


@POSIX_ONLY
def test_manage_py_installs_only_what_administration_needs(fresh: Path) -> None:
    (fresh / "requirements-dev.txt").write_text("./not-there\n")
    asked = [str(Path(sys.base_prefix, "bin", "python3")), "manage.py", "--help"]
    told = subprocess.run(asked, cwd=fresh, capture_output=True, text=True, check=False).stderr
    assert (VENV in told, PYTHON in told, NPM in told, "not-there" in told) == (True, True, False, False)
    assert "requirements-admin.txt" in (fresh / ".venv" / ".made-from").read_text()
    answer = checkout.call(fresh, "test")
    assert (answer.returncode, "not-there" in answer.stderr) == (2, True)


def test_a_program_with_other_packages_gets_an_environment_of_its_own_once(ready: Path) -> None:
    (ready / "other.txt").write_text("# nothing\n")
    told = beside(ready).stderr
    assert ("creating the virtual environment .venvs/other" in told, "installing other" in told) == (
        True,
        True,
    )
    assert beside(ready).stderr == ""
    (ready / "other.txt").write_text("./not-there\n")
    answer = beside(ready)
    assert (VENV in answer.stderr, "not-there" in answer.stderr) == (False, True)
    assert "SetupError: Could not install the Python packages" in answer.stderr


def beside(folder: Path) -> subprocess.CompletedProcess[str]:
    wanted = "from pathlib import Path; from tools import environment"
    asked = f"{wanted}; print(environment.beside('other', Path('other.txt')))"
    command = [sys.executable, "-c", asked]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def assert_told(folder: Path, path: Path, sentence: str) -> None:
    answer = checkout.call(folder, "test", PATH=str(path))
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert sentence in answer.stderr


def write_script(path: Path, content: str) -> None:
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    assert os.access(path, os.X_OK)
