"""`python program.py PROGRAM [ARGUMENT ...]`: becomes another program, which ends with its parent.

The process stays the same, so its id is the program's. A second process waits until standard input closes, as
`tools.attached` does within our own. Run by its path, it imports nothing of ours. POSIX only.
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
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is needed


def _end_with_parent(program: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of us; the parent decides
    while os.read(0, 1024):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        if os.getppid() == program:  # else it has ended, and another process may have its id by now
            os.kill(program, number)
            time.sleep(_GRACE_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
