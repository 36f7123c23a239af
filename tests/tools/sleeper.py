"""`python -m tests.tools.sleeper`: prints its arguments and settings, or sleeps if it has no arguments."""

import os
import sys
import time

if sys.argv[1:]:
    print(sys.argv[1:], os.environ["IN_FILE"], os.environ["IN_BOTH"])  # noqa: T201
else:
    print("asleep as", os.getpid(), flush=True)  # noqa: T201
    time.sleep(99)
