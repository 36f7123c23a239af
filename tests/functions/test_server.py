"""How the app's server sends responses."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from shared.functions.http import CUT, Receive, Request, Response, Scope, Send
from shared.functions.server import Server, listen
from tests.tools.sample_apps import host_of
from tools.functions_host.serving import serving


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


class Cut(Response):
    """Sends a part of its body, and then closes the connection."""

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await asyncio.sleep(0.1)
        await send({"type": CUT})


async def test_a_response_that_is_cut_ends_without_its_last_chunk(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Cut(200, {}, b"first").send_to(receive, send)

    server = Server(app)
    with listen("127.0.0.1", 0) as listener:
        async with serving(server, server.serve([listener])):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            received = await asyncio.wait_for(reader.read(), 10)
            writer.close()
    assert b"transfer-encoding: chunked" in received
    assert received.endswith(b"\r\n\r\n5\r\nfirst\r\n")
    assert caplog.messages == []


async def test_an_idle_connection_is_closed_and_one_in_use_is_not() -> None:
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            await done.wait()
        await Response(200, {}, b"body").send_to(receive, send)

    server = Server(app)
    server.config.timeout_keep_alive = 0  # closed in the next turn of the loop
    with listen("127.0.0.1", 0) as listener:
        async with serving(server, server.serve([listener])):
            slow, slow_writer = await asyncio.open_connection(*listener.getsockname())
            slow_writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            idle, idle_writer = await asyncio.open_connection(*listener.getsockname())
            idle_writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await asyncio.wait_for(idle.read(), 10)).endswith(b"\r\n\r\nbody")
            done.set()
            assert (await asyncio.wait_for(slow.read(), 10)).endswith(b"\r\n\r\nbody")
            slow_writer.close()
            idle_writer.close()


async def test_the_host_passes_a_cut_on_as_a_reset() -> None:
    loop, received = asyncio.get_running_loop(), b""
    async with client_of(Cut(200, {}, b"first")) as client:
        with pytest.raises(ConnectionResetError):
            while piece := await asyncio.wait_for(loop.sock_recv(client, 65536), 10):
                received += piece
    assert received.endswith(b"\r\n\r\n5\r\nfirst\r\n")


@pytest.mark.parametrize("pause", [0, 0.05], ids=["together", "body-later"])
async def test_offer_of_http_2_takes_nothing_from_the_request(pause: float) -> None:
    """Java's HttpClient makes it in the first request of a connection without TLS, and goes on with HTTP/1.1."""

    async def handler(req: Request) -> Response:
        body = req.take_body()
        if body is None:
            body = (await req.receive())["body"]
        return Response(200, {}, body + b"".join(sorted(name for name in req.headers if name == b"api-key")))

    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    async with host_of(handler, "POST") as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        for _ in range(2):
            writer.write(
                b"POST /x HTTP/1.1\r\n" + offer + b"host: x\r\napi-key: own\r\ncontent-length: 2\r\n\r\n"
            )
            await asyncio.sleep(pause)
            writer.write(b"{}")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(9) == b"{}api-key"
        writer.close()


async def test_trailer_does_not_replace_a_header() -> None:
    async def handler(req: Request) -> Response:
        while (await req.receive()).get("more_body"):
            pass
        return Response(200, {}, repr(req.headers[b"api-key"]).encode())

    loop = asyncio.get_running_loop()
    async with host_of(handler, "POST") as host:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", int(host.url.rpartition(":")[2])))
            head = b"POST /x HTTP/1.1\r\nhost: x\r\napi-key: own\r\ntransfer-encoding: chunked\r\n\r\n"
            await loop.sock_sendall(client, head + b"2\r\n{}\r\n0\r\napi-key: another\r\n\r\n")
            assert (await loop.sock_recv(client, 65536)).endswith(b"b'own'")


async def test_a_body_that_has_arrived_is_there_at_once_and_still_comes_from_receive() -> None:
    async def handler(req: Request) -> Response:
        return Response(200, {}, repr((req.take_body(), await req.receive())).encode())

    loop = asyncio.get_running_loop()
    async with host_of(handler, "POST") as host:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", int(host.url.rpartition(":")[2])))
            await loop.sock_sendall(client, b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            message = {"type": "http.request", "body": b"{}", "more_body": False}
            assert (await loop.sock_recv(client, 65536)).endswith(repr((b"{}", message)).encode())
