"""`python -m tools.bench`: measures, prints the figures, and writes them down with `--write`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from tools.official_runtime import AVAILABLE
from tools.processes import ROOT, ChildError

from . import peers, report, run
from .load import Failed
from .results import Plan
from .targets import LOCAL, WORKER

QUICK: Final = Plan(rounds=2, seconds=0.4, warm_seconds=0.2, memory_responses=0)
PAGE: Final = ROOT / "docs" / "performance.md"


def main() -> int:
    options = _parse()
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
    app = WORKER if AVAILABLE and not options.local else LOCAL
    try:
        found, left_out = peers.found() if options.peers else ([], {})
        figures = report.text(run.run(plan, app, found, left_out))
    except (ChildError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(figures, flush=True)
    if file := options.write:
        page = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(report.inserted(figures, page), encoding="utf-8")
    return 0


def _parse() -> argparse.Namespace:
    """`dev.py bench --help` explains the options."""
    parser = argparse.ArgumentParser(prog="dev.py bench", add_help=False, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S")
    for flag in ("--quick", "--peers", "--local"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
