"""The command `dev.py bench --overspend`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Final

from tools.bench import report
from tools.processes import ROOT, ChildError

from . import run

_PAGE: Final = ROOT / "docs" / "overspend.md"


def main() -> int:
    """Returns 1 if this proxy served more than a limit, or refused too early."""
    options = _parse()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # the simulator's clients leave
    try:
        results = run.run(run.QUICK if options.quick else run.Plan(), peers=options.peers)
    except ChildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(results, flush=True)
    if file := options.write:
        page = file.read_text(encoding="utf-8") if file.exists() else ""
        file.write_text(report.inserted(str(results), page, option=" --overspend"), encoding="utf-8")
    return int(results.failed)


def _parse() -> argparse.Namespace:
    """`dev.py bench --help` explains the options."""
    parser = argparse.ArgumentParser(prog="dev.py bench", add_help=False, allow_abbrev=False)
    for flag in ("--overspend", "--quick", "--peers"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--write", type=Path, nargs="?", const=_PAGE, metavar="FILE")
    return parser.parse_args()
