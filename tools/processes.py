"""Child processes that end with us, and whose output we keep.

Each child has a pipe as its standard input and ends when that closes (see `attached.py` and `attached.js`).
So it ends cleanly on every system, even if we are killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
Relay = Callable[[str, str], None]

_CREATION_FLAGS = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # on Windows only


def resident_bytes(pid: int) -> int:
    """The memory of a process, shared libraries included; 0 where the system has no /proc."""
    with suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


class ChildError(Exception):
    """A child ended or was not ready in time. The message has its name and its last lines."""


def attached(python: Path, module: str, *arguments: str, env_file: Path | None = None) -> list[str]:
    """Returns the command for a Python module that ends when its standard input closes."""
    settings = ["--env-file", str(env_file)] if env_file else []
    return [str(python), "-m", "tools.attached", *settings, module, *arguments]


def relay(name: str, line: str) -> None:
    with suppress(OSError):  # our output may be closed
        sys.stderr.write(f"{name:>9} | {line}\n")
        sys.stderr.flush()


class Child:
    """A running child. Use it as a context manager: the child ends with the block."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str] = os.environ,
        relay: Relay | None = None,
    ) -> None:
        self.name = name
        self._relay = relay
        self._lines: deque[str] = deque(maxlen=200)
        self._changed = threading.Condition()
        self._output_ended = False
        self._process = _start(command, env)
        self._reader = threading.Thread(target=self._read, name=f"output of {name}", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def last_lines(self, count: int = 12) -> str:
        with self._changed:
            return "\n".join(list(self._lines)[-count:])

    def expect(self, text: str, timeout_seconds: float) -> str:
        """Waits for a line of output that contains `text`. Raises ChildError if none comes."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            while True:
                if found := next((line for line in self._lines if text in line), None):
                    return found
                if self._output_ended:
                    break
                if monotonic() > deadline:
                    raise self._error(f"was not ready after {timeout_seconds:.0f} seconds")
                self._changed.wait(0.2)  # short: on Windows, Ctrl-C does not interrupt it
        self.wait(timeout_seconds=5)
        raise self.failure()

    def finish(self, timeout_seconds: float) -> None:
        """Waits for the child to end by itself. Raises ChildError if it fails or takes too long."""
        if not self.wait(timeout_seconds):
            raise self._error(f"was still running after {timeout_seconds:.0f} seconds")
        if self.status != 0:
            raise self.failure()

    def failure(self) -> ChildError:
        return self._error(f"ended with exit status {self.status}")

    def wait(self, timeout_seconds: float) -> bool:
        """Returns whether the child has ended. All its output is read then."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1)  # a grandchild may keep the pipe open for longer
        return True

    def end(self, grace_seconds: float = 5) -> None:
        """Closes the standard input, and kills the child if it does not end in time."""
        self._close_stdin()
        try:
            ended = self.wait(grace_seconds)
        except BaseException:  # a second Ctrl-C
            self.kill()
            raise
        if not ended:
            self.kill()

    def kill(self) -> None:
        """Kills the child and its own children."""
        if self.status is None:
            _kill_tree(self._process)
        self.wait(10)
        self._close_stdin()

    def _close_stdin(self) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(OSError):
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        with self._process.stdout as output:
            for line in output:
                self._keep(line.rstrip())
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()

    def _keep(self, line: str) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify_all()
        if self._relay:
            self._relay(self.name, line)

    def _error(self, problem: str) -> ChildError:
        lines = self.last_lines()
        output = f". Its last lines:\n{lines}" if lines else ", without output"
        return ChildError(f"{self.name} {problem}{output}")


def _start(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    """In a session of its own: Ctrl-C reaches only us, and we end the children in order."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        creationflags=_CREATION_FLAGS,
    )


def _kill_tree(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
