"""`python -m tools.simulator --port N --key KEY`: a simulated Azure OpenAI until it is interrupted."""

import argparse
import asyncio
import sys

from tools import loops

from .orders import HELP
from .server import Simulator

_KEPT_CALLS = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulator", description=__doc__, epilog=HELP)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes any free port")
    parser.add_argument("--key", required=True, help="the key that it accepts")
    parser.add_argument("--tokens-per-second", type=float, default=30.0, help="0 is full speed")
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        print(f"Cannot listen on port {options.port}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stopping = loops.stop_signal()
    async with Simulator(
        port=options.port, keys={options.key}, tokens_per_second=options.tokens_per_second, keep=_KEPT_CALLS
    ) as simulator:
        print(f"simulated Azure OpenAI on {simulator.url}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    sys.exit(main())
