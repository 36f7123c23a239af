"""`python -m tools.attached [--env-file FILE] MODULE [ARGUMENT ...]` runs a module that ends with its parent.

When the parent closes our standard input, or is gone, the module gets SIGTERM (SIGINT on Windows), and is
killed a few seconds later. FILE adds settings that the environment does not have.
"""

import os
import runpy
import signal
import sys
import threading
import time

from dotenv import load_dotenv

_GRACE_SECONDS = 4


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "--env-file":
        load_dotenv(arguments[1])
        arguments = arguments[2:]
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin: Python cannot close it at exit while a thread reads it
        pass
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main()
