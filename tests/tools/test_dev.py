"""`dev.py run` from start to end: the real program with the real app, in a checkout of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from admin.local_runs import Run, running
from tests.tools import checkout
from tools import ports, welcome
from tools.azurite import Azurite
from tools.processes import Child, ChildError
from tools.runs import slot

pytestmark = [
    pytest.mark.one_python,
    pytest.mark.skipif(sys.platform == "win32", reason="ends them by POSIX signals"),
]

CHILDREN = {"azurite": "Azurite", "simulator": "simulator", "functions_host": "app"}
"""What each child has in its command, and its name in messages."""


@dataclass(frozen=True)
class Serving:
    """A `dev.py run` that is ready."""

    dev: Child
    run: Run

    def children(self) -> dict[str, int]:
        """The process ids by name."""
        command = ["ps", "-ww", "-eo", "pid=,ppid=,args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows = [line.split(maxsplit=2) for line in listed.splitlines()]
        mine = [(int(pid), args) for pid, parent, args in rows if int(parent) == self.dev.pid]
        return {name: pid for pid, args in mine for name in CHILDREN if name in args}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = checkout.without_packages(tmp_path_factory.mktemp("checkout"))
    assert checkout.call(folder, "test").returncode == 7
    checkout.lend_packages(folder)
    return folder


@contextmanager
def serve(folder: Path, *options: str, **env: str) -> Iterator[Serving]:
    known = {run.pid for run in running(folder / ".local")}
    port = [] if "--port" in options else ["--port", "0"]
    command = [sys.executable, str(folder / "dev.py"), "run", *port, *options]
    with Child("dev.py", command, env={**os.environ, **env}) as dev:
        try:
            dev.expect("manage.py --help", 60)
            (run,) = (run for run in running(folder / ".local") if run.pid not in known)
            yield Serving(dev, run)
        finally:
            if dev.status is None:
                os.kill(dev.pid, signal.SIGINT)
                dev.wait(30)


def test_printed_commands_work_and_manage_py_finds_the_newest_run(folder: Path) -> None:
    with serve(folder) as first:
        if shutil.which("curl"):
            check_printed_commands(first.dev.last_lines(200))
        with serve(folder) as second:
            message = create(folder, "on-the-newest")
            assert message.count("\n") == 1 and second.run.url in message
            assert create(folder, "on-the-first", PROXY_URL=first.run.url) == ""
            codes = ("on-the-first", "on-the-newest")
            assert [status(first.run, code) for code in codes] == [200, 401]
            assert [status(second.run, code) for code in codes] == [401, 200]


def check_printed_commands(output: str) -> None:
    commands = re.findall(r"(?m)^  curl(?:.*\\\n)*.*$", output)
    chat, stream, event = [subprocess.check_output(["sh", "-c", f"{one} -sS"]) for one in commands]
    assert json.loads(chat)["choices"][0]["message"]["content"]
    assert stream.strip().endswith(b"data: [DONE]")
    assert json.loads(event)["user"] == "gloveboxes"


def test_given_tables_replace_azurite(folder: Path) -> None:
    with Azurite() as azurite, serve(folder, PROXY_TABLES=azurite.connection_string) as given:
        assert given.run.tables == azurite.connection_string
        assert sorted(given.children()) == ["functions_host", "simulator"]


def test_no_demo_leaves_out_the_simulator_and_the_event(folder: Path) -> None:
    with serve(folder, "--no-demo", "--port", str(ports.free())) as plain:
        assert sorted(plain.children()) == ["azurite", "functions_host"]
        assert plain.run.simulator_url is None
        assert status(plain.run, "hackathon") == 401


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_signal_ends_all_children(folder: Path, number: signal.Signals) -> None:
    with serve(folder) as serving:
        children = serving.children()
        os.kill(serving.dev.pid, number)
        assert serving.dev.wait(30)
    assert serving.dev.status == (-9 if number == signal.SIGKILL else 0)
    assert len(children) == 3
    assert all(map(checkout.ended, children.values()))
    assert serving.run not in running(folder / ".local")


@pytest.mark.parametrize(("process", "name"), CHILDREN.items())
def test_child_that_dies_ends_all_and_is_named(folder: Path, process: str, name: str) -> None:
    with serve(folder) as serving:
        children = serving.children()
        os.kill(children[process], signal.SIGKILL)
        with pytest.raises(ChildError, match=r"dev\.py ended with exit status 1"):
            serving.dev.finish(30)
    assert f"{name} ended with exit status -9" in serving.dev.last_lines(200)
    assert all(map(checkout.ended, children.values()))


def test_each_port_keeps_its_own_tables(folder: Path) -> None:
    first, second = (str(port) for port in (ports.free(), ports.free()))
    with serve(folder, "--port", first) as other, serve(folder, "--port", second):
        create(folder, "on-the-second")
        assert status(other.run, "on-the-second") == 401
    with serve(folder, "--port", second) as again:
        assert status(again.run, "on-the-second") == 200


def test_port_in_use_is_one_sentence(folder: Path) -> None:
    port = ports.free()
    expected = "{} Choose another with --port, or leave --port out.\n"
    with slot([port], folder / ".local"):
        result = checkout.call(folder, "run", "--port", str(port))
    assert result.stderr == expected.format(f"Another `dev.py run` uses port {port}.")
    with socket.create_server(("127.0.0.1", port)):
        result = checkout.call(folder, "run", "--port", str(port))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == expected.format(f"Port {port} is in use.")


@pytest.mark.parametrize("arguments", [["run", "--port", "many"], ["run", "--ports"], ["lint", "x"], []])
def test_wrong_command_is_an_error_without_a_traceback(folder: Path, arguments: list[str]) -> None:
    result = checkout.call(folder, *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (2, False)


@pytest.mark.parametrize("command", [[], ["run"], ["test"], ["attack"], ["soak"], ["lint"]])
def test_help_needs_no_setup(command: list[str], tmp_path: Path) -> None:
    result = checkout.call(checkout.without_packages(tmp_path), *command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("command", "error"),
    [(["attack", "--only", "no name"], "No attack has 'no name'"), (["soak", "--minutes", "x"], "--minutes")],
)
def test_attack_and_soak_start_with_their_packages(folder: Path, command: list[str], error: str) -> None:
    result = checkout.call(folder, *command)
    assert result.returncode == 2 and error in result.stderr and "Traceback" not in result.stderr


def test_windows_gets_commands_for_its_own_shells() -> None:
    run = Run(1, "http://127.0.0.1:7071", "", None, "http://127.0.0.1:1", "")
    text = welcome.text(run, seconds=1, windows=True)
    assert "Invoke-RestMethod http://127.0.0.1:7071/v1" in text and '-d "{\\"stream\\": true' in text
    assert text.isascii()


def test_without_the_demo_the_text_says_nothing_about_events_in_the_tables() -> None:
    text = welcome.text(Run(1, "http://127.0.0.1:7071", "", None, None, ""), seconds=1)
    assert "no event" not in text and "`python3 manage.py deployments add`" in text


def create(folder: Path, code: str, **env: str) -> str:
    """Creates an open event with `manage.py`, and returns what it prints to standard error."""
    options = ["--name", code, "--starts", "now", "--ends", "+1d", "--requests-per-day", "1"]
    result = checkout.call(folder, "events", "create", code, *options, "--json", program="manage.py", **env)
    assert json.loads(result.stdout)["code"] == code
    return result.stderr


def status(run: Run, code: str) -> int:
    """The status of the proxy's response about the event."""
    return httpx.get(f"{run.url}/v1/event", headers={"api-key": f"{code}/ann"}, timeout=10).status_code
