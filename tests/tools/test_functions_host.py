"""How the local host starts, reads its files, serves several apps, and ends. How it serves: see test_hosts.py."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import azure.functions as func
import pytest

from shared.functions.http import Receive, Request, Response, Send
from tests.tools.sample_apps import SAMPLE, app_of, call, echo_app, host_of
from tools.functions_host import AppFault, FunctionsHost
from tools.functions_host.app import added_to_environment
from tools.processes import ROOT, Child


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
@pytest.mark.parametrize(("disabled", "status"), [("true", 204), ("", 200)])
async def test_root_without_a_function_is_the_home_page(method: str, disabled: str, status: int) -> None:
    async with FunctionsHost(echo_app(), environment={"AzureWebJobsDisableHomepage": disabled}) as host:
        received = await call(host.url, "/", method)
    assert (received.status, bool(received.body)) == (status, status == 200 and method != "HEAD")


async def test_hosts_in_one_process_serve_their_own_apps() -> None:
    app = echo_app(("one", "x"))
    for _ in range(2):
        async with (
            FunctionsHost(app, route_prefix="") as one,
            FunctionsHost(echo_app(("two", "x")), route_prefix="") as two,
        ):
            received = [json.loads((await call(host.url, "/x")).body) for host in (one, two)]
        assert [each["function"] for each in received] == ["one", "two"]


async def test_timer_raises_its_failure() -> None:
    async def tick(timer: func.TimerRequest) -> None:
        raise RuntimeError("the cause")

    async with FunctionsHost(app_of(tick, "timer_trigger", arg_name="timer", schedule="0 0 0 1 1 *")) as host:
        with pytest.raises(RuntimeError, match="the cause"):
            await host.run_timer("tick")


class Waiting(Response):
    """Sends its first part, and then nothing until it is cancelled."""

    ended = False

    async def send_to(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        try:
            await asyncio.Event().wait()
        finally:
            type(self).ended = True


async def test_host_stops_at_once_with_a_stream_and_a_call_open() -> None:
    waiting = asyncio.Event()

    async def handler(req: Request) -> Response:
        if req.method == "POST":
            waiting.set()
            await asyncio.Event().wait()
        return Waiting(200, {}, b"")

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
    assert Waiting.ended
    assert host.worker.invocations == {}


@pytest.fixture
def app_directory(tmp_path: Path) -> Iterator[Path]:
    """With a copy of the sample app."""
    before, path_before = set(sys.modules), [*sys.path]
    code = (SAMPLE / "function_app.py").read_text().replace("Path(__file__).parents[3]", repr(str(ROOT)))
    (tmp_path / "function_app.py").write_text(code)
    yield tmp_path
    sys.path[:] = path_before
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("variables", "given", "expected"),
    [
        ({"A_SETTING": "of the process"}, {"A_SETTING": "given"}, "of the process"),
        ({}, {"A_SETTING": "given"}, "given"),
        ({}, {}, "of the file"),
    ],
)
async def test_process_settings_win_over_given_ones_and_these_over_the_file(
    app_directory: Path, variables: dict[str, str], given: dict[str, str], expected: str
) -> None:
    (app_directory / "host.json").write_text('{"extensions": {"http": {"routePrefix": "p"}}}')
    (app_directory / "local.settings.json").write_text('{"Values": {"A_SETTING": "of the file"}}')
    with added_to_environment(variables):
        async with FunctionsHost(app_directory, environment=given) as host:
            received = await call(host.url, "/p/plain/x")
        assert os.environ.get("A_SETTING") == variables.get("A_SETTING")
    assert json.loads(received.body)["setting"] == expected


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("host.json", "{", "host.json is not a JSON object"),
        ("local.settings.json", "1", "local.settings.json is not a JSON object"),
        ("function_app.py", "", "needs one function app at its top level. It has 0"),
    ],
)
async def test_file_at_fault_is_named(app_directory: Path, name: str, text: str, fault: str) -> None:
    (app_directory / name).write_text(text)
    with pytest.raises(AppFault, match=fault):
        await FunctionsHost(app_directory).__aenter__()


def program(app: Path, port: int) -> Child:
    command = [sys.executable, "-m", "tools.functions_host", "--app", str(app), "--port", str(port)]
    return Child("app", command, env=os.environ | {"ENDED": os.devnull})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_command_serves_and_ends_on_a_signal_with_a_stream_open(number: signal.Signals) -> None:
    with program(SAMPLE, 0) as child:
        endless = child.expect("Functions host on http://127.0.0.1:", 30).split()[-1] + "/p/endless"
        async with aiohttp.ClientSession() as client, client.get(endless) as response:
            assert await response.content.readexactly(5) == b"chunk"
            os.kill(child.pid, number)
            child.finish(30)


async def test_port_in_use_and_missing_app_end_the_command_with_one_line(tmp_path: Path) -> None:
    async with FunctionsHost(echo_app(("f", "x"))) as host:
        port = urlsplit(host.url).port or 0
        for app, message in (
            (SAMPLE, f"Cannot use port {port} of 127.0.0.1: Address already in use"),
            (tmp_path, "There is no"),
        ):
            with program(app, port) as child:
                assert child.wait(30)
            assert (child.status, child.last_lines().count("\n")) == (2, 0)
            assert child.last_lines().startswith(message)
