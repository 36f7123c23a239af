"""Processes that we start: their output is kept and relayed, and they end when we do.

Every child has a pipe as its standard input and takes the closing of it as the request to end (`attached.py`
and `attached.js` see to that). So a child ends cleanly on every system, and also when we are killed outright.
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
from typing import IO, Self

ROOT = Path(__file__).resolve().parents[1]
Relay = Callable[[str, str], None]


if sys.platform == "win32":
    _CREATION_FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _CREATION_FLAGS = 0


class ChildError(Exception):
    """A child ended, or was not ready in time; the message names it and has its last lines."""


def attached(python: Path, module: str, *arguments: str, env_file: Path | None = None) -> list[str]:
    """The command that runs a Python module so that it ends when its standard input closes."""
    settings = ["--env-file", str(env_file)] if env_file else []
    return [str(python), "-m", "tools.attached", *settings, module, *arguments]


def relay(name: str, line: str) -> None:
    with suppress(OSError):  # nobody reads our output any more
        sys.stderr.write(f"{name:>9} | {line}\n")
        sys.stderr.flush()


class Child:
    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
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
        """The first line of output that contains `text`. Raises ChildError when it does not come."""
        deadline = monotonic() + timeout_seconds
        with self._changed:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                if self._output_ended:
                    break
                if monotonic() > deadline:
                    raise ChildError(self._told(f"was not ready after {timeout_seconds:.0f} seconds"))
                self._changed.wait(0.2)  # short, or Windows would not let Ctrl-C through
        self.wait(timeout_seconds=5)
        raise self.failure()

    def finish(self, timeout_seconds: float) -> None:
        """Waits for one that does its work and ends. Raises ChildError when it fails or takes too long."""
        if not self.wait(timeout_seconds):
            raise ChildError(self._told(f"had not ended after {timeout_seconds:.0f} seconds"))
        if self.status != 0:
            raise self.failure()

    def failure(self) -> ChildError:
        """What to raise when it ended and should not have."""
        return ChildError(self._told(f"ended with exit status {self.status}"))

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it has ended, with all its output read."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(1)  # longer only if a child of the child still holds the pipe
        return True

    def end(self, grace_seconds: float = 5) -> None:
        """Asks it to end, and kills it when it does not within the time."""
        with suppress(OSError):
            self._stdin.close()
        try:
            ended = self.wait(grace_seconds)
        except BaseException:  # a second Ctrl-C, by somebody who will not wait
            self.kill()
            raise
        if not ended:
            self.kill()

    def kill(self) -> None:
        """Ends it at once, with everything it started."""
        if self.status is None:
            _kill_tree(self._process)
        self.wait(10)
        with suppress(OSError):
            self._stdin.close()

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin is not None  # noqa: S101 - it was started with a pipe
        return self._process.stdin

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - likewise
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

    def _told(self, what: str) -> str:
        lines = self.last_lines()
        return f"{self.name} {what}" + (f"; its last lines:\n{lines}" if lines else ", without a word")


def _start(command: Sequence[str], env: Mapping[str, str] | None) -> "subprocess.Popen[str]":
    """Apart from our terminal: Ctrl-C reaches us alone, and we end the children in order."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=None if env is None else dict(env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
        creationflags=_CREATION_FLAGS,
    )


def _kill_tree(process: "subprocess.Popen[str]") -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
