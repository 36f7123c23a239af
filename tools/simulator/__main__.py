"""`python -m tools.simulator --port N --key KEY`: a simulated Azure OpenAI, until it is interrupted."""

import argparse
import asyncio
import math
import signal
import sys

from . import catalogue
from .server import Simulator

_SIGNALS = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last is Windows' way to ask a process to end


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulator",
        description="A simulated Azure OpenAI on 127.0.0.1.",
        epilog=f"Deployments sim-NAME and messages with sim:NAME misbehave. NAME:\n{catalogue.help_text()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=_port, default=0, help="0, the default, is any free one")
    parser.add_argument("--key", action="append", required=True, help="an accepted key; may be repeated")
    parser.add_argument("--bearer", action="append", default=[], help="an accepted bearer; may be repeated")
    parser.add_argument("--tokens-per-second", type=_rate, default=30.0, help="0 is full speed")
    parser.add_argument("--deployment", action="append", help="may be repeated; without it any name answers")
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return port


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if rate < 0 or not math.isfinite(rate):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return rate


async def _run(wanted: argparse.Namespace) -> None:
    stop = asyncio.Event()
    _on_signals(stop)
    async with Simulator(
        port=wanted.port,
        keys=wanted.key,
        bearers=wanted.bearer,
        deployments=wanted.deployment,
        tokens_per_second=wanted.tokens_per_second,
        control=True,
    ) as simulator:
        print(f"simulated Azure OpenAI on {simulator.url}", flush=True)
        await stop.wait()


def _on_signals(stop: asyncio.Event) -> None:
    """By `signal.signal`, since the loop's own handlers do not exist on Windows."""
    loop = asyncio.get_running_loop()
    for name in _SIGNALS:
        if number := getattr(signal, name, None):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))


def main() -> int:
    wanted = _parser().parse_args()
    try:
        asyncio.run(_run(wanted))
    except OSError as error:
        print(f"cannot listen on port {wanted.port}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
