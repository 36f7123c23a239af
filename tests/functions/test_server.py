"""How the app's server sends responses."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared.functions.http import Receive, Request, Response, Send
from shared.functions.server import listen
from tests.tools.sample_apps import host_of


@asynccontextmanager
async def client_of(response: Response) -> AsyncIterator[socket.socket]:
    """A client that has sent a request and waits for this response."""

    async def handler(req: Request) -> Response:
        return response

    loop = asyncio.get_running_loop()
    async with host_of(handler) as host:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", int(host.url.rpartition(":")[2])))
            await loop.sock_sendall(client, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            yield client


async def first_piece(response: Response) -> bytes:
    """The bytes that arrive together first."""
    async with client_of(response) as client:
        return await asyncio.get_running_loop().sock_recv(client, 65536)


async def test_head_and_body_arrive_in_one_piece() -> None:
    piece = await first_piece(Response(200, {}, b"body"))
    assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("value", [b"a\r\nx-more: b", b"a\nb", b"a\rb"])
async def test_header_with_a_line_break_is_not_sent(value: bytes) -> None:
    piece = await first_piece(Response(200, {b"x-any": value}, b"body"))
    assert piece.startswith(b"HTTP/1.1 500 ")
    assert value not in piece


async def test_response_with_status_204_has_no_content_length() -> None:
    piece = await first_piece(Response(204, {}, b""))
    assert piece.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in piece


async def test_connections_send_without_delay() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # asyncio sets TCP_NODELAY only then


class After(Response):
    """Runs `before`, then sends a response."""

    def __init__(self, before: Callable[[], Awaitable[None]]) -> None:
        super().__init__(200, {}, b"body")
        self.before = before
        self.sent = asyncio.Event()

    async def send_to(self, receive: Receive, send: Send) -> None:
        await self.before()
        await super().send_to(receive, send)
        self.sent.set()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("turns", range(4))
def test_response_to_a_client_that_has_just_disconnected_is_dropped(turns: int, reset: bool) -> None:
    """On uvloop, whose closed transports raise exceptions. asyncio's do not."""
    uvloop = pytest.importorskip("uvloop")
    errors: list[object] = []

    async def call_and_disconnect() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

        async def disconnect() -> None:
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            for _ in range(turns):
                await asyncio.sleep(0)

        response = After(disconnect)
        async with client_of(response) as client:
            await response.sent.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(call_and_disconnect())
    assert errors == []
