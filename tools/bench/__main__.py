"""`python -m tools.bench`: measures, prints the figures, and writes them down when it is asked to."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tools.official_runtime import AVAILABLE
from tools.processes import ROOT, ChildError

from . import peers, report, rounds
from .load import Failed
from .results import Plan

QUICK = Plan(rounds=2, seconds=0.4, warm_seconds=0.2, memory_answers=0)
PAGE = ROOT / "docs" / "performance.md"


def main() -> int:
    options = _parse()
    plan = QUICK if options.quick else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
    try:
        taking_part, left_out = peers.found() if options.peers else ([], {})
        results = rounds.run(plan, _say, taking_part, with_worker=AVAILABLE and not options.local)
        page = report.text(results, left_out) + "\n"
    except (ChildError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(page, flush=True)
    if options.write:
        options.write.write_text(page, encoding="utf-8")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__, allow_abbrev=False)
    told = "how often each figure is taken (at most 50)"
    parser.add_argument("--rounds", type=_rounds, metavar="N", help=told)
    told = "how long each takes (at most 30)"
    parser.add_argument("--seconds", type=_seconds, metavar="S", help=told)
    parser.add_argument("--quick", action="store_true", help="a first look, in less than a minute")
    told = "measure nginx and LiteLLM too; what is missing of them is installed into this checkout first"
    parser.add_argument("--peers", action="store_true", help=told)
    where = "measure the app in the local Functions host, not in the worker library of the cloud"
    parser.add_argument("--local", action="store_true", help=where)
    told = f"write the page too, to FILE or {PAGE.relative_to(ROOT)}"
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, metavar="FILE", help=told)
    return parser.parse_args()


def _rounds(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 50:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 30:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
