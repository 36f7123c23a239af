"""Locks between processes, each on a file. The system opens them when their process ends, however it ends."""

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
    """A lock that is held until `close`. A child that inherits the descriptor holds it too (not on Windows)."""

    descriptor: int

    def close(self) -> None:
        os.close(self.descriptor)


def take(path: Path) -> Lock | None:
    """None when another process, or another call in this one, holds it."""
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
    """Waits for the lock; `on_wait` is called once if another process holds it."""
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
