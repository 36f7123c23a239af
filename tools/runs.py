"""The folders of the `dev.py run`s: each port has one in `.local`, kept for the next run on it."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from admin import locks
from admin.local_runs import LOCAL, Run

# A reader holds a slot's lock for an instant, to see whether it can: one must not take that for another run.
_TRIES, _RETRY_SECONDS = 5, 0.05


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
