"""How the local host's answers go over the wire."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from azurefunctions.extensions.http.fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from tests.tools.sample_apps import NO_PREFIX, new_app
from tools.functions_host import FunctionsHost
from tools.functions_host.serving import _Joined


@asynccontextmanager
async def asked(response: Response) -> AsyncIterator[socket.socket]:
    """A client that has asked a host for this response."""
    app = new_app()

    @app.route("x", methods=["GET"])
    async def answer(req: Request) -> Response:
        return response

    loop = asyncio.get_running_loop()
    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", int(host.url.rpartition(":")[2])))
            await loop.sock_sendall(client, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            yield client


async def test_head_and_body_go_out_in_one_piece() -> None:
    async with asked(Response(b"body")) as client:
        piece = await asyncio.get_running_loop().sock_recv(client, 65536)
    assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece.endswith(b"\r\n\r\nbody")


class Wire(asyncio.Transport):
    """Keeps what is written, each time by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


async def test_a_head_goes_out_with_what_follows_at_once_and_alone_where_nothing_does() -> None:
    wire = Wire()
    joined = _Joined(wire, asyncio.get_running_loop())
    for head, more in ((b"HTTP/1.1 200 OK\r\n\r\n", b"body"), (b"HTTP/1.1 204 No Content\r\n\r\n", b"")):
        joined.write(head)
        if more:
            joined.write(more)
        await asyncio.sleep(0)
    assert wire.written == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"HTTP/1.1 204 No Content\r\n\r\n"]


class Slow(Response):  # type: ignore[misc] # untyped in the extension
    """Its body comes some time after its head."""

    def __init__(self, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.before = before
        self.sent = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.before()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"body"})
        self.sent.set()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("turns", range(4))
def test_a_head_whose_client_has_just_left_is_dropped(turns: int, reset: bool) -> None:
    """uvloop's transports raise where they are closed; asyncio's do not."""
    uvloop = pytest.importorskip("uvloop")
    faults: list[object] = []

    async def ask_and_leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

        async def leave() -> None:
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            for _ in range(turns):
                await asyncio.sleep(0)

        response = Slow(leave)
        async with asked(response) as client:
            await response.sent.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_and_leave())
    assert faults == []
