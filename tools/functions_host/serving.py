"""Runs the app's server within a loop that also does other work, and ends it at once."""

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from shared.functions.server import Server

_GRACE_SECONDS: Final = 0.5
"""A request may take this long to notice that its connection is gone."""


@asynccontextmanager
async def serving(server: Server, serve: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `serve`, which uses `server`, during the block. Then it cuts connections and cancels requests."""
    task = asyncio.create_task(serve)
    while not server.started:
        if task.done():
            await task  # raises the reason
        await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for listening in server.servers:
            listening.close()
        for connection in [*server.server_state.connections]:
            connection.transport.abort()
        if requests := {*server.server_state.tasks}:
            await asyncio.wait(requests, timeout=_GRACE_SECONDS)
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)


def address_of(listener: socket.socket) -> str:
    return "{}:{}".format(*listener.getsockname())
