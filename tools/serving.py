"""`dev.py run`: starts the tables, the simulated Azure OpenAI, the demo event and the app, and ends them."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

from admin import environment, local_runs
from tools import node, ports, runs, welcome
from tools.azurite import Azurite, is_emulator
from tools.processes import ROOT, Child, ChildError, attached, relay

TABLES, TABLES_URI = "PROXY_TABLES", "PROXY_TABLES__tableServiceUri"
FIRST_PORT = 7071
_START_SECONDS = 60
_CHOOSE_PORT = "Choose another with --port, or leave --port out."


class NotPossible(Exception):
    """The options cannot be used. The message says why."""


def serve(*, port: int | None, demo: bool) -> int:
    """Serves until Ctrl-C. Raises NotPossible, SetupError, or ChildError if a child ends."""
    _treat_as_ctrl_c("SIGTERM", "SIGHUP", "SIGBREAK")
    if port and not ports.is_free(port):
        raise NotPossible(f"Port {port} is in use. {_CHOOSE_PORT}")
    python = environment.prepare(environment.RUN)
    if not _tables_are_given(os.environ):
        node.prepare()
    started = monotonic()
    with ExitStack() as stack:
        try:
            children = _Children(python, stack)
            run = children.start(port, demo=demo)
            print(welcome.text(run, seconds=monotonic() - started), flush=True)
            children.watch()
        except KeyboardInterrupt:
            print("\nStopping...", file=sys.stderr)
    return 0


class _Children:
    """The running children. `stack` ends them, the last one first."""

    def __init__(self, python: Path, stack: ExitStack) -> None:
        self._python = python
        self._stack = stack
        self._running: list[Child] = []
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def start(self, port: int | None, *, demo: bool) -> local_runs.Run:
        slot = self._slot(port)
        if not _tables_are_given(self._env):
            self._env[TABLES] = self._start_azurite(slot.folder / "azurite")
        simulator = None
        if demo and _may_have_demo(self._env):
            simulator = self._start_demo()
        elif is_emulator(self._env.get(TABLES, "")):
            self._create()  # only here: the tables of a real account are its administrator's task
        url = self._start_app(slot.port)
        run = local_runs.Run.now(slot.folder, url, self._env.get(TABLES), simulator)
        runs.announce(run)
        return run

    def watch(self) -> None:
        """Waits for Ctrl-C. Raises ChildError as soon as a child ends."""
        while True:
            self._check()
            sleep(0.2)

    def _slot(self, wanted: int | None) -> runs.Slot:
        try:
            slot = self._stack.enter_context(runs.slot(_free_ports() if wanted is None else [wanted]))
        except runs.InUse:
            raise NotPossible(f"Another `dev.py run` uses port {wanted}. {_CHOOSE_PORT}") from None
        if wanted is None and slot.port != FIRST_PORT:
            own = "" if _tables_are_given(self._env) else ", which has its own tables"
            print(f"Port {FIRST_PORT} is in use. Using port {slot.port}{own}.", file=sys.stderr)
        return slot

    def _start_azurite(self, location: Path) -> str:
        azurite = self._stack.enter_context(Azurite(location))
        self._running.append(azurite.child)
        return azurite.connection_string

    def _start_demo(self) -> str:
        self._env[local_runs.SIMULATOR_KEY] = local_runs.SIMULATOR_KEY_VALUE
        options = ["--key", local_runs.SIMULATOR_KEY_VALUE, "--tokens-per-second", "30"]
        simulator = self._start("simulator", "tools.simulator", *options)
        url = simulator.expect("simulated Azure OpenAI on ", _START_SECONDS).split()[-1]
        self._create("--simulator", url, "--key-setting", local_runs.SIMULATOR_KEY)
        return url

    def _create(self, *options: str) -> None:
        with Child("demo event", attached(self._python, "tools.demo", *options), env=self._env) as creating:
            creating.finish(_START_SECONDS)

    def _start_app(self, port: int) -> str:
        app = self._start("app", "tools.functions_host", "--port", str(port))
        url = app.expect("Functions host on ", _START_SECONDS).split()[-1]
        self._await_readiness(url, monotonic() + _START_SECONDS)
        return url

    def _start(self, name: str, module: str, *arguments: str) -> Child:
        command = attached(self._python, module, *arguments, env_file=ROOT / ".env")
        child = self._stack.enter_context(Child(name, command, env=self._env, relay=relay))
        self._running.append(child)
        return child

    def _await_readiness(self, url: str, deadline: float) -> None:
        while (response := _readiness(url)) != "200":
            self._check()
            if monotonic() > deadline:
                raise ChildError(f"The app was not ready after {_START_SECONDS} s. /readyz: {response}.")
            sleep(0.05)

    def _check(self) -> None:
        for child in self._running:
            if child.status is not None:
                child.wait(1)
                raise child.failure()


def _free_ports() -> Iterator[int]:
    return filter(ports.is_free, range(FIRST_PORT, 65_536))


def _tables_are_given(env: Mapping[str, str]) -> bool:
    return bool(env.get(TABLES) or env.get(TABLES_URI))


def _may_have_demo(env: Mapping[str, str]) -> bool:
    """Only an emulator may: everyone knows the code of the demo event."""
    if is_emulator(env.get(TABLES, "")):
        return True
    reason = "The tables are in a real storage account"
    print(f"{reason}, so there is no demo event (as with --no-demo).", file=sys.stderr)
    return False


def _readiness(url: str) -> str:
    """Returns the status of the response, or the error."""
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=10)) as connection:
        try:
            connection.request("GET", "/readyz")
            return str(connection.getresponse().status)
        except OSError as error:
            return str(error)


def _treat_as_ctrl_c(*names: str) -> None:
    """Changes these signals, unless this system lacks them or our parent ignores them (as `nohup` does)."""
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
