"""`python -m tools.functions_host`: serves an app until Ctrl-C or SIGTERM."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from tools import loops

from .host import FunctionsHost
from .routes import AppFault


def main() -> int:
    options = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=loops.new) as runner:
            runner.run(_serve(options))
    except AppFault as fault:
        print(fault, file=sys.stderr)
        return 2
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.functions_host", description=__doc__)
    parser.add_argument("--app", type=Path, default=Path(), help="function_app.py or its directory")
    parser.add_argument("--port", type=int, default=7071, help="0 takes any free port")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    stopping = loops.stop_signal()
    async with FunctionsHost(options.app, port=options.port) as host:
        print(f"Functions host on {host.url}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    logging.shutdown()
    # As in the cloud, the process is not ended in order: the system closes what the app has open.
    os._exit(status)
