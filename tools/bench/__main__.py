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
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, metavar="N", help="measure each figure N times (at most 50)")
    parser.add_argument("--seconds", type=float, metavar="S", help="for S seconds each")
    parser.add_argument("--quick", action="store_true", help="a first look, in less than a minute")
    peers_help = "measure nginx, where it is installed, and LiteLLM, which is installed into .venvs first"
    parser.add_argument("--peers", action="store_true", help=peers_help)
    local_help = "run the app in the local Functions host, not in the worker library of the cloud"
    parser.add_argument("--local", action="store_true", help=local_help)
    write_help = f"replace the figures in FILE, or in {PAGE.relative_to(ROOT)}, too"
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, metavar="FILE", help=write_help)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
