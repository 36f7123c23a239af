"""`python -m tools.bench`: measures, prints the figures, and writes them down with `--write`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from tools.official_runtime import AVAILABLE
from tools.processes import ROOT, ChildError

from . import growth, peers, report, run
from .load import Failed
from .overspend import command as overspend
from .results import Plan
from .targets import LOCAL, WORKER

QUICK: Final = Plan(rounds=2, seconds=0.4, warm_seconds=0.2, memory_responses=0)
DOCS: Final = ROOT / "docs"
PAGE, RUNS = "performance.md", "performance-runs.md"


def main() -> int:
    if "--overspend" in sys.argv:
        return overspend.main()
    options = _parse()
    plan = QUICK if options.quick else growth.PLAN if options.growth else Plan()
    plan = replace(plan, rounds=options.rounds or plan.rounds, seconds=options.seconds or plan.seconds)
    app = WORKER if AVAILABLE and not options.local else LOCAL
    measure = _growth if options.growth else _speed
    try:
        measure(options, plan, app)
    except (ChildError, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _speed(options: argparse.Namespace, plan: Plan, app: str) -> None:
    found, left_out = peers.found() if options.peers else ([], {})
    results = run.run(plan, app, found, left_out)
    summary, details = report.summary(results), report.details(results)
    print(summary, details, sep="\n\n", flush=True)
    if folder := options.write:
        _insert(folder / PAGE, summary)
        _insert(folder / RUNS, details)
        _save(folder / "images" / "speed.svg", report.svg(results))


def _growth(options: argparse.Namespace, plan: Plan, app: str) -> None:
    curves = growth.QUICK if options.quick else growth.CURVES
    grown = growth.run(app, curves, plan)
    print(figures := growth.text(grown, plan, app), flush=True)
    if folder := options.write:
        _insert(folder / PAGE, figures, "figures of growth", " --growth")
        _save(folder / "images" / "growth.svg", growth.svg(grown))


def _insert(page: Path, figures: str, *names: str) -> None:
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(report.inserted(figures, before, *names), encoding="utf-8")


def _save(file: Path, content: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(content, encoding="utf-8")


def _parse() -> argparse.Namespace:
    """`dev.py bench --help` explains the options."""
    parser = argparse.ArgumentParser(prog="dev.py bench", add_help=False, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, metavar="S")
    for flag in ("--quick", "--peers", "--local", "--growth"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--write", type=Path, nargs="?", const=DOCS, metavar="FOLDER")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
