"""`python -m tools.functions_host`: serves an app until it is told to stop."""

import argparse
import asyncio
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .faults import AppFault
from .functions import HttpFunction
from .lines import Lines
from .server import FunctionsHost
from .settings import HostSettings


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    logging.basicConfig(level=logging.INFO, handlers=[Lines(sys.stderr)])
    # What the lines do not show need not be found out for each of them (logging, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(_serve(options))
    except AppFault as fault:
        print(fault, file=sys.stderr)
        return 2
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.functions_host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="function_app.py or its directory")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=7071, help="0 takes any free port")
    parser.add_argument("--key", help="opens functions whose level is not anonymous")
    parser.add_argument("--routes", action="store_true", help="list the routes")
    return parser.parse_args(arguments)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(options: argparse.Namespace) -> None:
    stopping = _stop_signal(asyncio.get_running_loop())
    directory = options.app if options.app.is_dir() else options.app.parent
    settings = dataclasses.replace(HostSettings.read(directory), key=options.key)
    async with FunctionsHost(options.app, host=options.host, port=options.port, settings=settings) as host:
        print(f"Functions host on {host.url}", flush=True)
        if options.routes:
            print("\n".join(_described(one) for one in host.functions.http), flush=True)
        await stopping.wait()


def _stop_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Set by Ctrl-C or SIGTERM; a second one ends the process at once."""
    stopping = asyncio.Event()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stopping.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


def _described(function: HttpFunction) -> str:
    methods = ",".join(sorted(function.methods)) or "any method"
    return f"{methods:12} /{function.template.text}  ({function.name})"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    logging.shutdown()
    # The platform kills its workers, it does not stop them: what the app has open is left to the system.
    os._exit(status)
