"""The sequence of `dev.py run`: tables, simulated Azure OpenAI, demo event, app; and the end of them all."""

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

from admin import local_runs
from tools import environment, ports, runs, welcome
from tools.azurite import Azurite, is_emulator
from tools.processes import ROOT, Child, ChildError, attached, relay

TABLES, TABLES_URI = "PROXY_TABLES", "PROXY_TABLES__tableServiceUri"
FIRST_PORT = 7071
_START_SECONDS = 60
_CHOOSE = "choose another with --port, or leave it out."


class NotPossible(Exception):
    """What was asked for cannot be done; the message says why."""


def serve(*, port: int | None, demo: bool) -> int:
    """Returns when it was asked to end. Raises NotPossible, SetupError, or ChildError when a child died."""
    _treat_as_ctrl_c("SIGTERM", "SIGHUP", "SIGBREAK")
    if port and not ports.is_free(port):
        raise NotPossible(f"Port {port} is taken: {_CHOOSE}")
    python = environment.prepare(node=not _tables_are_given(os.environ))
    started = monotonic()
    with ExitStack() as stack:
        try:
            children = _Children(python, stack)
            run = children.start(port, demo=demo)
            print(welcome.text(run, seconds=monotonic() - started), flush=True)
            children.watch()
        except KeyboardInterrupt:
            print("\nEnding.", file=sys.stderr)
    return 0


class _Children:
    """What runs, each ended by `stack` in the reverse of the order in which it was started."""

    def __init__(self, python: Path, stack: ExitStack) -> None:
        self._python = python
        self._stack = stack
        self._running: list[Child] = []
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def start(self, port: int | None, *, demo: bool) -> local_runs.Run:
        slot = self._slot(port)
        if not _tables_are_given(self._env):
            self._env[TABLES] = self._start_azurite(slot.folder / "azurite")
        if not demo and is_emulator(self._env.get(TABLES, "")):
            self._seed()  # the tables; those of a real account are its administrator's to make
        simulator = self._start_demo() if demo and _may_have_demo(self._env) else None
        url = self._start_app(slot.port, may_move=port is None)
        run = local_runs.Run.now(slot.folder, url, self._env.get(TABLES), simulator)
        runs.announce(run)
        return run

    def watch(self) -> None:
        """Until Ctrl-C. Raises ChildError as soon as one has ended."""
        while True:
            self._check()
            sleep(0.2)

    def _slot(self, wanted: int | None) -> runs.Slot:
        try:
            slot = self._stack.enter_context(runs.slot(_free_ports() if wanted is None else [wanted]))
        except runs.InUse:
            raise NotPossible(f"Another `dev.py run` here has port {wanted}: {_CHOOSE}") from None
        if wanted is None and slot.port != FIRST_PORT:
            own = "" if _tables_are_given(self._env) else ", with tables of its own"
            print(f"Port {FIRST_PORT} is taken; this is {slot.port}{own}.", file=sys.stderr)
        return slot

    def _next(self, port: int) -> int:
        """Another program was quicker. The tables, which serve by now, stay those of the first port."""
        moved = self._stack.enter_context(runs.slot(_free_ports(port + 1))).port
        print(f"Port {port} was taken meanwhile; this is {moved}, with its tables.", file=sys.stderr)
        return moved

    def _start_azurite(self, location: Path) -> str:
        azurite = self._stack.enter_context(Azurite(location))
        self._running.append(azurite.child)
        return azurite.connection_string

    def _start_demo(self) -> str:
        self._env[local_runs.SIMULATOR_KEY] = local_runs.SIMULATOR_KEY_VALUE
        options = ["--port", "0", "--key", local_runs.SIMULATOR_KEY_VALUE, "--tokens-per-second", "30"]
        simulator = self._start("simulator", "tools.simulator", *options)
        url = simulator.expect("simulated Azure OpenAI on ", _START_SECONDS).split()[-1]
        self._seed("--simulator", url, "--key-setting", local_runs.SIMULATOR_KEY)
        return url

    def _seed(self, *wanted: str) -> None:
        with Child("demo event", attached(self._python, "tools.demo", *wanted), env=self._env) as seeding:
            seeding.finish(_START_SECONDS)

    def _start_app(self, port: int, *, may_move: bool) -> str:
        app = self._start("app", "tools.functions_host", "--port", str(port))
        try:
            url = app.expect("Functions host on ", _START_SECONDS).split()[-1]
        except ChildError:
            if not may_move or ports.is_free(port):
                raise
            self._running.remove(app)
            return self._start_app(self._next(port), may_move=True)
        self._await_readiness(url, monotonic() + _START_SECONDS)
        return url

    def _start(self, name: str, module: str, *arguments: str) -> Child:
        command = attached(self._python, module, *arguments, env_file=ROOT / ".env")
        child = self._stack.enter_context(Child(name, command, env=self._env, relay=relay))
        self._running.append(child)
        return child

    def _await_readiness(self, url: str, deadline: float) -> None:
        while (answer := _ask(f"{url}/readyz")) != "200":
            self._check()
            if monotonic() > deadline:
                raise ChildError(f"The app is not ready after {_START_SECONDS} s: /readyz answers {answer}.")
            sleep(0.05)

    def _check(self) -> None:
        for child in self._running:
            if child.status is not None:
                child.wait(1)
                raise child.failure()


def _free_ports(first: int = FIRST_PORT) -> Iterator[int]:
    return (port for port in range(first, 65_536) if ports.is_free(port))


def _tables_are_given(env: Mapping[str, str]) -> bool:
    return bool(env.get(TABLES) or env.get(TABLES_URI))


def _may_have_demo(env: Mapping[str, str]) -> bool:
    """Only an emulator's tables: a demo event in a real account would be open to everybody who reads this."""
    if is_emulator(env.get(TABLES, "")):
        return True
    print("The tables are those of a real account: no demo is put there, as with --no-demo.", file=sys.stderr)
    return False


def _ask(url: str) -> str:
    """The status, or why there is none. No proxy that the environment names has a part in it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)
    except OSError as error:
        return f"with {error}"


def _treat_as_ctrl_c(*names: str) -> None:
    """Those of these signals that this system has, and that whoever started us did not choose to ignore."""
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
