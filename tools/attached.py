"""`python -m tools.attached [--env-file FILE] MODULE [ARGUMENT ...]`: a module that ends with its parent.

When the process that started it closes our standard input, or is gone, the module gets the signal that asks a
program to end, and is ended when it does not. Settings in FILE hold where the environment has none.
"""

import os
import runpy
import signal
import sys
import threading
import time

_GRACE_SECONDS = 4


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "--env-file":
        _load(arguments[1])
        arguments = arguments[2:]
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _load(path: str) -> None:
    from dotenv import load_dotenv  # noqa: PLC0415 - pip is run this way too, before dotenv is there

    load_dotenv(path)


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin: Python cannot close at exit what a thread reads
        pass
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
