"""Connections to the upstream: kept, secured, bounded both ways, and never left open or used twice at once."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
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
    Body,
    ConnectionFailed,
    Connections,
    Response,
    Target,
    header,
)
from tests.conftest import nothing_left_in_flight
from tests.wire import Peer, Script, Wire, speaking
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


async def ask(connections: Connections, wire: Wire, content: bytes = b"{}") -> bytes:
    response = await connections.send(target(wire), b"", Body(content))
    return await response.read_all()


async def answers(peer: Peer) -> None:
    while await peer.request():
        await peer.say(SHORT)


async def is_silent(peer: Peer) -> None:
    await peer.request()
    await peer.left()


async def test_a_request_is_these_bytes(connections: Connections) -> None:
    async with speaking(answers) as wire:
        url = URL(f"http://127.0.0.1:{wire.port}/a b/\u00e9?api-version=1&x=%2B")
        target = Target(url, {b"accept": b"*/*"})
        response = await connections.send(target, header(b"api-key", b"k"), Body(b'{"a":1}'))
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
async def test_an_address_that_is_not_http_fails(url: str) -> None:
    with pytest.raises(ConnectionFailed):
        Target(URL(url), {})


# ---- kept connections


async def test_a_connection_is_kept_for_the_next_request(connections: Connections) -> None:
    async with speaking(answers) as wire:
        assert [await ask(connections, wire) for _ in range(5)] == [b"ab"] * 5
        assert wire.connections == 1


async def test_concurrent_calls_use_separate_connections(connections: Connections) -> None:
    async def after_all(peer: Peer) -> None:
        while await peer.request():
            await wire.until(lambda wire: len(wire.bodies) >= 20)
            await peer.say(SHORT)

    async with speaking(after_all) as wire:
        assert set(await asyncio.gather(*(ask(connections, wire) for _ in range(20)))) == {b"ab"}
        assert wire.connections == 20


async def test_a_connection_that_was_idle_for_long_is_not_used() -> None:
    connections = Connections(connect_seconds=5, keep_alive_seconds=0.05)
    async with speaking(answers) as wire:
        await ask(connections, wire)
        await asyncio.sleep(0.1)
        await ask(connections, wire)
        assert wire.connections == 2
    await connections.close()


async def test_an_idle_connection_that_was_closed_is_replaced(connections: Connections) -> None:
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.say(SHORT)

    async with speaking(once) as wire:
        for count in range(1, 4):
            assert await ask(connections, wire) == b"ab"
            await wire.all_closed()
            await asyncio.sleep(0.05)  # for it to be noticed
            assert (wire.connections, len(wire.bodies)) == (count, count)


@pytest.mark.parametrize("unasked", [SHORT, b"HTTP/1.1 408 Too slow\r\ncontent-length: 0\r\n\r\n", b"?"])
async def test_data_that_comes_before_a_request_is_not_taken_as_its_response(
    connections: Connections, unasked: bytes
) -> None:
    idle, spoilt = asyncio.Event(), asyncio.Event()

    async def goes_on(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK + b"content-length: 1\r\n\r\n%d" % len(wire.bodies))
        if wire.connections == 1:
            await idle.wait()
            await peer.say(unasked)
            spoilt.set()
        await peer.left()

    async with speaking(goes_on) as wire:
        assert await ask(connections, wire) == b"1"
        idle.set()
        await spoilt.wait()
        await asyncio.sleep(0.05)  # for it to arrive
        assert await ask(connections, wire) == b"2"
        assert wire.connections == 2


async def test_a_second_response_is_not_taken_for_the_next_request(connections: Connections) -> None:
    async def answers_twice(peer: Peer) -> None:
        await peer.request()
        await peer.say(SHORT + OK + b"content-length: 3\r\n\r\nbad")
        await peer.left()

    async with speaking(answers_twice) as wire:
        assert [await ask(connections, wire) for _ in range(3)] == [b"ab"] * 3
        assert wire.connections == 3


@pytest.mark.parametrize("reset", [False, True])
async def test_a_request_is_never_repeated(connections: Connections, reset: bool) -> None:
    async def hangs_up_at_the_second(peer: Peer) -> None:
        await peer.request()
        await peer.say(SHORT)
        await peer.request()
        if reset:
            peer.reset()

    async with speaking(hangs_up_at_the_second) as wire:
        await ask(connections, wire, b"1")
        body = Body(b"2")
        with pytest.raises(ConnectionFailed):
            await connections.send(target(wire), b"", body)
        assert wire.bodies == [b"1", b"2"]
        assert body.is_sent


# ---- connections that cannot be had


async def test_a_refused_connection_fails_and_sends_nothing(connections: Connections) -> None:
    body = Body(b"{}")
    with pytest.raises(ConnectionFailed):
        await connections.send(Target(URL(f"http://127.0.0.1:{free()}/"), {}), b"", body)
    assert not body.is_sent


async def test_an_unknown_host_fails_and_sends_nothing(connections: Connections) -> None:
    body = Body(b"{}")
    with pytest.raises(ConnectionFailed):
        await connections.send(Target(URL("http://no-such-host.invalid/"), {}), b"", body)
    assert not body.is_sent


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue is full: the system leaves further connections without an answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
        try:
            yield port
        finally:
            for one in waiting:
                one.close()


async def test_a_connection_that_takes_too_long_fails_and_sends_nothing() -> None:
    connections, body = Connections(connect_seconds=0.2, keep_alive_seconds=50), Body(b"{}")
    with full_listener() as port, pytest.raises(ConnectionFailed, match="no connection"):
        async with asyncio.timeout(20):
            await connections.send(Target(URL(f"http://127.0.0.1:{port}/"), {}), b"", body)
    assert not body.is_sent
    await connections.close()


async def test_a_tls_handshake_that_takes_too_long_fails_and_sends_nothing() -> None:
    connections, body = Connections(connect_seconds=0.2, keep_alive_seconds=50), Body(b"{}")
    async with speaking(Peer.left) as wire:
        with pytest.raises(ConnectionFailed, match="no connection"):
            async with asyncio.timeout(20):
                await connections.send(target(wire, "https"), b"", body)
        assert not body.is_sent
        await wire.all_closed()
    await connections.close()


# ---- as much as the other side takes


async def test_a_response_that_is_not_read_stops_the_upstream(connections: Connections) -> None:
    said = 0

    async def floods(peer: Peer) -> None:
        nonlocal said
        await peer.request()
        await peer.say(ENDLESS)
        for _ in range(PIECES):
            await peer.say(PIECE)
            said += 1
        await peer.say(b"0\r\n\r\n")
        await peer.left()

    async with speaking(floods) as wire:
        response = await connections.send(target(wire), b"", Body(b"{}"))
        await response.read()
        before = -1
        while before != said:
            before = said
            await asyncio.sleep(0.2)
        assert said < PIECES / 2
        size = 0
        while data := await response.read():
            size += len(data)
        assert said == PIECES
        assert size > (PIECES - 100) * 0x10000
        response.close()


async def test_a_large_body_waits_for_its_reader_and_does_not_delay_other_calls(
    connections: Connections,
) -> None:
    content = bytes(range(256)) * 0x10000
    reading = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await reading.wait()
        await answers(peer)

    async with speaking(slow) as wire, speaking(answers) as other:
        large = asyncio.create_task(ask(connections, wire, content))
        assert [await ask(connections, other) for _ in range(50)] == [b"ab"] * 50
        assert not large.done()
        reading.set()
        assert await large == b"ab"
        assert wire.bodies == [content]
        assert await ask(connections, wire) == b"ab"
        assert wire.connections == 1


async def test_a_response_may_come_before_a_large_body_is_sent(connections: Connections) -> None:
    async def refuses(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await released.wait()

    released = asyncio.Event()
    async with speaking(refuses) as wire:
        body = Body(b"x" * 32 * 1024 * 1024)
        async with nothing_left_in_flight():
            response = await connections.send(target(wire), b"", body)
            assert (response.status, await response.read_all()) == (413, b"no")
            response.close()
            released.set()
            await wire.all_closed()


# ---- ends


async def reading(connections: Connections, wire: Wire) -> None:
    response = await connections.send(target(wire), b"", Body(b"{}"))
    try:
        while await response.read():
            pass
    finally:
        response.close()


async def begins(peer: Peer) -> None:
    await peer.request()
    await peer.say(ENDLESS + PIECE)
    await peer.left()


@pytest.mark.parametrize("script", [is_silent, begins], ids=["before its answer", "within its answer"])
async def test_a_cancelled_call_closes_its_connection(connections: Connections, script: Script) -> None:
    async with nothing_left_in_flight(), speaking(script) as wire:
        call = asyncio.create_task(reading(connections, wire))
        await wire.until(lambda wire: wire.bodies)
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await wire.all_closed()


async def kept(connections: Connections, wire: Wire, count: int) -> None:
    """Opens so many connections, which stay open for the next requests."""
    sending = (connections.send(target(wire), b"", Body(b"first")) for _ in range(count))
    responses = await asyncio.gather(*sending)
    for response in responses:
        await response.read_all()


async def test_requests_of_one_turn_of_the_loop_are_written_together_after_it(
    connections: Connections,
) -> None:
    async with speaking(answers) as wire:
        await kept(connections, wire, 2)
        bodies = [Body(b"{}"), Body(b"{}")]
        calls = [asyncio.create_task(connections.send(target(wire), b"", body)) for body in bodies]
        await asyncio.sleep(0)  # both calls wait for their answers now
        assert [body.is_sent for body in bodies] == [False, False]
        await asyncio.sleep(0)
        assert [body.is_sent for body in bodies] == [True, True]
        for call in calls:
            assert await (await call).read_all() == b"ab"
        assert wire.connections == 2


async def test_only_a_limited_number_of_requests_is_written_together(connections: Connections) -> None:
    async with speaking(answers) as wire:
        await kept(connections, wire, MOST_TOGETHER + 1)
        bodies = [Body(b"{}") for _ in range(MOST_TOGETHER + 1)]
        calls = [asyncio.create_task(connections.send(target(wire), b"", body)) for body in bodies]
        await asyncio.sleep(0)
        assert [body.is_sent for body in bodies] == [True] * MOST_TOGETHER + [False]
        await asyncio.sleep(0)
        assert bodies[-1].is_sent
        for call in calls:
            assert await (await call).read_all() == b"ab"
        assert wire.connections == len(bodies)


async def test_an_urgent_request_is_written_at_once(connections: Connections) -> None:
    async with speaking(answers) as wire:
        await kept(connections, wire, 2)
        body = Body(b"{}", is_urgent=True)
        call = asyncio.create_task(connections.send(target(wire), b"", body))
        await asyncio.sleep(0)
        assert body.is_sent
        assert await (await call).read_all() == b"ab"


@pytest.mark.parametrize("content", [b"second", b"x" * (AT_ONCE_BYTES + 1)], ids=["short", "long"])
async def test_a_call_whose_connection_is_closed_before_it_writes_has_sent_nothing(
    connections: Connections, content: bytes
) -> None:
    async with nothing_left_in_flight(), speaking(answers) as wire:
        await kept(connections, wire, 2)
        body = Body(content)
        call = asyncio.create_task(connections.send(target(wire), b"", body))
        await asyncio.sleep(0)
        await connections.close()
        with pytest.raises(ConnectionFailed):
            await call
        assert not body.is_sent
        await wire.all_closed()
        assert wire.bodies == [b"first", b"first"]


async def test_a_call_that_is_cancelled_while_it_connects_closes_its_connection(
    connections: Connections,
) -> None:
    async with nothing_left_in_flight(), speaking(Peer.left) as wire:
        body = Body(b"{}")
        call = asyncio.create_task(connections.send(target(wire, "https"), b"", body))
        await wire.until(lambda wire: wire.connections)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await wire.all_closed()
        assert not body.is_sent


async def test_a_call_that_is_cancelled_while_it_writes_closes_its_connection(
    connections: Connections,
) -> None:
    async def takes_little(peer: Peer) -> None:
        await peer.reader.readexactly(1)
        begun.set()
        await released.wait()

    begun, released = asyncio.Event(), asyncio.Event()
    async with nothing_left_in_flight(), speaking(takes_little) as wire:
        body = Body(b"x" * 32 * 1024 * 1024)
        call = asyncio.create_task(connections.send(target(wire), b"", body))
        await begun.wait()
        assert body.is_sent
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        released.set()
        await wire.all_closed()


async def test_closing_a_response_ends_its_reader(connections: Connections) -> None:
    async def read_on(response: Response) -> None:
        while await response.read():
            pass

    async with speaking(begins) as wire:
        response = await connections.send(target(wire), b"", Body(b"{}"))
        reader = asyncio.create_task(read_on(response))
        await asyncio.sleep(0.05)
        response.close()
        with pytest.raises(ConnectionFailed):
            await reader
        await wire.all_closed()
        with pytest.raises(ConnectionFailed):
            await response.read()


async def test_closing_the_connections_ends_running_calls(connections: Connections) -> None:
    async with speaking(begins) as wire:
        call = asyncio.create_task(reading(connections, wire))
        await wire.until(lambda wire: wire.bodies)
        await asyncio.sleep(0.05)
        await connections.close()
        with pytest.raises(ConnectionFailed):
            await call
        await wire.all_closed()


# ---- TLS, as the platform's own certificates secure it


def usage(is_authority: bool) -> x509.KeyUsage:
    signs = {"digital_signature": True, "key_cert_sign": is_authority, "crl_sign": is_authority}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return x509.KeyUsage(**signs, **dict.fromkeys((*others, "encipher_only", "decipher_only"), False))


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """An authority of its own, and a server's context with a certificate of it for `name`."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("authority", "server")]
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = []
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
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    authority, chain = folder / "authority.pem", folder / "server.pem"
    authority.write_bytes(made[0])
    private = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + made[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return authority, context


ASKER = """
import asyncio, json, sys
from yarl import URL
from shared.upstream.connections import ConnectionFailed, Connections, Target
from shared.upstream.connections import Body

async def main(url):
    connections, bodies = Connections(5, 50), [Body(b"1"), Body(b"x" * 3_000_000)]
    try:
        answers = [await connections.send(Target(URL(url), {}), b"", body) for body in bodies]
        result = [answer.status for answer in answers] + [(await answer.read_all()).decode() for answer in answers]
    except ConnectionFailed as error:
        result = str(error)
    await connections.close()
    print(json.dumps([result, [body.is_sent for body in bodies]]))

asyncio.run(main(sys.argv[1]))
"""


async def call_over_tls(url: str, authority: Path | None) -> object:
    """By a process of its own: it reads the trusted authorities when it starts, as the app does."""
    env = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    env |= {"SSL_CERT_FILE": str(authority)} if authority else {}
    command = [sys.executable, "-c", ASKER, url]
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return json.loads(ran.stdout)


async def test_a_trusted_server_is_called_over_tls(tmp_path: Path) -> None:
    authority, context = certificate(tmp_path, "127.0.0.1")
    async with speaking(answers, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", authority)
    assert result == [[200, 200, "ab", "ab"], [True, True]]
    assert wire.bodies == [b"1", b"x" * 3_000_000]


async def test_a_server_with_another_name_gets_nothing(tmp_path: Path) -> None:
    authority, context = certificate(tmp_path, "elsewhere.example")
    async with speaking(answers, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", authority)
    assert result == ["no connection: ClientConnectorCertificateError", [False, False]]
    assert wire.bodies == []


async def test_a_server_with_an_untrusted_certificate_gets_nothing(tmp_path: Path) -> None:
    _, context = certificate(tmp_path, "127.0.0.1")
    async with speaking(answers, context) as wire:
        result = await call_over_tls(f"https://127.0.0.1:{wire.port}/", None)
    assert result == ["no connection: ClientConnectorCertificateError", [False, False]]
    assert wire.bodies == []


# ---- what is used of aiohttp beyond its documentation


def test_the_installed_aiohttp_is_the_version_that_was_reviewed() -> None:
    read = "3.14.5"
    assert version("aiohttp") == read, (
        "shared/upstream/connections.py stands on parts of aiohttp that it may change without notice. Read the changes of "
        "client_proto.py, connector.py, streams.py and http_writer.py, run the tests of connections, then set this."
    )


def test_the_parts_of_aiohttp_that_we_use_exist() -> None:
    assert list(inspect.signature(aiohttp.TCPConnector.connect).parameters) == [
        "self",
        "req",
        "traces",
        "timeout",
    ]
    wanted = {"read_until_eof", "auto_decompress"}
    assert wanted <= set(inspect.signature(ResponseHandler.set_response_params).parameters)
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
            "exception",
            "set_exception",
        ),
    }.items():
        assert [name for name in names if not hasattr(owner, name)] == []
