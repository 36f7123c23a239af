"""Locks between processes, each on a file. The system frees a lock when its process ends, even by a kill."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Lock:
    """Held until `close`. On POSIX, a child that inherits the descriptor holds it too."""

    descriptor: int

    def close(self) -> None:
        os.close(self.descriptor)


def take(path: Path) -> Lock | None:
    """Take the lock; None if it is held already, also by this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
    except OSError:
        os.close(descriptor)
        return None
    return Lock(descriptor)


@contextmanager
def held(path: Path, on_wait: Callable[[], None]) -> Iterator[Lock]:
    """Wait for the lock. If it is held, `on_wait` is called once."""
    lock = take(path)
    if not lock:
        on_wait()
    while not lock:
        time.sleep(_RETRY_SECONDS)
        lock = take(path)
    try:
        yield lock
    finally:
        lock.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
