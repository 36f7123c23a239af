"""Event loops of the programs in tools/: the fastest one of this system, and what ends it."""

import asyncio
import signal


def new() -> asyncio.AbstractEventLoop:
    """uvloop, which the cloud uses too, or asyncio's own loop on Windows."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def stop_signal() -> asyncio.Event:
    """Set by Ctrl-C, SIGTERM or Windows' SIGBREAK. A second signal ends the process at once.

    Uses `signal.signal`, because the loop's own handlers do not exist on Windows.
    """
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stopping.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if number := getattr(signal, name, None):
            signal.signal(number, stop)
    return stopping
