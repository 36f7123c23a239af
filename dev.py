"""Everything for work on this proxy, with one command. The first use sets the checkout up by itself."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools import environment, interpreters, serving
from tools.processes import ROOT, ChildError
from tools.steps import SetupError

WORKER_PYTHON = "3.13"
"""The first one that the worker library of the cloud can be installed in."""

EPILOG = """\
  python3 dev.py run                        the proxy on this machine, with a simulated Azure OpenAI to call
  python3 dev.py test                       every test
  python3 dev.py test tests/tools -k lock   some of them: what follows `test` goes to pytest
  python3 dev.py bench                      how fast it is, against a pass-through without any policy
  python3 dev.py lint                       what the pull request will be checked for, besides the tests

While `run` serves, `python3 manage.py` administers its events and deployments.
"""
RUN = """\
Serves the proxy on 127.0.0.1, with Azurite as its table storage, a simulated Azure OpenAI and the event
"hackathon", and prints a curl command to try. Several may run side by side. Ctrl-C ends all of it; the
tables are kept in .local, for the next run on the same port.

With PROXY_TABLES in the environment those tables are used, and no Azurite is started. Other settings are
read from the environment, then .env, then local.settings.json.
"""
TEST = """\
Runs the tests with pytest. All other arguments are pytest's: `dev.py test -x tests/tools -k lock`.

All tests run in several processes at once; those that are named, by a path, -k or -m, in a single one, which
begins sooner. `-n 4` says in how many, `-n 0` in that one.
"""
BENCH = """\
Runs the app with everything on, a pass-through without any policy, and the upstream alone, side by side, and
prints what each can do. It takes about ten minutes; run nothing else at that time. Where Python 3.13 is
installed, the app runs in the worker library of the cloud.

  --rounds N      measure each figure N times (5)
  --seconds S     for S seconds each (2.5)
  --quick         a first look, in less than a minute
  --peers         nginx and LiteLLM too, in about 16 minutes. LiteLLM is installed first, into .venvs of
                  this checkout (750 MB); nginx takes part where it is installed
  --local         run the app in the local Functions host, not in the worker library of the cloud
  --write [FILE]  replace the figures in docs/performance.md too, or in FILE
"""


def main() -> int:
    os.chdir(ROOT)
    options, others = _parser().parse_known_args()
    if others and options.do not in {test, bench}:
        _parser().error(f"unknown: {' '.join(others)}")
    options.others = others
    try:
        status: int = options.do(options)
    except (SetupError, serving.NotPossible) as error:
        return _told(error, 2)
    except ChildError as error:
        return _told(error, 1)
    except KeyboardInterrupt:
        return 130
    return status


def run(options: argparse.Namespace) -> int:
    return serving.serve(port=options.port, demo=options.demo)


def test(options: argparse.Namespace) -> int:
    return _in_our_place("pytest", options)


def bench(options: argparse.Namespace) -> int:
    options.python = options.python or (WORKER_PYTHON if interpreters.find(WORKER_PYTHON) else None)
    return _in_our_place("tools.bench", options)


def lint(_: argparse.Namespace) -> int:
    python = environment.prepare(node=False)
    checks = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict"])
    return max(_check(python, *check) for check in checks)


def _in_our_place(module: str, options: argparse.Namespace) -> int:
    """Runs the module, with the Python that was asked for and all other arguments."""
    chosen = None
    if options.python:
        chosen = interpreters.find(options.python)
        if not chosen:
            return _told(f"Python {options.python} is not on this machine.", 0 if options.if_found else 2)
    python = environment.prepare(node=True, python=chosen)
    return environment.become([str(python), "-m", module, *options.others])


def _check(python: Path, *command: str) -> int:
    print(" ".join(command), flush=True)
    return 1 if subprocess.run([str(python), "-m", *command], check=False).returncode else 0


def _told(what: object, status: int) -> int:
    print(what, file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(_add(commands, run, "serve the proxy on this machine", RUN))
    _add_if_found(_add_python(_add(commands, test, "run the tests", TEST)))
    _add_python(_add(commands, bench, "measure the app against a bare pass-through", BENCH))
    _add(commands, lint, "check style and types", "Runs ruff check, ruff format --check and mypy --strict.")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    do: Callable[..., int],
    title: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        do.__name__,
        help=title,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(do=do)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    told = "to serve on, with its own tables; without it the first free one from 7071, and 0 is any free one"
    parser.add_argument("--port", type=_port, help=told)
    told = "without the simulated Azure OpenAI and the event"
    parser.add_argument("--no-demo", dest="demo", action="store_false", help=told)


def _add_python(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    told = "another Python, as a version (3.13) or a path; it gets a virtual environment of its own in .venvs"
    parser.add_argument("--python", help=told)
    parser.set_defaults(if_found=False)
    return parser


def _add_if_found(parser: argparse.ArgumentParser) -> None:
    told = "with --python: do nothing, and succeed, where that Python is not installed"
    parser.add_argument("--if-found", action="store_true", help=told)


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return port


if __name__ == "__main__":
    sys.exit(main())
