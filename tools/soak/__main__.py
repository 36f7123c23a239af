"""`python3 dev.py soak [--minutes 60] [--seed N]`: exit status 1 if anything is lost, over or growing."""

import argparse
import asyncio
import logging
import secrets
import sys

from tools import loops
from tools.processes import ChildError

from .run import Soak, opened

_MOST_FAILURES = 20  # that are printed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 dev.py soak")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**6), help="of the load and the faults"
    )
    options = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the simulator's clients leave
    try:
        with asyncio.Runner(loop_factory=loops.new) as runner:
            return runner.run(_run(options.minutes * 60, options.seed))
    except ChildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(seconds: float, seed: int) -> int:
    print(f"seed {seed}", flush=True)
    async with opened(seconds, seed) as soak:
        async for line in soak.run():
            print(line, flush=True)
        return report(soak)


def report(soak: Soak) -> int:
    """Prints the figures and what failed. Returns the exit status."""
    print(soak.done, *soak.accounts.lines(), soak.samples, sep="\n")
    failures = list(soak.failures())
    for failure in failures[:_MOST_FAILURES]:
        print(f"FAILED: {failure}")
    print(
        f"{len(failures)} failures" if failures else "Nothing lost, nothing over, nothing grows.", flush=True
    )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
