"""The local host over real sockets: responses, limits, streams, and how it starts and ends."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import azure.functions as func
import pytest

from shared.core.errors import InternalError
from shared.functions.http import Receive, Request, Response, Send
from tests.tools.sample_apps import Stream, as_json, call, echo_app, host_of, new_app, parts_of
from tools.functions_host import AppFault, FunctionsHost, PortInUse
from tools.functions_host.app import added_to_environment
from tools.processes import ROOT

SAMPLE = """
import asyncio
import os
import azure.functions as func
from shared.functions.http import Request, Response

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("setting/{name}", methods=["GET"])
async def setting(req: Request) -> Response:
    return Response(200, {}, os.environ.get(req.path_params["name"], "(unset)").encode())

@app.route("endless", methods=["GET"])
async def endless(req: Request) -> Response:
    return Endless(200, {}, b"")

class Endless(Response):
    async def send_to(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"chunk", "more_body": True})
            await asyncio.sleep(0.05)
"""


class OwnResponse(Response):
    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 207, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"own"})


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        (Response(201, {b"x-own": b"1"}, b"plain"), 201, b"plain"),
        (OwnResponse(200, {}, b""), 207, b"own"),
        ("text", 500, InternalError().body()),
        (None, 500, InternalError().body()),
        (RuntimeError("the cause"), 500, InternalError().body()),
    ],
)
async def test_only_a_response_reaches_the_client(
    result: object, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(req: Request):  # type: ignore[no-untyped-def] # results of any kind
        if isinstance(result, Exception):
            raise result
        return result

    async with host_of(handler) as host:
        answer = await call(host.url, "/x")
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("x-own") == ("1" if status < 500 else None)
    assert ("RuntimeError: the cause" in caplog.text) == isinstance(result, Exception)


async def test_the_app_sees_the_headers_that_the_host_sets() -> None:
    async def handler(req: Request) -> Response:
        return as_json([[name.decode(), value.decode()] for name, value in req.scope["headers"]])

    sent = [("Host", "example.com"), ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")]
    sent += [("X-Forwarded-Host", "evil"), ("Api-Key", "one"), ("Api-Key", "two")]
    async with host_of(handler) as host:
        seen = dict(json.loads((await call(host.url, "/x", headers=sent)).body))
        assert seen["host"] == urlsplit(host.url).netloc
    forwarded = [seen[f"x-forwarded-{name}"] for name in ("host", "for", "proto")]
    assert forwarded == ["example.com", "127.0.0.1", "http"]
    assert seen["api-key"] == "one, two"
    assert len(seen["x-ms-invocation-id"]) == 36


async def test_the_app_sees_a_resolved_path() -> None:
    app = new_app()

    @app.route("{*rest}", methods=["GET"])
    async def handler(req: Request) -> Response:
        return as_json([req.path, req.scope["raw_path"].decode(), req.scope["query_string"].decode()])

    async with FunctionsHost(app, route_prefix="") as host:
        seen = json.loads((await call(host.url, "/a/../b%2Fc%20d/%2e?q=%20")).body)
    assert seen == ["/b%2Fc d/", "/b%252Fc%20d/", "q=%20"]


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/x?" + "q" * 8192, {}, 414),
        ("/x?" + "q" * 8000, {}, 200),
        ("/x", {f"x-{n}": "1" for n in range(110)}, 431),
        ("/x", {"x-long": "1" * 33_000}, 431),
        ("/x", {"x-long": "1" * 32_000}, 200),
        ("/x%00", {}, 400),
    ],
)
async def test_the_host_refuses_what_is_too_long(target: str, headers: dict[str, str], status: int) -> None:
    async with FunctionsHost(echo_app(("f", "x")), route_prefix="") as host:
        session = aiohttp.ClientSession(max_line_size=100_000, max_field_size=100_000)
        async with session, session.get(host.url + target, headers=headers) as response:
            assert response.status == status


@pytest.mark.parametrize(("length", "status"), [(10, 200), (11, 500)])
async def test_the_host_refuses_a_body_above_its_limit(length: int, status: int) -> None:
    async def handler(req: Request) -> Response:
        return Response(200, {}, b"".join([part async for part in parts_of(req)]))

    async with host_of(handler, "POST", environment={"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "10"}) as host:
        answer = await call(host.url, "/x", "POST", data=b"1" * length)
    assert (answer.status, answer.body) == (status, b"1" * length if status == 200 else b"")


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(("disabled", "status"), [("true", 204), ("", 200)])
async def test_the_root_without_a_function_is_the_home_page(method: str, disabled: str, status: int) -> None:
    async with FunctionsHost(echo_app(), environment={"AzureWebJobsDisableHomepage": disabled}) as host:
        answer = await call(host.url, "/", method)
    assert (answer.status, bool(answer.body)) == (status, status == 200 and method != "HEAD")


async def test_bytes_stream_both_ways_while_the_client_waits_for_each() -> None:
    async def handler(req: Request) -> Response:
        return Stream(parts_of(req))

    async def body() -> AsyncIterator[bytes]:
        while chunk := await to_send.get():
            yield chunk

    to_send: asyncio.Queue[bytes] = asyncio.Queue()
    to_send.put_nowait(b"one")
    async with (
        host_of(handler, "POST") as host,
        aiohttp.ClientSession() as client,
        client.post(host.url + "/x", data=body()) as response,
    ):
        assert await response.content.readexactly(3) == b"one"
        to_send.put_nowait(b"two")
        assert await response.content.readexactly(3) == b"two"
        to_send.put_nowait(b"")
        assert await response.content.read() == b""


@pytest.mark.parametrize("fails", [True, False])
async def test_a_cut_response_ends_in_a_reset_after_its_parts(fails: bool) -> None:
    class Cut(Response):
        async def send_to(self, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            if fails:
                raise RuntimeError

    async def handler(req: Request) -> Response:
        return Cut(200, {}, b"")

    async with host_of(handler) as host:
        reader, writer = await asyncio.open_connection(*urlsplit(host.url).netloc.split(":"))
        writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"first\r\n")).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_client_that_leaves_is_reported_to_the_function() -> None:
    left = asyncio.Event()

    async def handler(req: Request) -> Response:
        while (await req.receive())["type"] != "http.disconnect":
            pass
        left.set()
        return Response(204, {}, b"")

    async with host_of(handler) as host, aiohttp.ClientSession() as client:
        with pytest.raises(TimeoutError):
            await client.get(host.url + "/x", timeout=aiohttp.ClientTimeout(0.1))
        await asyncio.wait_for(left.wait(), 10)


async def test_hosts_in_one_process_serve_their_own_apps() -> None:
    app = echo_app(("one", "x"))
    for _ in range(2):
        async with (
            FunctionsHost(app, route_prefix="") as one,
            FunctionsHost(echo_app(("two", "x")), route_prefix="") as two,
        ):
            answers = [json.loads((await call(host.url, "/x")).body) for host in (one, two)]
        assert [answer["function"] for answer in answers] == ["one", "two"]


async def test_a_timer_runs_by_its_name_and_raises_its_failure() -> None:
    app, seen = new_app(), list[func.TimerRequest]()

    @app.timer_trigger("timer", "0 0 0 1 1 *")
    async def tick(timer: func.TimerRequest) -> None:
        seen.append(timer)
        raise RuntimeError("the cause")

    async with FunctionsHost(app) as host:
        with pytest.raises(RuntimeError, match="the cause"):
            await host.run_timer("tick")
    assert [timer.past_due for timer in seen] == [False]


async def test_a_host_stops_at_once_with_a_stream_and_a_call_open() -> None:
    ended, waiting = asyncio.Event(), asyncio.Event()

    async def handler(req: Request) -> Response:
        if req.method == "GET":
            return Stream(parts())
        waiting.set()
        return Response(200, {}, b"".join([part async for part in parts()]))

    async def parts() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with host_of(handler, "GET", "POST") as host, aiohttp.ClientSession() as client:
        posting = asyncio.create_task(client.post(host.url + "/x"))
        async with client.get(host.url + "/x") as response:
            await response.content.readany()
            await waiting.wait()
            await asyncio.wait_for(host.stop(), 5)
            with pytest.raises(aiohttp.ClientError):
                await response.content.read()
        with pytest.raises(aiohttp.ClientError):
            await posting
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(host.url + "/x")
    assert ended.is_set()
    assert host.worker.invocations == {}


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
        '{"Values": {"A_SETTING": "of the file", "OTHER": "of the file"}}'
    )
    with added_to_environment({"A_SETTING": "of the process"}):
        async with FunctionsHost(app_directory, environment={"OTHER": "given"}) as host:
            answers = [await call(host.url, f"/p/setting/{name}") for name in ("A_SETTING", "OTHER")]
            assert [answer.body for answer in answers] == [b"of the process", b"given"]
        assert "OTHER" not in os.environ


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("host.json", "{", "host.json is not a JSON object"),
        ("local.settings.json", "1", "local.settings.json is not a JSON object"),
        ("function_app.py", "", "needs one function app at its top level. It has 0"),
    ],
)
async def test_a_file_at_fault_is_named(app_directory: Path, name: str, text: str, fault: str) -> None:
    (app_directory / name).write_text(text)
    with pytest.raises(AppFault, match=fault):
        await FunctionsHost(app_directory).__aenter__()


async def test_a_port_in_use_is_named_in_a_sentence() -> None:
    async with FunctionsHost(echo_app(("f", "x"))) as host:
        port = urlsplit(host.url).port or 0
        with pytest.raises(PortInUse, match=rf"Cannot use port {port} of 127.0.0.1: Address already in use"):
            await FunctionsHost(echo_app(("f", "x")), port=port).__aenter__()


@contextlib.asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.functions_host", *arguments),
        cwd=ROOT,
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


async def test_the_command_reports_a_port_in_use_and_a_missing_app_in_one_line_with_status_2(
    app_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    async with FunctionsHost(echo_app(("f", "x"))) as host:
        port = str(urlsplit(host.url).port)
        for app, message in ((app_directory, f"Cannot use port {port} of 127.0.0.1"), (empty, "There is no")):
            async with command("--app", str(app), "--port", port) as process:
                _, errors = await process.communicate()
            assert (process.returncode, errors.count(b"\n")) == (2, 1)
            assert errors.decode().startswith(message)
