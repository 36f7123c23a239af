"""Connections to the upstream: reuse, TLS, flow control, and how calls end."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from shared.upstream.connections import (
    AT_ONCE_BYTES,
    MOST_TOGETHER,
    Connections,
    Target,
    UpstreamBody,
    _Handler,
    header,
)
from shared.upstream.response import ConnectionFailed, UpstreamResponse
from tests.conftest import nothing_left_in_flight
from tests.wire import Peer, Script, Wire, full_listener, scripted_upstream
from tools.ports import free

ROOT = Path(__file__).parents[2]
OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"content-length: 2\r\n\r\nab"
ENDLESS = OK + b"transfer-encoding: chunked\r\n\r\n"
PIECE = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
PIECES = 1000


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    connections = Connections(connect_seconds=5, keep_alive_seconds=50)
    yield connections
    await connections.close()


def target(wire: Wire, scheme: str = "http") -> Target:
    return Target(URL(f"{scheme}://127.0.0.1:{wire.port}/"), {})


async def call(connections: Connections, wire: Wire, content: bytes = b"{}") -> bytes:
    response = await connections.send(target(wire), b"", UpstreamBody(content))
    return await response.read_all()


async def respond(peer: Peer) -> None:
    while await peer.request():
        await peer.send(SHORT)


async def stay_silent(peer: Peer) -> None:
    await peer.request()
    await peer.until_closed()


async def test_a_request_has_exactly_these_bytes(connections: Connections) -> None:
    async with scripted_upstream(respond) as wire:
        url = URL(f"http://127.0.0.1:{wire.port}/a b/\u00e9?api-version=1&x=%2B")
        target = Target(url, {b"accept": b"*/*"})
        response = await connections.send(target, header(b"api-key", b"k"), UpstreamBody(b'{"a":1}'))
        assert await response.read_all() == b"ab"
    assert wire.heads == [
        b"POST /a%%20b/%%C3%%A9?api-version=1&x=%%2B HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"accept: */*\r\napi-key: k\r\ncontent-length: 7\r\n\r\n" % wire.port
    ]
    assert wire.bodies == [b'{"a":1}']


@pytest.mark.parametrize("value", [b"a\r\nx-b: 1", b"a\nb", b"a\rb", b"a\x00b", b"a\x7f"])
def test_a_header_cannot_inject_another(value: bytes) -> None:
    with pytest.raises(ConnectionFailed):
        header(b"x-a", value)


@pytest.mark.parametrize("url", ["ftp://example.org/", "/relative", "file:///etc/passwd", "http:///x"])
async def test_an_address_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(ConnectionFailed):
        Target(URL(url), {})


# ---- reuse of connections


async def test_a_connection_is_kept_for_the_next_request(connections: Connections) -> None:
    async with scripted_upstream(respond) as wire:
        assert [await call(connections, wire) for _ in range(5)] == [b"ab"] * 5
        assert wire.connections == 1


async def test_concurrent_calls_use_separate_connections(connections: Connections) -> None:
    async def respond_to_all_at_once(peer: Peer) -> None:
        while await peer.request():
            await wire.until(lambda wire: len(wire.bodies) >= 20)
            await peer.send(SHORT)

    async with scripted_upstream(respond_to_all_at_once) as wire:
        assert set(await asyncio.gather(*(call(connections, wire) for _ in range(20)))) == {b"ab"}
        assert wire.connections == 20


async def test_a_connection_is_not_reused_after_a_long_idle_time() -> None:
    connections = Connections(connect_seconds=5, keep_alive_seconds=0.05)
    async with scripted_upstream(respond) as wire:
        await call(connections, wire)
        await asyncio.sleep(0.1)
        await call(connections, wire)
        assert wire.connections == 2
    await connections.close()


async def test_an_idle_connection_that_was_closed_is_replaced(connections: Connections) -> None:
    async def respond_once(peer: Peer) -> None:
        await peer.request()
        await peer.send(SHORT)

    async with scripted_upstream(respond_once) as wire:
        for count in range(1, 4):
            assert await call(connections, wire) == b"ab"
            await wire.all_closed()
            await asyncio.sleep(0.05)  # the client notices it
            assert (wire.connections, len(wire.bodies)) == (count, count)


@pytest.mark.parametrize("unexpected", [SHORT, b"HTTP/1.1 408 Too slow\r\ncontent-length: 0\r\n\r\n", b"?"])
async def test_data_that_arrives_before_a_request_is_not_used_as_its_response(
    connections: Connections, unexpected: bytes
) -> None:
    idle, sent = asyncio.Event(), asyncio.Event()

    async def respond_and_send_more(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK + b"content-length: 1\r\n\r\n%d" % len(wire.bodies))
        if wire.connections == 1:
            await idle.wait()
            await peer.send(unexpected)
            sent.set()
        await peer.until_closed()

    async with scripted_upstream(respond_and_send_more) as wire:
        assert await call(connections, wire) == b"1"
        idle.set()
        await sent.wait()
        await asyncio.sleep(0.05)  # it arrives
        assert await call(connections, wire) == b"2"
        assert wire.connections == 2


async def test_a_second_response_is_not_used_for_the_next_request(connections: Connections) -> None:
    async def respond_twice(peer: Peer) -> None:
        await peer.request()
        await peer.send(SHORT + OK + b"content-length: 3\r\n\r\nbad")
        await peer.until_closed()

    async with scripted_upstream(respond_twice) as wire:
        assert [await call(connections, wire) for _ in range(3)] == [b"ab"] * 3
        assert wire.connections == 3


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_that_was_written_is_never_repeated(connections: Connections, reset: bool) -> None:
    async def close_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.send(SHORT)
        await peer.request()
        if reset:
            peer.reset()

    async with scripted_upstream(close_at_the_second) as wire:
        await call(connections, wire, b"1")
        body = UpstreamBody(b"2")
        with pytest.raises(ConnectionFailed):
            await connections.send(target(wire), b"", body)
        assert wire.bodies == [b"1", b"2"]
        assert body.is_sent


class ManualUpstream:
    """An upstream that accepts, reads and closes only when the test says so."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    async def accept(self) -> socket.socket:
        accepted, _ = await self._loop.sock_accept(self._listener)
        return accepted

    async def respond(self, connection: socket.socket) -> bytes:
        """Read a request, and send a response."""
        request = await self._loop.sock_recv(connection, 65536)
        await self._loop.sock_sendall(connection, SHORT)
        return request


BODIES = {"short": b"{}", "long": b"x" * (AT_ONCE_BYTES + 1)}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kept", [1, 6])
@pytest.mark.parametrize("is_urgent", [False, True])
@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES)
async def test_a_kept_connection_that_the_upstream_closes_at_that_moment_is_not_used(
    connections: Connections, reset: bool, kept: int, is_urgent: bool, content: bytes
) -> None:
    """The loop has not seen the end of the connections when the request is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = ManualUpstream(listener)
        here = Target(URL(f"http://127.0.0.1:{listener.getsockname()[1]}/"), {})
        first = [asyncio.create_task(connections.send(here, b"", UpstreamBody(b"{}"))) for _ in range(kept)]
        accepted = [await upstream.accept() for _ in range(kept)]
        await asyncio.gather(*map(upstream.respond, accepted))
        for call in first:
            await (await call).read_all()
        for connection in accepted:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        body = UpstreamBody(content, is_urgent=is_urgent)
        again = asyncio.create_task(connections.send(here, b"", body))
        with await asyncio.wait_for(upstream.accept(), 10) as new:
            assert (await upstream.respond(new)).startswith(b"POST")
            assert await (await again).read_all() == b"ab"


# ---- connections that fail


async def test_a_refused_connection_fails_and_sends_nothing(connections: Connections) -> None:
    body = UpstreamBody(b"{}")
    with pytest.raises(ConnectionFailed):
        await connections.send(Target(URL(f"http://127.0.0.1:{free()}/"), {}), b"", body)
    assert not body.is_sent


async def test_an_unknown_host_fails_and_sends_nothing(connections: Connections) -> None:
    body = UpstreamBody(b"{}")
    with pytest.raises(ConnectionFailed):
        await connections.send(Target(URL("http://no-such-host.invalid/"), {}), b"", body)
    assert not body.is_sent


async def test_a_connection_that_takes_too_long_fails_and_sends_nothing() -> None:
    connections, body = Connections(connect_seconds=0.2, keep_alive_seconds=50), UpstreamBody(b"{}")
    with full_listener() as port, pytest.raises(ConnectionFailed, match="no connection"):
        async with asyncio.timeout(20):
            await connections.send(Target(URL(f"http://127.0.0.1:{port}/"), {}), b"", body)
    assert not body.is_sent
    await connections.close()


async def test_a_tls_handshake_that_takes_too_long_fails_and_sends_nothing() -> None:
    connections, body = Connections(connect_seconds=0.2, keep_alive_seconds=50), UpstreamBody(b"{}")
    async with scripted_upstream(Peer.until_closed) as wire:
        with pytest.raises(ConnectionFailed, match="no connection"):
            async with asyncio.timeout(20):
                await connections.send(target(wire, "https"), b"", body)
        assert not body.is_sent
        await wire.all_closed()
    await connections.close()


# ---- flow control


async def test_the_upstream_waits_while_its_response_is_not_read(connections: Connections) -> None:
    sent_pieces = 0

    async def flood(peer: Peer) -> None:
        nonlocal sent_pieces
        await peer.request()
        await peer.send(ENDLESS)
        for _ in range(PIECES):
            await peer.send(PIECE)
            sent_pieces += 1
        await peer.send(b"0\r\n\r\n")
        await peer.until_closed()

    async with scripted_upstream(flood) as wire:
        response = await connections.send(target(wire), b"", UpstreamBody(b"{}"))
        await response.read()
        before = -1
        while before != sent_pieces:
            before = sent_pieces
            await asyncio.sleep(0.2)
        assert sent_pieces < PIECES / 2
        size = 0
        while data := await response.read():
            size += len(data)
        assert sent_pieces == PIECES
        assert size > (PIECES - 100) * 0x10000
        response.close()


async def test_a_large_body_waits_for_its_reader_and_does_not_delay_other_calls(
    connections: Connections,
) -> None:
    content = bytes(range(256)) * 0x10000
    reading = asyncio.Event()

    async def respond_later(peer: Peer) -> None:
        await reading.wait()
        await respond(peer)

    async with scripted_upstream(respond_later) as wire, scripted_upstream(respond) as other:
        large = asyncio.create_task(call(connections, wire, content))
        assert [await call(connections, other) for _ in range(50)] == [b"ab"] * 50
        assert not large.done()
        reading.set()
        assert await large == b"ab"
        assert wire.bodies == [content]
        assert await call(connections, wire) == b"ab"
        assert wire.connections == 1


async def test_a_response_can_arrive_before_a_large_body_is_sent(connections: Connections) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await released.wait()

    released = asyncio.Event()
    async with scripted_upstream(refuse) as wire:
        body = UpstreamBody(b"x" * 32 * 1024 * 1024)
        async with nothing_left_in_flight():
            response = await connections.send(target(wire), b"", body)
            assert (response.status, await response.read_all()) == (413, b"no")
            response.close()
            released.set()
            await wire.all_closed()


# ---- cancelled and closed calls


async def read_all(connections: Connections, wire: Wire) -> None:
    response = await connections.send(target(wire), b"", UpstreamBody(b"{}"))
    try:
        while await response.read():
            pass
    finally:
        response.close()


async def begin_response(peer: Peer) -> None:
    await peer.request()
    await peer.send(ENDLESS + PIECE)
    await peer.until_closed()


@pytest.mark.parametrize(
    "script", [stay_silent, begin_response], ids=["before-the-response", "during-the-response"]
)
async def test_a_cancelled_call_closes_its_connection(connections: Connections, script: Script) -> None:
    async with nothing_left_in_flight(), scripted_upstream(script) as wire:
        task = asyncio.create_task(read_all(connections, wire))
        await wire.until(lambda wire: wire.bodies)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wire.all_closed()


async def open_connections(connections: Connections, wire: Wire, count: int) -> None:
    """Open this number of connections. They stay open for the next requests."""
    sending = (connections.send(target(wire), b"", UpstreamBody(b"first")) for _ in range(count))
    responses = await asyncio.gather(*sending)
    for response in responses:
        await response.read_all()


async def test_requests_from_one_turn_of_the_loop_are_written_together_after_it(
    connections: Connections,
) -> None:
    async with scripted_upstream(respond) as wire:
        await open_connections(connections, wire, 2)
        bodies = [UpstreamBody(b"{}"), UpstreamBody(b"{}")]
        tasks = [asyncio.create_task(connections.send(target(wire), b"", body)) for body in bodies]
        await asyncio.sleep(0)  # both calls wait for their responses now
        assert [body.is_sent for body in bodies] == [False, False]
        await asyncio.sleep(0)
        assert [body.is_sent for body in bodies] == [True, True]
        for task in tasks:
            assert await (await task).read_all() == b"ab"
        assert wire.connections == 2


async def test_only_a_limited_number_of_requests_is_written_together(connections: Connections) -> None:
    async with scripted_upstream(respond) as wire:
        await open_connections(connections, wire, MOST_TOGETHER + 1)
        bodies = [UpstreamBody(b"{}") for _ in range(MOST_TOGETHER + 1)]
        tasks = [asyncio.create_task(connections.send(target(wire), b"", body)) for body in bodies]
        await asyncio.sleep(0)
        assert [body.is_sent for body in bodies] == [True] * MOST_TOGETHER + [False]
        await asyncio.sleep(0)
        assert bodies[-1].is_sent
        for task in tasks:
            assert await (await task).read_all() == b"ab"
        assert wire.connections == len(bodies)


async def test_an_urgent_request_is_written_at_once(connections: Connections) -> None:
    async with scripted_upstream(respond) as wire:
        await open_connections(connections, wire, 2)
        body = UpstreamBody(b"{}", is_urgent=True)
        task = asyncio.create_task(connections.send(target(wire), b"", body))
        await asyncio.sleep(0)
        assert body.is_sent
        assert await (await task).read_all() == b"ab"


@pytest.mark.parametrize("content", [b"second", b"x" * (AT_ONCE_BYTES + 1)], ids=["short", "long"])
async def test_a_call_whose_connection_is_closed_before_it_writes_has_sent_nothing(
    connections: Connections, content: bytes
) -> None:
    async with nothing_left_in_flight(), scripted_upstream(respond) as wire:
        await open_connections(connections, wire, 2)
        body = UpstreamBody(content)
        task = asyncio.create_task(connections.send(target(wire), b"", body))
        await asyncio.sleep(0)
        await connections.close()
        with pytest.raises(ConnectionFailed):
            await task
        assert not body.is_sent
        await wire.all_closed()
        assert wire.bodies == [b"first", b"first"]


@pytest.mark.parametrize("size", [2, AT_ONCE_BYTES + 1])
async def test_a_body_that_is_withdrawn_before_its_turn_is_not_sent(
    connections: Connections, size: int
) -> None:
    async with nothing_left_in_flight(), scripted_upstream(respond) as wire:
        await open_connections(connections, wire, 1)
        body = UpstreamBody(b" " * size)
        task = asyncio.create_task(connections.send(target(wire), b"", body))
        await asyncio.sleep(0)
        body.is_withdrawn = True
        await asyncio.sleep(0.05)
        task.cancel()
        await wire.all_closed()
        assert not body.is_sent and wire.bodies == [b"first"]


async def test_a_call_that_is_cancelled_while_it_connects_closes_its_connection(
    connections: Connections,
) -> None:
    async with nothing_left_in_flight(), scripted_upstream(Peer.until_closed) as wire:
        body = UpstreamBody(b"{}")
        task = asyncio.create_task(connections.send(target(wire, "https"), b"", body))
        await wire.until(lambda wire: wire.connections)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wire.all_closed()
        assert not body.is_sent


async def test_a_call_that_is_cancelled_while_it_writes_closes_its_connection(
    connections: Connections,
) -> None:
    async def read_one_byte(peer: Peer) -> None:
        await peer.reader.readexactly(1)
        started.set()
        await released.wait()

    started, released = asyncio.Event(), asyncio.Event()
    async with nothing_left_in_flight(), scripted_upstream(read_one_byte) as wire:
        body = UpstreamBody(b"x" * 32 * 1024 * 1024)
        task = asyncio.create_task(connections.send(target(wire), b"", body))
        await started.wait()
        assert body.is_sent
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        released.set()
        await wire.all_closed()


async def test_closing_a_response_ends_its_reader(connections: Connections) -> None:
    async def read_on(response: UpstreamResponse) -> None:
        while await response.read():
            pass

    async with scripted_upstream(begin_response) as wire:
        response = await connections.send(target(wire), b"", UpstreamBody(b"{}"))
        reader = asyncio.create_task(read_on(response))
        await asyncio.sleep(0.05)
        response.close()
        with pytest.raises(ConnectionFailed):
            await reader
        await wire.all_closed()
        with pytest.raises(ConnectionFailed):
            await response.read()


async def test_closing_the_connections_ends_running_calls(connections: Connections) -> None:
    async with scripted_upstream(begin_response) as wire:
        task = asyncio.create_task(read_all(connections, wire))
        await wire.until(lambda wire: wire.bodies)
        await asyncio.sleep(0.05)
        await connections.close()
        with pytest.raises(ConnectionFailed):
            await task
        await wire.all_closed()


# ---- TLS


def usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """The file of a new authority, and the TLS context of a server with its certificate for `name`."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("authority", "server")]
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    certificates = []
    for is_authority, subject, key in ((True, names[0], keys[0]), (False, names[1], keys[1])):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        )
        extensions: list[x509.ExtensionType] = [
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()),
        ]
        if not is_authority:
            extensions.append(x509.SubjectAlternativeName([alternative]))
        for extension in [*extensions, usage(is_authority)]:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.KeyUsage))
        certificates.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    authority, chain = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(certificates[0])
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + certificates[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return authority, context


CALLER = """
import asyncio, json, sys
from yarl import URL
from shared.upstream.connections import UpstreamBody, Connections, Target
from shared.upstream.response import ConnectionFailed

async def main(url):
    connections, bodies = Connections(5, 50), [UpstreamBody(b"1"), UpstreamBody(b"x" * 3_000_000)]
    try:
        responses = [await connections.send(Target(URL(url), {}), b"", body) for body in bodies]
        result = [response.status for response in responses]
        result += [(await response.read_all()).decode() for response in responses]
    except ConnectionFailed as error:
        result = str(error)
    await connections.close()
    print(json.dumps([result, [body.is_sent for body in bodies]]))

asyncio.run(main(sys.argv[1]))
"""


async def call_over_tls(url: str, authority: Path | None) -> object:
    """Call from a new process, because the trusted authorities are read when a process starts."""
    env = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    env |= {"SSL_CERT_FILE": str(authority)} if authority else {}
    command = [sys.executable, "-c", CALLER, url]
    result = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)


async def test_a_trusted_server_is_called_over_tls(tmp_path: Path) -> None:
    authority, context = certificate(tmp_path, "127.0.0.1")
    async with scripted_upstream(respond, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", authority)
    assert result == [[200, 200, "ab", "ab"], [True, True]]
    assert wire.bodies == [b"1", b"x" * 3_000_000]


async def test_a_server_with_another_name_gets_nothing(tmp_path: Path) -> None:
    authority, context = certificate(tmp_path, "elsewhere.example")
    async with scripted_upstream(respond, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", authority)
    assert result == ["no connection: ClientConnectorCertificateError", [False, False]]
    assert wire.bodies == []


async def test_a_server_with_an_untrusted_certificate_gets_nothing(tmp_path: Path) -> None:
    _, context = certificate(tmp_path, "127.0.0.1")
    async with scripted_upstream(respond, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", None)
    assert result == ["no connection: ClientConnectorCertificateError", [False, False]]
    assert wire.bodies == []


# ---- undocumented parts of aiohttp


def test_the_installed_aiohttp_is_the_version_that_was_reviewed() -> None:
    reviewed = "3.14.5"
    assert version("aiohttp") == reviewed, (
        "shared/upstream/connections.py uses undocumented parts of aiohttp. Review the changes of client_proto.py, "
        "connector.py, streams.py and http_writer.py, run the tests of connections, then set the new version here."
    )


async def test_the_parts_of_aiohttp_that_we_use_exist() -> None:
    assert list(inspect.signature(aiohttp.TCPConnector.connect).parameters) == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    used = {"read_until_eof", "auto_decompress"}
    assert used <= set(inspect.signature(ResponseHandler.set_response_params).parameters)
    assert inspect.iscoroutinefunction(ResponseHandler.read)
    for owner, names in {
        ResponseHandler: ("should_close", "closed", "is_connected"),
        Connection: ("protocol", "release", "close"),
        StreamWriter: ("write", "drain"),
        aiohttp.StreamReader: (
            "readany",
            "read",
            "read_nowait",
            "is_eof",
            "at_eof",
            "on_eof",
            "_read_nowait",
            "begin_http_chunk_receiving",
            "end_http_chunk_receiving",
            "exception",
            "set_exception",
        ),
    }.items():
        assert [name for name in names if not hasattr(owner, name)] == []
    assert {"_buffer", "_size", "_waiter"} <= set(aiohttp.StreamReader.__slots__)
    handler = _Handler(asyncio.get_running_loop())
    assert vars(handler) == {}  # all attributes are slots
    assert handler._parser is None
    assert not handler._reading_paused
    async with aiohttp.TCPConnector() as connector:
        assert connector._factory.keywords.keys() == {"loop"}
