"""Azurite: Azure Table Storage on this machine."""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Self

from tools import ports
from tools.processes import ROOT, Child

PROGRAM = ROOT / "node_modules" / "azurite" / "dist" / "src" / "table" / "main.js"
ACCOUNT = "devstoreaccount1"
# Not a secret: Microsoft documents it, and it is the same in every Azurite.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_READY_SECONDS = 60


def is_emulator(connection_string: str) -> bool:
    """Returns whether this names an Azurite, and not a real storage account."""
    parts = {part.strip().lower() for part in connection_string.split(";")}
    return bool(parts & {"usedevelopmentstorage=true", f"accountname={ACCOUNT}"})


def connection_string(port: int) -> str:
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"TableEndpoint=http://{ports.HOST}:{port}/{ACCOUNT};"
    )


class Azurite:
    """A table service on 127.0.0.1. Its data is in the folder `location`, or only in memory.

    It keeps its port: `start` after `stop` or `kill` uses the same address. `stop` saves all data to disk.
    `kill` loses the data of the last seconds, as a power cut does.
    """

    child: Child

    def __init__(self, location: Path | None = None, *, port: int = 0) -> None:
        self.port = port
        self._location = location

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connection_string(self) -> str:
        return connection_string(self.port)

    def start(self) -> None:
        """Returns when the service is ready. Raises ChildError if it does not start."""
        self.port = self.port or ports.free()
        env = {name: value for name, value in os.environ.items() if name != "AZURITE_ACCOUNTS"}
        child = Child("Azurite", _command(self.port, self._location), env=env)
        try:
            child.expect("successfully started", _READY_SECONDS)
        except BaseException:
            child.kill()
            raise
        self.child = child

    def stop(self) -> None:
        self.child.end()

    def kill(self) -> None:
        self.child.kill()

    def suspend(self) -> None:
        """From now on it accepts connections but sends no response (not on Windows)."""
        if sys.platform != "win32":
            os.kill(self.child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if sys.platform != "win32":
            os.kill(self.child.pid, signal.SIGCONT)


def _command(port: int, location: Path | None) -> list[str]:
    program = [shutil.which("node") or "node", "--require", str(ROOT / "tools" / "attached.js"), str(PROGRAM)]
    data = ["--inMemoryPersistence"] if location is None else ["--location", str(location)]
    options = ["--tablePort", str(port), "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    return program + data + options
