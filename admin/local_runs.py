"""The `dev.py run` processes of this checkout. Each keeps a file in `.local` while it runs."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from admin import locks

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"
SIMULATOR_KEY, SIMULATOR_KEY_VALUE = "SIMULATOR_KEY", "key-of-the-simulator"
"""The name and value of the setting that holds the key of the simulated Azure OpenAI."""


@dataclass(frozen=True)
class Run:
    """A `dev.py run` that is running."""

    pid: int
    url: str
    folder: str
    tables: str | None
    """The connection string; None if `PROXY_TABLES__tableServiceUri` is set instead."""
    simulator_url: str | None
    started_at: str

    @classmethod
    def now(cls, folder: Path, url: str, tables: str | None, simulator_url: str | None) -> "Run":
        return cls(os.getpid(), url, str(folder), tables, simulator_url, datetime.now(UTC).isoformat())


def running(local: Path = LOCAL) -> list[Run]:
    """The runs that are running, newest first."""
    found = [_read(path) for path in local.glob("run-*/run.json") if not _is_left_over(path)]
    return sorted((run for run in found if run), key=lambda run: run.started_at, reverse=True)


def _is_left_over(path: Path) -> bool:
    """Whether its run was killed. Then its lock is free, even if another process has its number now."""
    lock = locks.take(path.with_name("lock"))
    if lock:
        lock.close()
    return lock is not None


def _read(path: Path) -> Run | None:
    try:
        return Run(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # the run has just ended, or an older version wrote the file
        return None
