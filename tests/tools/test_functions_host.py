"""The local host over real sockets: answers, keys, CORS, limits, streams, and how it starts and ends."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from azurefunctions.extensions.http.fastapi import (
    PlainTextResponse,
    Request,
    Response,
    StreamingResponse,
)
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from tests.tools.sample_apps import NO_PREFIX, call, echo_app, new_app
from tools.functions_host import AppFault, CorsPolicy, FunctionsHost, HostSettings, PortInUse
from tools.functions_host.serving import listen
from tools.functions_host.settings import added_to_environment

SAMPLE = """
import asyncio
import os
import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, StreamingResponse

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("setting/{name}", methods=["GET"])
async def setting(req: Request) -> Response:
    return Response(os.environ.get(req.path_params["name"], "(unset)"))

@app.route("endless", methods=["GET"])
async def endless(req: Request) -> StreamingResponse:
    async def chunks():
        while True:
            yield b"chunk"
            await asyncio.sleep(0.05)
    return StreamingResponse(chunks())
"""


class OwnResponse(Response):  # type: ignore[misc] # untyped in the extension
    """Answers by itself, as a response that owns its stream does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 207, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"own"})


def app_answering(result: object) -> func.FunctionApp:
    """One function, `GET /x`, that returns `result`, or raises it."""
    app = new_app()

    @app.route("x", methods=["GET"])
    async def answer(req: Request):  # type: ignore[no-untyped-def] # results of any kind
        if isinstance(result, Exception):
            raise result
        return result

    return app


@pytest.mark.parametrize(
    ("result", "status", "content_type", "body"),
    [
        ("text", 200, "application/json", b'"text"'),
        ({"a": [1]}, 200, "application/json", b'{"a":[1]}'),
        (PlainTextResponse("plain", status_code=201), 201, "text/plain; charset=utf-8", b"plain"),
        (OwnResponse(), 207, None, b"own"),
        (None, 500, "text/plain; charset=utf-8", b"Internal Server Error"),
        (object, 500, "text/plain; charset=utf-8", b"Internal Server Error"),
        (RuntimeError("secret"), 500, "text/plain; charset=utf-8", b"Internal Server Error"),
        (HTTPException(418, "short and stout"), 418, "application/json", b'{"detail":"short and stout"}'),
    ],
)
async def test_a_result_is_answered_as_on_the_platform(
    result: object, status: int, content_type: str | None, body: bytes
) -> None:
    async with FunctionsHost(app_answering(result), settings=NO_PREFIX) as host:
        answer = await call(host.url, "/x")
    assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, content_type, body)


async def test_what_a_function_raises_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with FunctionsHost(app_answering(RuntimeError("the cause")), settings=NO_PREFIX) as host:
        await call(host.url, "/x")
    record = next(one for one in caplog.records if one.name.startswith("tools.functions_host"))
    assert record.levelno == logging.ERROR
    assert "RuntimeError: the cause" in caplog.text


async def test_a_cancelled_error_that_a_function_lets_out_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = new_app()

    @app.route("x", methods=["GET"])
    async def cancelled(req: Request) -> Response:
        raise asyncio.CancelledError

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        assert (await call(host.url, "/x")).status == 500
    assert "in the cloud its client waits for ever" in caplog.text


async def test_a_function_gets_the_request_under_the_name_of_its_trigger() -> None:
    app = new_app()

    @app.route("x", methods=["POST"], trigger_arg_name="incoming")
    async def echo(incoming: Request, context: Any) -> Response:
        said = [incoming.query_params["q"], incoming.headers["x-it"], (await incoming.body()).decode()]
        return Response(" ".join([context.function_name, *said]))

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        answer = await call(host.url, "/x?q=a+b", "POST", data=b"body", headers={"X-It": "header"})
    assert answer.body == b"echo a b header body"


async def test_a_function_that_is_not_async_runs_in_another_thread() -> None:
    app = new_app()

    @app.route("x", methods=["GET"])
    def in_thread(req: Request) -> Response:
        return Response(threading.current_thread().name)

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        answer = await call(host.url, "/x")
    assert answer.body != threading.current_thread().name.encode()


async def test_a_stream_arrives_chunk_by_chunk_while_the_function_waits() -> None:
    app, first_seen = new_app(), asyncio.Event()

    @app.route("x", methods=["GET"])
    async def stream(req: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            await first_seen.wait()
            yield b"second"

        return StreamingResponse(chunks())

    async with (
        FunctionsHost(app, settings=NO_PREFIX) as host,
        aiohttp.ClientSession() as client,
        client.get(host.url + "/x") as response,
    ):
        assert await response.content.readany() == b"first"
        first_seen.set()
        assert await response.content.read() == b"second"


async def test_a_request_body_arrives_chunk_by_chunk_while_the_client_waits() -> None:
    app, first_seen = new_app(), asyncio.Event()

    @app.route("x", methods=["POST"])
    async def take(req: Request) -> Response:
        received = b""
        async for chunk in req.stream():
            received += chunk
            first_seen.set()
        return Response(received)

    async def body() -> AsyncIterator[bytes]:
        yield b"one "
        await first_seen.wait()
        yield b"two"

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        assert (await call(host.url, "/x", "POST", data=body())).body == b"one two"


async def test_a_failure_after_the_first_byte_cuts_the_connection() -> None:
    app = new_app()

    @app.route("x", methods=["GET"])
    async def stream(req: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError

        return StreamingResponse(chunks())

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        with pytest.raises(aiohttp.ClientPayloadError):
            await call(host.url, "/x")


async def test_a_client_that_leaves_ends_the_stream_that_it_left() -> None:
    app, ended = new_app(), asyncio.Event()

    @app.route("x", methods=["GET"])
    async def stream(req: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return StreamingResponse(chunks())

    async with FunctionsHost(app, settings=NO_PREFIX) as host:
        async with aiohttp.ClientSession() as client, client.get(host.url + "/x") as response:
            await response.content.readany()
            response.close()
        await ended.wait()


@contextlib.asynccontextmanager
async def host_of_a_silent_function(seconds: float) -> AsyncIterator[tuple[FunctionsHost, asyncio.Event]]:
    """The event is set once the function is told that its client is gone."""
    app, told = new_app(), asyncio.Event()

    @app.route("x", methods=["GET"])
    async def silent(req: Request) -> Response:
        await req.body()
        assert (await req.receive())["type"] == "http.disconnect"
        told.set()
        return Response("too late")

    settings = HostSettings(route_prefix="", response_seconds=seconds)
    async with FunctionsHost(app, settings=settings) as host:
        yield host, told


async def test_a_function_that_does_not_begin_to_respond_in_time_is_answered_for_with_502() -> None:
    async with host_of_a_silent_function(0.01) as (host, told):
        answer = await call(host.url, "/x")
        await told.wait()
    assert answer.status == 502
    assert b"too late" not in answer.body


async def test_a_stream_that_has_begun_in_time_may_last() -> None:
    app = new_app()

    @app.route("slow", methods=["GET"])
    async def slow(req: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"begun "
            await call(silent_url, "/x")  # lasts longer than the limit of this host
            yield b"ended"

        return StreamingResponse(chunks())

    settings = HostSettings(route_prefix="", response_seconds=0.05)
    async with host_of_a_silent_function(0.2) as (silent, _), FunctionsHost(app, settings=settings) as host:
        silent_url = silent.url
        assert (await call(host.url, "/slow")).body == b"begun ended"


async def chunked(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize(("length", "status"), [(10, 200), (11, 413)])
async def test_a_body_above_the_limit_is_refused_by_the_host(
    length: int, status: int, in_chunks: bool
) -> None:
    app = new_app()

    @app.route("x", methods=["POST"])
    async def take(req: Request) -> Response:
        return Response(await req.body())

    data = chunked(b"12345", b"6" * (length - 5)) if in_chunks else b"1" * length
    async with FunctionsHost(app, settings=HostSettings(route_prefix="", max_body_bytes=10)) as host:
        answer = await call(host.url, "/x", "POST", data=data)
    assert (answer.status, len(answer.body)) == (status, length if status == 200 else 0)


@pytest.mark.parametrize(
    ("key", "target", "headers", "status"),
    [
        ("k", "/x", {"x-functions-key": "k"}, 200),
        ("k", "/x?code=k", {}, 200),
        ("k", "/x", {"x-functions-key": "wrong"}, 401),
        ("k", "/x?code=", {}, 401),
        ("k", "/x", {}, 401),
        (None, "/x", {"x-functions-key": ""}, 401),
    ],
)
@pytest.mark.parametrize("level", [func.AuthLevel.FUNCTION, func.AuthLevel.ADMIN])
async def test_a_function_that_is_not_anonymous_needs_the_key(
    level: func.AuthLevel, key: str | None, target: str, headers: dict[str, str], status: int
) -> None:
    app = new_app()

    @app.route("x", methods=["GET"], auth_level=level)
    async def guarded(req: Request) -> Response:
        return Response(status_code=200)

    async with FunctionsHost(app, settings=HostSettings(route_prefix="", key=key)) as host:
        answer = await call(host.url, target, headers=headers)
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize(
    ("target", "status"),
    [("/", 200), ("/admin/host/status", 200), ("/admin/functions", 401), ("/runtime/x", 401)],
)
async def test_the_host_has_pages_of_its_own(target: str, status: int) -> None:
    async with FunctionsHost(echo_app(("f", "a"))) as host:
        assert (await call(host.url, target)).status == status


async def test_the_home_page_can_be_switched_off() -> None:
    async with FunctionsHost(echo_app(), environment={"AzureWebJobsDisableHomepage": "true"}) as host:
        assert (await call(host.url, "/")).status == 204


async def test_a_function_at_the_root_replaces_the_home_page() -> None:
    async with FunctionsHost(echo_app(("f", "/")), settings=NO_PREFIX) as host:
        assert json.loads((await call(host.url, "/")).body)["function"] == "f"


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "api-key"}


@pytest.mark.parametrize(
    ("policy", "allowed_origin"),
    [
        (CorsPolicy(frozenset({"*"})), "*"),
        (CorsPolicy(frozenset({"https://a.example"})), "https://a.example"),
        (CorsPolicy(frozenset({"*"}), credentials=True), "https://a.example"),
        (CorsPolicy(frozenset({"https://b.example"})), None),
        (None, None),
    ],
)
async def test_cors_is_the_hosts_own_affair(policy: CorsPolicy | None, allowed_origin: str | None) -> None:
    settings = HostSettings(route_prefix="", cors=policy)
    origin = {"origin": "https://a.example"}
    async with FunctionsHost(echo_app(("f", "x")), settings=settings) as host:
        asked = await call(host.url, "/x", "OPTIONS", headers={**origin, **PREFLIGHT})
        got = await call(host.url, "/x", headers=origin)
        plain = await call(host.url, "/x")
    assert asked.status == (404 if policy is None else 204)
    assert asked.headers.get("access-control-allow-headers") == ("api-key" if allowed_origin else None)
    assert got.status == 200
    for answer in (asked, got):
        assert answer.headers.get("access-control-allow-origin") == allowed_origin
    assert "access-control-allow-origin" not in plain.headers


@pytest.fixture
def app_directory(tmp_path: Path) -> Iterator[Path]:
    before = set(sys.modules)
    (tmp_path / "function_app.py").write_text(SAMPLE)
    yield tmp_path
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]
    for name in set(sys.modules) - before:
        del sys.modules[name]


async def test_settings_are_read_beside_the_app(app_directory: Path) -> None:
    (app_directory / "host.json").write_text('{"extensions": {"http": {"routePrefix": "p"}}}')
    (app_directory / "local.settings.json").write_text(
        '{"Values": {"A_SETTING": "of the file", "OTHER": "of the file"}, "Host": {"CORS": "*"}}'
    )
    with added_to_environment({"A_SETTING": "of the process"}):
        async with FunctionsHost(app_directory, environment={"OTHER": "given"}) as host:
            answers = [await call(host.url, f"/p/setting/{name}") for name in ("A_SETTING", "OTHER")]
            assert [answer.body for answer in answers] == [b"of the process", b"given"]
        assert "OTHER" not in os.environ


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("host.json", "{", "host.json is not JSON"),
        ("function_app.py", "", "must hold one function app at its top level, it holds 0"),
    ],
)
async def test_a_file_at_fault_is_named(app_directory: Path, name: str, text: str, fault: str) -> None:
    (app_directory / name).write_text(text)
    with pytest.raises(AppFault, match=fault):
        await FunctionsHost(app_directory).__aenter__()


async def test_an_answer_is_not_held_back_to_be_joined_with_the_next() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY


async def test_hosts_in_one_process_serve_their_own_apps() -> None:
    async with (
        FunctionsHost(echo_app(("one", "x")), settings=NO_PREFIX) as one,
        FunctionsHost(echo_app(("two", "x")), settings=NO_PREFIX) as two,
    ):
        names = [json.loads((await call(host.url, "/x")).body)["function"] for host in (one, two)]
    assert names == ["one", "two"]


async def test_a_port_in_use_is_told_in_a_sentence() -> None:
    async with FunctionsHost(echo_app(("f", "x"))) as host:
        port = int(host.url.rpartition(":")[2])
        with pytest.raises(PortInUse, match=rf"port {port} of 127.0.0.1 cannot be had"):
            await FunctionsHost(echo_app(("f", "x")), port=port).__aenter__()


@pytest.mark.parametrize("hard", [False, True])
async def test_a_host_stops_with_a_stream_open_and_its_function_is_ended(hard: bool) -> None:
    app, ended = new_app(), asyncio.Event()

    @app.route("x", methods=["GET"])
    async def stream(req: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                ended.set()

        return StreamingResponse(chunks())

    async with FunctionsHost(app, settings=NO_PREFIX) as host, aiohttp.ClientSession() as client:
        async with client.get(host.url + "/x") as response:
            await response.content.readany()
            await host.stop(hard=hard)
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(host.url + "/x")
    assert ended.is_set()


@contextlib.asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.functions_host", *arguments),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_serves_and_ends_on_a_signal_with_a_stream_open(
    app_directory: Path, number: signal.Signals
) -> None:
    async with command("--app", str(app_directory), "--port", "0", "--routes") as process:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("Functions host on http://127.0.0.1:")
        assert b"/api/endless" in await process.stdout.readline()
        endless = line.split()[-1] + "/api/endless"
        async with aiohttp.ClientSession() as client, client.get(endless) as response:
            assert await response.content.readexactly(5) == b"chunk"
            process.send_signal(number)
            assert await process.wait() == 0


async def test_the_command_tells_a_port_in_use_in_one_line_with_status_2(app_directory: Path) -> None:
    async with FunctionsHost(echo_app(("f", "x"))) as host:
        port = host.url.rpartition(":")[2]
        async with command("--app", str(app_directory), "--port", port) as process:
            _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.decode().startswith(f"port {port} of 127.0.0.1 cannot be had")
    assert errors.count(b"\n") == 1


async def test_the_command_tells_a_missing_app_in_one_line_with_status_2(tmp_path: Path) -> None:
    async with command("--app", str(tmp_path), "--port", "0") as process:
        _, errors = await process.communicate()
    assert (process.returncode, errors.count(b"\n")) == (2, 1)
    assert b"there is no" in errors
