"""The fastest event loop of this system: uvloop, which the cloud uses too, or asyncio's own on Windows."""

import asyncio


def new() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
