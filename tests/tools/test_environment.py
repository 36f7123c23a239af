"""The setup by `dev.py test` and `manage.py`: the real one, in checkouts that need no packages."""

import re
import subprocess
import sys
import time
from pathlib import Path
from shutil import copytree

import pytest

from admin import environment, locks
from tests.tools import checkout
from tests.tools.checkout import write_script
from tools import interpreters

pytestmark = pytest.mark.one_python

POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="replaces programs with shell scripts")
VENV, PYTHON, NPM = "creating the virtual environment", "installing the Python packages", "installing Azurite"
BASE_PYTHON = str(Path(sys.base_prefix, "bin", "python3"))
"""It has none of our packages."""


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], str]:
    """A checkout that two commands have set up at once, their exit statuses and their output."""
    folder = checkout.without_packages(tmp_path_factory.mktemp("pattern"))
    command = [sys.executable, "dev.py", "test"]
    both = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(one.communicate(timeout=280)[1] for one in both)
    return folder, [one.returncode for one in both], output


@pytest.fixture
def ready(pattern: tuple[Path, list[int], str], tmp_path: Path) -> Path:
    """A checkout that is set up."""
    return copytree(pattern[0], tmp_path / "ready", symlinks=True)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return checkout.without_packages(tmp_path)


def steps(output: str) -> list[str]:
    """The setup steps in the output. A slow step also prints lines of progress, which do not count."""
    return re.findall(f"Setup: ({VENV}|{PYTHON}|{NPM})", output)


def test_only_changed_packages_are_installed_again(ready: Path) -> None:
    options = ["-k", "one", "tests/tools", "--port", "x", "-x"]
    result = checkout.call(ready, "test", *options)
    assert result.stdout.startswith(f"{options} ")
    assert (result.returncode, result.stderr) == (7, "")
    (ready / "requirements-dev.txt").write_text("# changed\n")
    assert steps(checkout.call(ready, "test").stderr) == [PYTHON]
    (ready / "package-lock.json").write_text((ready / "package-lock.json").read_text() + "\n")
    assert steps(checkout.call(ready, "test").stderr) == [NPM]


def test_interrupted_installation_starts_again(ready: Path) -> None:
    (ready / ".venv" / ".made-from").write_text("unfinished")
    (ready / ".venv" / "half-written").touch()
    assert steps(checkout.call(ready, "test").stderr) == [VENV, PYTHON]
    assert not (ready / ".venv" / "half-written").exists()


def test_environment_of_another_python_version_is_replaced(ready: Path) -> None:
    config, ours = ready / ".venv" / "pyvenv.cfg", "{}.{}".format(*sys.version_info)
    config.write_text(config.read_text().replace(f"version = {ours}", "version = 3.9"))
    (ready / ".venv" / ".made-from").write_text("Python 3.9, something")
    assert steps(checkout.call(ready, "test").stderr) == [VENV, PYTHON]
    assert f"version = {ours}" in config.read_text()


def test_failed_installation_shows_the_output_of_pip_and_keeps_what_worked(ready: Path) -> None:
    requirements = ready / "requirements-dev.txt"
    requirements.write_text("./missing\n")
    result = checkout.call(ready, "test")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "Could not install the Python packages. Check that" in result.stderr
    assert "missing" in result.stderr
    requirements.write_text("")
    assert checkout.call(ready, "test").stderr == ""


def test_two_commands_at_once_set_up_once(pattern: tuple[Path, list[int], str]) -> None:
    _, statuses, output = pattern
    assert statuses == [7, 7]
    assert sorted(steps(output)) == [VENV, NPM, PYTHON]


@POSIX_ONLY
def test_step_keeps_the_lock_when_its_command_is_killed(fresh: Path, tmp_path: Path) -> None:
    """Otherwise the next command would rebuild the environment under a pip that still runs."""
    slow = tmp_path / "slow"
    write_script(slow, f'case "$*" in *venv*) sleep 3; exit 1;; esac\nexec "{sys.executable}" "$@"')
    command = [sys.executable, "dev.py", "test", "--python", str(slow)]
    killed = subprocess.Popen(command, cwd=fresh, stderr=subprocess.PIPE, text=True)
    assert killed.stderr is not None
    assert VENV in killed.stderr.readline()
    time.sleep(0.5)
    killed.kill()
    killed.communicate()
    lock = fresh / ".local" / f"set-up-{environment.version_of(Path(sys.executable))}.lock"
    assert locks.take(lock) is None


@POSIX_ONLY
@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (None, "needs Node.js 20 or newer. Install Node.js, then"),
        ("v18.19.1", "needs Node.js 20 or newer. This is v18.19.1. Install a newer one, then"),
        ("v20.1.0", "Cannot find `npm`, which comes with Node.js. Install it, then"),
    ],
)
def test_missing_node_is_one_sentence(ready: Path, tmp_path: Path, node: str | None, sentence: str) -> None:
    if node:
        write_script(tmp_path / "node", f"echo {node}")
    (ready / "node_modules" / ".made-from").unlink()
    result = checkout.call(ready, "test", PATH=str(tmp_path))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr


@POSIX_ONLY
def test_missing_venv_module_names_the_package_to_install(fresh: Path, tmp_path: Path) -> None:
    write_script(tmp_path / "python", f'case "$*" in *venv*) exit 1;; esac\nexec "{sys.executable}" "$@"')
    result = checkout.call(fresh, "test", "--python", str(tmp_path / "python"))
    assert (result.returncode, "install the `python3-venv` package" in result.stderr) == (2, True)


def test_other_python_gets_its_own_environment(ready: Path) -> None:
    other = next(filter(None, map(interpreters.find, ("3.13", "3.12", "3.11"))), None)
    assert other
    version = environment.version_of(other)
    result = checkout.call(ready, "test", "--python", str(other))
    assert (steps(result.stderr), result.returncode) == ([VENV, PYTHON], 7)
    assert result.stdout.endswith(f" {version}\n") and (ready / ".venvs" / f"{version}").is_dir()
    results = [checkout.call(ready, "test", "--python", "2.99", *more) for more in ((), ("--if-found",))]
    assert [result.stderr for result in results] == ["Python 2.99 is not installed.\n"] * 2
    assert [result.returncode for result in results] == [2, 0]


def test_older_python_is_one_sentence(ready: Path) -> None:
    older = next(filter(None, map(interpreters.find, ("3.10", "3.9", "3.8"))), None)
    if older is None:
        pytest.skip("this machine has no older Python")
    for program in ("dev.py", "manage.py"):
        result = checkout.call(ready, program=program, python=str(older))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert result.stderr.startswith("Python 3.11 or newer is required.")


@POSIX_ONLY
def test_manage_py_uses_the_environment_of_the_tests(ready: Path) -> None:
    checkout.lend_packages(ready)
    result = checkout.call(ready, "--help", program="manage.py", python=BASE_PYTHON)
    assert (result.returncode, result.stderr, "events" in result.stdout) == (0, "", True)


@POSIX_ONLY
def test_each_command_installs_only_what_it_needs(fresh: Path) -> None:
    """`run` needs less than `manage.py`, which needs less than `test`. Each builds on the one before."""
    result = checkout.call(fresh, "run", "--port", "0")  # ends: there is no Azurite to start
    assert (steps(result.stderr), "requirements-run.txt" in stamp(fresh)) == ([VENV, PYTHON, NPM], True)
    result = checkout.call(
        fresh, "--help", program="manage.py", python=BASE_PYTHON
    )  # tries twice: they stay missing
    assert ({*steps(result.stderr)}, "requirements-admin.txt" in stamp(fresh)) == ({PYTHON}, True)
    result = checkout.call(fresh, "test")
    assert (steps(result.stderr), "requirements-dev.txt" in stamp(fresh)) == ([PYTHON], True)
    result = checkout.call(fresh, "run", "--port", "0")
    assert (steps(result.stderr), "requirements-dev.txt" in stamp(fresh)) == ([], True)


def test_conflicting_packages_get_an_environment_of_their_own(ready: Path) -> None:
    program = "from pathlib import Path; from admin import environment; environment.beside('other', Path('other.txt'))"

    def beside(content: str) -> str:
        (ready / "other.txt").write_text(content)
        return checkout.call(ready, program, program="-c").stderr

    assert "Setup: creating the virtual environment .venvs/other..." in beside("# nothing\n")
    assert beside("# nothing\n") == ""
    assert "SetupError: Could not install the Python packages" in beside("./missing\n")


def stamp(folder: Path) -> str:
    return (folder / ".venv" / ".made-from").read_text()
