"""The `dev.py run`s of this checkout: each port has a folder in `.local`, kept for the next run on it."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from tools import locks
from tools.processes import ROOT

LOCAL = ROOT / ".local"
SIMULATOR_KEY, SIMULATOR_KEY_VALUE = "SIMULATOR_KEY", "key-of-the-simulator"
"""The setting with the key of a run's simulated Azure OpenAI, and the key."""
# A reader holds a slot's lock for an instant, to see whether it can: one must not take that for another run.
_TRIES, _RETRY_SECONDS = 5, 0.05


@dataclass(frozen=True)
class Run:
    """A `dev.py run` that serves now."""

    pid: int
    url: str
    folder: str
    tables: str | None
    """The connection string; None when `PROXY_TABLES__tableServiceUri` names the tables."""
    simulator_url: str | None
    started_at: str

    @classmethod
    def now(cls, folder: Path, url: str, tables: str | None, simulator_url: str | None) -> "Run":
        return cls(os.getpid(), url, str(folder), tables, simulator_url, datetime.now(UTC).isoformat())


class InUse(Exception):
    """Another run has the folder."""


@dataclass(frozen=True)
class Slot:
    """What a run has to itself: a folder, and the port that the folder's tables belong to."""

    folder: Path
    port: int


@contextmanager
def slot(ports: Iterable[int], local: Path = LOCAL) -> Iterator[Slot]:
    """That of the first of these ports whose folder no other run has; ours until the end of the block.

    Port 0, which is any, has several folders: then the first that is free.

    Raises:
        InUse: other runs have them all.
    """
    taken, lock = next(_free(ports, local), (None, None))
    if not taken or not lock:
        raise InUse
    announced = taken.folder / "run.json"
    try:
        announced.unlink(missing_ok=True)
        yield taken
    finally:
        announced.unlink(missing_ok=True)
        lock.close()


def announce(run: Run) -> None:
    """Lets `running` find it. Only this user can read it: the tables may be of a real account."""
    path = Path(run.folder) / "run.json"
    written = path.with_suffix(".new")
    written.touch(mode=0o600)
    written.write_text(json.dumps(asdict(run), indent=2), encoding="utf-8")
    written.replace(path)


def running(local: Path = LOCAL) -> list[Run]:
    """The runs that serve now, the latest first."""
    found = [_read(path) for path in local.glob("run-*/run.json") if not _is_left_over(path)]
    return sorted((run for run in found if run), key=lambda run: run.started_at, reverse=True)


def _free(ports: Iterable[int], local: Path) -> Iterator[tuple[Slot, locks.Lock]]:
    for port in ports:
        for name in [f"run-{port}"] if port else (f"run-any-{number}" for number in count(1)):
            if lock := _take(local / name):
                yield Slot(local / name, port), lock


def _take(folder: Path) -> locks.Lock | None:
    for _ in range(_TRIES):
        if lock := locks.take(folder / "lock"):
            return lock
        time.sleep(_RETRY_SECONDS)
    return None


def _is_left_over(path: Path) -> bool:
    """Whether its run was killed: then the lock is free, whatever process may have its number now."""
    lock = locks.take(path.with_name("lock"))
    if lock:
        lock.close()
    return lock is not None


def _read(path: Path) -> Run | None:
    try:
        return Run(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it ended meanwhile, or an older version of us wrote it
        return None
