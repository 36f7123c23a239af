"""The folders of `dev.py run` in `.local`: each port has its own, which keeps its tables for the next run."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from admin import locks
from admin.local_runs import LOCAL, Run

_TRIES, _RETRY_SECONDS = 5, 0.05
"""`local_runs.running` holds each lock for a moment. That must not look like another run."""


class InUse(Exception):
    """Another run has the folder."""


@dataclass(frozen=True)
class Slot:
    """The folder of a run, and the port that the tables in it belong to."""

    folder: Path
    port: int


@contextmanager
def slot(ports: Iterable[int], local: Path = LOCAL) -> Iterator[Slot]:
    """Takes the first of these ports whose folder is free, until the block ends.

    Port 0 means any port. It has several folders, so that several runs can use it. Raises InUse.
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
    """Lets `local_runs.running` find the run. Only this user can read the file, which may have a real key."""
    path = Path(run.folder) / "run.json"
    written = path.with_suffix(".new")
    written.touch(mode=0o600)
    written.write_text(json.dumps(asdict(run), indent=2), encoding="utf-8")
    written.replace(path)


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
