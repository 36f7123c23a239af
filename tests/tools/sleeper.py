"""Run by tests as `python -m tests.tools.sleeper`: sleeps, unless it is only to say what it was given."""

import os
import sys
import time

if sys.argv[1:]:
    print(sys.argv[1:])  # noqa: T201
    print(os.environ["SAID"], os.environ["HOME_OF"])  # noqa: T201
else:
    print("asleep as", os.getpid(), flush=True)  # noqa: T201
    time.sleep(99)
