"""The host's log: a line for each record, and many of them in one system call."""

import asyncio
import logging
from time import localtime, strftime
from typing import Final, TextIO

SOON_SECONDS: Final = 0.05
"""So long a line may wait for others. A warning waits for nothing."""


class Lines(logging.Handler):
    """Writes to `stream`. Where no loop runs, as in other threads, there is nothing to wait for."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._waiting: list[str] = []
        self._is_due = False
        """Whether a timer is set that will write what waits."""
        self._second = -1
        self._time = ""
        self._traceback = logging.Formatter().formatException

    def format(self, record: logging.LogRecord) -> str:
        """Works out the time of day once a second, not for each line."""
        if self._second != (second := int(record.created)):
            self._second, self._time = second, strftime("%Y-%m-%d %H:%M:%S", localtime(second))
        at, text = f"{self._time},{int(record.msecs):03d}", record.getMessage()
        line = f"{at} {record.levelname} {record.name}: {text}\n"
        return f"{line}{self._traceback(record.exc_info)}\n" if record.exc_info else line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.append(self.format(record))
            if not self._is_due or record.levelno >= logging.WARNING:
                self._write_soon(record.levelno)
        except Exception:  # as logging does: what cannot be told must not end what it tells of
            self.handleError(record)

    def flush(self) -> None:
        self.acquire()
        try:
            waiting, self._waiting = self._waiting, []
            self._stream.write("".join(waiting))
            self._stream.flush()
        finally:
            self.release()

    def _write_soon(self, level: int) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if level >= logging.WARNING:
            self.flush()
        else:
            self._is_due = True
            loop.call_later(SOON_SECONDS, self._write)

    def _write(self) -> None:
        self._is_due = False
        self.flush()
