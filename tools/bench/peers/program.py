"""`python program.py PROGRAM [ARGUMENT ...]`: becomes a program that is not ours, yet ends with its parent.

The process stays the same one, so that its id is the program's. A second one waits for the closing of
standard input, as `tools.attached` does within our own. Run by its path, it imports nothing of ours.
POSIX only.
"""

import os
import signal
import sys
import time

_GRACE_SECONDS = 4


def main() -> None:
    program = os.getpid()
    if os.fork() == 0:
        _end_with_parent(program)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - there is no shell to want


def _end_with_parent(program: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of us; the parent decides
    while os.read(0, 1024):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        if os.getppid() == program:  # else it has ended, and the number may be somebody else's by now
            os.kill(program, number)
            time.sleep(_GRACE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
