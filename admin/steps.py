"""Runs the commands of the setup, which can take long and can fail. Standard library only."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from admin import locks
from admin.local_runs import LOCAL, ROOT

_PROGRESS_SECONDS = 10
_LOW_DISK_BYTES = 20_000_000
_DISK_FULL = "The disk is full. Free some space, then run the command again."

Step = Callable[[str, Sequence[str], str], None]
"""`step` with the lock of the folder that is being built."""


class SetupError(Exception):
    """The setup failed. The message says what to do."""


def make(folder: Path, proof: Path, stamps: Sequence[str], build: Callable[[Step], None]) -> None:
    """Builds `folder`, unless `proof` exists and the stamp of the folder is one of `stamps`.

    The first of `stamps` marks the new build. Each folder has its own lock, and the commands of `build` keep
    it if this process is killed. Raises SetupError.
    """

    def is_ready() -> bool:
        return proof.exists() and read(stamp_of(folder)) in stamps

    if is_ready():
        return
    lock = LOCAL / f"set-up-{folder.name}.lock"
    try:
        with locks.held(lock, lambda: say("Another command is setting up this checkout. Waiting...")) as held:
            if not is_ready():  # the other command may have built it
                build(partial(step, lock=held))
                folder.mkdir(exist_ok=True)
                stamp_of(folder).write_text(stamps[0], encoding="utf-8")
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise SetupError(_DISK_FULL if full else f"Could not set up this checkout: {error}.") from error


def stamp_of(folder: Path) -> Path:
    """Returns the file that says what the folder was built from."""
    return folder / ".made-from"


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def step(title: str, command: Sequence[str], advice: str, lock: locks.Lock | None = None) -> None:
    """Runs a command and shows that it is alive. Raises SetupError with `advice` if it fails."""
    say(f"Setup: {title}...")
    started = monotonic()
    inherited = (lock.descriptor,) if lock and sys.platform != "win32" else ()
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(  # noqa: S603
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=inherited,
        ) as process,
    ):
        try:
            while not _ends(process, _PROGRESS_SECONDS):
                say(f"  still {title}, {monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            output.seek(0)
            raise SetupError(_failure(advice, output.read().decode(errors="replace")))
    say(f"  done in {monotonic() - started:.0f} s")


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _failure(advice: str, output: str) -> str:
    if shutil.disk_usage(ROOT).free < _LOW_DISK_BYTES or "No space left on device" in output:
        return _DISK_FULL  # some programs, such as venv, do not say so
    return f"{advice} The output ends with:\n" + "\n".join(output.splitlines()[-12:])
