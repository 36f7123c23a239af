"""Azurite's table service: Azure Table Storage on this machine, as the npm package that package.json pins."""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Self

from tools import ports
from tools.processes import ROOT, Child, ChildError, Relay

PROGRAM = ROOT / "node_modules" / "azurite" / "dist" / "src" / "table" / "main.js"
ACCOUNT = "devstoreaccount1"
# Not a secret: every Azurite has it, and Microsoft documents it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_READY_SECONDS = 60


def is_emulator(connection_string: str) -> bool:
    """Whether the tables that it names are those of an Azurite, and not of a real account."""
    parts = {part.strip().lower() for part in connection_string.split(";")}
    return bool(parts & {"usedevelopmentstorage=true", f"accountname={ACCOUNT}"})


class Azurite:
    """A table service on 127.0.0.1, with its data in the folder `location`, or in memory alone.

    It keeps its port over `stop` and `kill`, so that `start` brings the same address back. `stop` saves all
    to disk; `kill` loses what was written in the last seconds, as a power cut would.
    """

    def __init__(self, location: Path | None = None, *, port: int = 0, relay: Relay | None = None) -> None:
        self.port = port
        self._location = location
        self._relay = relay
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"TableEndpoint=http://{ports.HOST}:{self.port}/{ACCOUNT};"
        )

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this Azurite has not been started")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    def start(self) -> None:
        """Returns when it answers. Raises ChildError, with its last output, when it cannot."""
        if self._child and self._child.status is None:
            raise RuntimeError("this Azurite is running already")
        if self.port:
            self._start_on(self.port)
        else:
            self._start_on_a_free_port()

    def stop(self) -> None:
        self.child.end()

    def kill(self) -> None:
        self.child.kill()

    def suspend(self) -> None:
        """From here on it accepts connections and answers nothing (not on Windows)."""
        if sys.platform != "win32":
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if sys.platform != "win32":
            os.kill(self.pid, signal.SIGCONT)

    def _start_on_a_free_port(self) -> None:
        for attempts_left in (2, 1, 0):
            port = ports.free()
            try:
                self._start_on(port)
            except ChildError as failure:
                if "EADDRINUSE" not in str(failure) or not attempts_left:
                    raise
            else:
                self.port = port
                return

    def _start_on(self, port: int) -> None:
        env = {name: value for name, value in os.environ.items() if name != "AZURITE_ACCOUNTS"}
        child = Child("Azurite", _command(port, self._location), env=env, relay=self._relay)
        try:
            child.expect("successfully started", _READY_SECONDS)
        except BaseException:
            child.kill()
            raise
        self._child = child


def _command(port: int, location: Path | None) -> list[str]:
    where = ["--inMemoryPersistence"] if location is None else ["--location", str(location)]
    return [
        shutil.which("node") or "node",
        "--require",
        str(ROOT / "tools" / "attached.js"),
        str(PROGRAM),
        *("--tableHost", ports.HOST, "--tablePort", str(port)),
        *where,
        "--skipApiVersionCheck",
        "--disableTelemetry",
        "--silent",
    ]
