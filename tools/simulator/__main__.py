"""`python -m tools.simulator --port N --key KEY`: a simulated Azure OpenAI until it is interrupted."""

import argparse
import asyncio
import signal
import sys

from .orders import HELP
from .server import Simulator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")  # SIGBREAK is how Windows interrupts a process
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
    stop = _stop_signal(asyncio.get_running_loop())
    async with Simulator(
        port=options.port,
        keys={options.key},
        tokens_per_second=options.tokens_per_second,
        keep=_KEPT_CALLS,
    ) as simulator:
        print(f"simulated Azure OpenAI on {simulator.url}", flush=True)
        await stop.wait()


def _stop_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """By `signal.signal`, because the loop's own handlers do not exist on Windows."""
    stop = asyncio.Event()
    for name in _SIGNALS:
        if number := getattr(signal, name, None):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return stop


if __name__ == "__main__":
    sys.exit(main())
