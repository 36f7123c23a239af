"""Runs, tests and measures the proxy on this machine. Each command first installs what it needs."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

from admin import environment
from admin.steps import SetupError
from tools import interpreters, node, serving
from tools.processes import ROOT, ChildError

WORKER_PYTHON = "3.13"
"""The worker library of the cloud needs at least this version."""

CLIENTS = ["tests/clients/matrix.py", "tests/clients/examples.py"]

EPILOG = """\
examples:
  python3 dev.py run                        start the proxy with a simulated Azure OpenAI
  python3 dev.py test                       run all tests
  python3 dev.py test tests/tools -k lock   run some tests; the options go to pytest
  python3 dev.py test --clients             run real clients against the proxy
  python3 dev.py bench                      measure the speed of the proxy
  python3 dev.py attack                     try to use more than a limit
  python3 dev.py soak --minutes 60          look for losses and growth while instances and tables fail
  python3 dev.py lint                       check style and types, as CI does

To manage events and deployments while the proxy runs, use `python3 manage.py`.
"""
RUN = """\
Starts the proxy on 127.0.0.1 with Azurite as its table storage, a simulated Azure OpenAI and the event
"hackathon". Prints commands to try. Ctrl-C stops it. You can start several side by side.

The tables are kept in .local for the next run on the same port. If PROXY_TABLES is set, those tables are used
instead of Azurite. Other settings come from the environment, then .env, then local.settings.json.
"""
TEST = """\
Runs the tests with pytest. All other options go to pytest: `dev.py test -x tests/tools -k lock`.

All tests run in several processes. Tests that you choose with a path, -k or -m run in one process, which
starts faster. `-n 4` sets the number of processes; `-n 0` uses only this one.

--clients runs real clients instead (Linux, macOS): SDKs, agent frameworks, coding agents. It installs them
first, each in an environment of its own (4 GB), takes 25 minutes and prints a table. `--clients -k langchain`
runs some.
"""
BENCH = """\
Compares the app with all features, a pass-through without any, and the upstream alone. Prints the results.
Takes about ten minutes. Close other programs first. If Python 3.13 is installed, the app runs in the worker
library of the cloud.

  --rounds N      number of measurements for each figure (5)
  --seconds S     duration of each measurement (2.5)
  --quick         a first impression in less than a minute
  --peers         also measure ferrogw and LiteLLM, and nginx if it is installed (about 20 minutes). The first
                  two are installed in .venvs (800 MB)
  --growth        measure instead whether a call costs more with more users, events or deployments, or with
                  longer bodies (Linux only, about 15 minutes)
  --local         run the app in the local Functions host instead of the worker library
  --write [DIR]   replace the figures and charts in performance.md, performance-runs.md and images of this
                  folder (docs)

--overspend measures limits instead of speed: which part of them many clients get, over 1, 3 and 8 instances
(about 10 minutes). It fails if they get more than all. Its options are --quick, --peers (also LiteLLM, 20
minutes) and --write (docs/overspend.md).
"""
ATTACK = """\
Tries to use more than a limit, or to stop the other attendees, on this machine. Fails if it can. Takes about
nine minutes.

  --only NAME     attacks with this in their name
  --quick         fewer clients, instances and seconds
"""
SOAK = """\
Runs three instances under load while instances are killed, and tables and deployments fail. Fails if anything
is lost, above a limit or growing. tools/soak/__init__.py has the rules.

  --minutes N     how long (60)
  --seed N        of the load and the faults
"""
LINT = "Runs `ruff check`, `ruff format --check` and `mypy --strict`."


def main() -> int:
    os.chdir(ROOT)
    parser = _parser()
    options, others = parser.parse_known_args()
    options.others = others
    if others and options.command in {run, lint}:
        parser.error(f"unknown option: {' '.join(others)}")
    try:
        status: int = options.command(options)
    except (SetupError, serving.NotPossible) as error:
        return _fail(error, 2)
    except ChildError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130
    return status


def run(options: argparse.Namespace) -> int:
    return serving.serve(port=options.port, demo=options.demo)


def test(options: argparse.Namespace) -> int:
    if options.clients:
        options.others = ["-n", "0", *CLIENTS, *options.others]
    return _replace_with("pytest", options)


def bench(options: argparse.Namespace) -> int:
    options.python = options.python or (WORKER_PYTHON if interpreters.find(WORKER_PYTHON) else None)
    return _replace_with("tools.bench", options)


def attack(options: argparse.Namespace) -> int:
    return _replace_with("tools.attack", options)


def soak(options: argparse.Namespace) -> int:
    return _replace_with("tools.soak", options)


def lint(_: argparse.Namespace) -> int:
    python = str(environment.prepare(environment.DEVELOPMENT))
    failed = 0
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "--strict"]):
        print(" ".join(command), flush=True)
        failed |= subprocess.run([python, "-m", *command], check=False).returncode != 0
    return int(failed)


def _replace_with(module: str, options: argparse.Namespace) -> int:
    chosen = None
    if options.python:
        chosen = interpreters.find(options.python)
        if not chosen:
            return _fail(f"Python {options.python} is not installed.", 0 if options.if_found else 2)
    python = environment.prepare(environment.DEVELOPMENT, chosen)
    node.prepare()
    return environment.become([str(python), "-m", module, *options.others])


def _fail(message: object, status: int) -> int:
    print(message, file=sys.stderr)
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

    def add(command: Callable[..., int], title: str, description: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            command.__name__,
            help=title,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=command, if_found=False, python=None)
        return added

    running = add(run, "start the proxy on this machine", RUN)
    testing = add(test, "run the tests", TEST)
    measuring = add(bench, "measure the speed of the proxy", BENCH)
    add(attack, "try to use more than a limit", ATTACK)
    add(soak, "look for losses and growth for an hour", SOAK)
    add(lint, "check style and types", LINT)
    port = "port to serve on; 0 takes any free port (default: the first free port from 7071)"
    running.add_argument("--port", type=_port, help=port)
    without = "start without the simulated Azure OpenAI and the event"
    running.add_argument("--no-demo", dest="demo", action="store_false", help=without)
    version = "another Python: a version (3.13) or a path. Its virtual environment is in .venvs"
    for command in (testing, measuring):
        command.add_argument("--python", help=version)
    testing.add_argument("--clients", action="store_true", help="run real clients against the proxy")
    testing.add_argument("--if-found", action="store_true", help="with --python: skip if it is not installed")
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return port


if __name__ == "__main__":
    sys.exit(main())
