"""`dev.py run`, from its start to its end: the real program with the real app, in a checkout of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from admin.local_runs import Run, running
from tests.tools import checkout
from tests.tools.test_processes import ended
from tools import ports, welcome
from tools.azurite import Azurite
from tools.processes import Child, ChildError
from tools.runs import slot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends them by POSIX signals")


@dataclass(frozen=True)
class Serving:
    """A `dev.py run` that has said that it serves."""

    dev: Child
    run: Run

    def children(self) -> dict[str, int]:
        """The process ids by what their command names."""
        command = ["ps", "-ww", "-eo", "pid=,ppid=,args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in listed.splitlines()]
        mine = [(int(pid), args) for pid, parent, args in rows if int(parent) == self.dev.pid]
        names = ("azurite", "simulator", "functions_host")
        return {name: pid for pid, args in mine for name in names if name in args}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout.without_packages(tmp_path_factory.mktemp("checkout"))
    assert checkout.call(folder, "test").returncode == 7
    checkout.lend_packages(folder)
    return folder


@pytest.fixture(scope="module")
def serving(folder: Path) -> Iterator[Serving]:
    with serve(folder) as serving:
        yield serving


@contextmanager
def serve(folder: Path, *options: str, **env: str) -> Iterator[Serving]:
    known = {run.pid for run in running(folder / ".local")}
    command = [sys.executable, str(folder / "dev.py"), "run", "--port", "0", *options]
    with Child("dev.py", command, env={**os.environ, **env}) as dev:
        try:
            dev.expect("Ctrl-C ends it", 60)
            (run,) = (run for run in running(folder / ".local") if run.pid not in known)
            yield Serving(dev, run)
        finally:
            if dev.status is None:
                os.kill(dev.pid, signal.SIGINT)
                dev.wait(30)


def test_what_it_prints_works_as_pasted(serving: Serving) -> None:
    if not shutil.which("curl"):
        pytest.skip("there is no curl on this machine")
    printed = re.findall(r"(?m)^  curl(?:.*\\\n)*.*$", serving.dev.last_lines(200))
    chat, stream, event = (
        subprocess.run(["sh", "-c", f"{one} -sS"], capture_output=True, check=True).stdout for one in printed
    )
    assert json.loads(chat)["choices"][0]["message"]["content"]
    assert stream.strip().endswith(b"data: [DONE]")
    assert json.loads(event)["user"] == "gloveboxes"


def test_manage_py_finds_its_tables(serving: Serving, folder: Path) -> None:
    assert "Demo hackathon" in manage(folder, "events", "list").stdout


def test_a_second_one_runs_beside_it(serving: Serving, folder: Path) -> None:
    with serve(folder) as second:
        assert second.run.folder != serving.run.folder
        assert second.run.tables != serving.run.tables
        assert all(status(f"{one.run.url}/readyz") == 200 for one in (serving, second))


def test_manage_py_says_which_of_two_it_works_on_and_an_address_chooses(
    serving: Serving, folder: Path
) -> None:
    def status_of(run: Run, code: str) -> int:
        asked = urllib.request.Request(f"{run.url}/v1/event", headers={"api-key": f"{code}/ann"})
        try:
            return status(asked)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    with serve(folder) as second:
        told = create(folder, "of-the-latest")
        assert told.count("\n") == 1 and f"Using the newest, {second.run.url}." in told
        assert create(folder, "of-the-first", PROXY_URL=serving.run.url) == ""
        codes = ("of-the-first", "of-the-latest")
        assert [status_of(serving.run, code) for code in codes] == [200, 401]
        assert [status_of(second.run, code) for code in codes] == [401, 200]


def test_given_tables_are_used_and_no_azurite_is_started(folder: Path) -> None:
    with Azurite() as azurite, serve(folder, PROXY_TABLES=azurite.connection_string) as given:
        assert given.run.tables == azurite.connection_string
        assert sorted(given.children()) == ["functions_host", "simulator"]


def test_without_the_demo_there_is_neither_simulator_nor_event(folder: Path) -> None:
    with serve(folder, "--no-demo") as plain:
        assert sorted(plain.children()) == ["azurite", "functions_host"]
        assert plain.run.simulator_url is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_it(folder: Path, number: signal.Signals) -> None:
    with serve(folder) as serving:
        children = serving.children()
        os.kill(serving.dev.pid, number)
        serving.dev.finish(30)
    assert len(children) == 3
    assert all(map(ended, children.values()))
    assert not Path(serving.run.folder, "run.json").exists()


def test_a_kill_ends_all_of_it(folder: Path) -> None:
    with serve(folder) as serving:
        children = serving.children()
        serving.dev.kill()
    assert len(children) == 3
    assert all(map(ended, children.values()))
    assert serving.run not in running(folder / ".local")


@pytest.mark.parametrize("name", ["azurite", "simulator", "functions_host"])
def test_a_child_that_dies_ends_all_of_it_and_is_named(folder: Path, name: str) -> None:
    told = {"azurite": "Azurite", "simulator": "simulator", "functions_host": "app"}[name]
    with serve(folder) as serving:
        children = serving.children()
        os.kill(children[name], signal.SIGKILL)
        with pytest.raises(ChildError, match=r"dev\.py ended with exit status 1"):
            serving.dev.finish(30)
    assert f"{told} ended with exit status -9" in serving.dev.last_lines(200)
    assert all(map(ended, children.values()))


def test_the_tables_are_kept_from_one_run_to_the_next(folder: Path) -> None:
    with serve(folder):
        create(folder, "kept")
    with serve(folder):
        assert "kept" in events(folder)


def test_a_port_has_its_own_tables_again_after_two_ran_side_by_side(folder: Path) -> None:
    first, second = (str(port) for port in (ports.free(), ports.free()))
    with serve(folder, "--port", first), serve(folder, "--port", second):
        create(folder, "of-the-second")
    with serve(folder, "--port", second):
        assert "of-the-second" in events(folder)
        with serve(folder, "--port", first):
            assert "of-the-second" not in events(folder)


def test_a_taken_port_that_was_asked_for_is_one_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        answer = checkout.call(folder, "run", "--port", port)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == f"Port {port} is taken: choose another with --port, or leave it out.\n"


def test_a_port_on_which_another_run_begins_is_one_sentence(folder: Path) -> None:
    port = ports.free()
    with slot([port], folder / ".local"):
        answer = checkout.call(folder, "run", "--port", str(port))
    told = f"Another `dev.py run` here has port {port}: choose another with --port, or leave it out.\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", told)


@pytest.mark.parametrize("arguments", [["run", "--port", "many"], ["run", "--ports"], ["lint", "x"], []])
def test_a_wrong_command_is_told_without_a_traceback(folder: Path, arguments: list[str]) -> None:
    answer = checkout.call(folder, *arguments)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["test"], ["lint"]])
def test_help_needs_no_set_up(tmp_path: Path, command: list[str]) -> None:
    answer = checkout.call(checkout.without_packages(tmp_path), *command, "--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert not (tmp_path / ".venv").exists()


def test_windows_gets_commands_for_its_own_shells() -> None:
    run = Run(1, "http://127.0.0.1:7071", "", None, "http://127.0.0.1:1", "")
    told = welcome.text(run, seconds=1, windows=True)
    assert all(
        words in told for words in ("Invoke-RestMethod http://127.0.0.1:7071/v1", '-d "{\\"stream\\": true')
    )
    assert told.isascii()


def create(folder: Path, code: str, **env: str) -> str:
    """Makes an event with `manage.py`; what that says besides."""
    about = ["--name", code, "--starts", "2030-01-01", "--ends", "2030-01-02", "--requests-per-day", "1"]
    made = manage(folder, "events", "create", code, *about, "--json", **env)
    assert json.loads(made.stdout)["code"] == code
    return made.stderr


def events(folder: Path) -> set[str]:
    return {event["code"] for event in json.loads(manage(folder, "events", "list", "--json").stdout)}


def manage(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    settings = {**os.environ, **env}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=True)


def status(url: str | urllib.request.Request) -> int:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return int(answer.status)
