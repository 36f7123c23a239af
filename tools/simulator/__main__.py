"""`python -m tools.simulator --key KEY`: a simulated Azure OpenAI on a free port, until it is interrupted."""

import argparse
import asyncio

from tools import loops

from .orders import HELP
from .server import Simulator

_KEPT_CALLS = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.simulator", description=__doc__, epilog=HELP)
    parser.add_argument("--key", required=True, help="the key that it accepts")
    parser.add_argument("--tokens-per-second", type=float, default=30.0, help="0 is full speed")
    options = parser.parse_args()
    asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    stopping = loops.stop_signal()
    simulator = Simulator(keys={options.key}, tokens_per_second=options.tokens_per_second, keep=_KEPT_CALLS)
    async with simulator:
        print(f"simulated Azure OpenAI on {simulator.url}", flush=True)
        await stopping.wait()


if __name__ == "__main__":
    main()
