"""One app on the local host, and in the cloud's worker library in its four situations: they behave alike.

The classic worker of Python 3.11 and 3.12, `azure-functions-worker` 4.34, is on no package index, so it does not
run here. The library of Python 3.13 runs in its place, with the packages and names that the classic worker has.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from shared.core.errors import InternalError
from tests.responses import WireResponse
from tests.tools.sample_apps import SAMPLE, call
from tools.functions_host import FunctionsHost
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime, Placeholder, classic_packages
from tools.processes import ROOT

Host = FunctionsHost | OfficialRuntime
FLAG = {"PYTHON_ENABLE_INIT_INDEXING": "1"}
STARTS = {
    "cold": None,
    "specialized": Placeholder({"OF_THE_PLACEHOLDER": "1"}),
    "classic": Placeholder({"OF_THE_PLACEHOLDER": "1"}, like_classic=True),
    "classic with a stale flag": Placeholder(FLAG, like_classic=True),
}
needs_runtime = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
OFFICIAL = [*STARTS] if AVAILABLE else [pytest.param("cold", marks=needs_runtime)]
in_the_cloud_only = pytest.mark.parametrize("host", OFFICIAL, indirect=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    files = {"ENDED": str(folder / "ended"), "TICKED": str(folder / "ticked")}
    return {"A_SETTING": "given", "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "10", **FLAG, **files}


@pytest.fixture(scope="module")
async def local(environment: dict[str, str]) -> AsyncIterator[FunctionsHost]:
    async with FunctionsHost(SAMPLE, environment=environment) as host:
        yield host


@pytest.fixture(scope="module", params=["local", *OFFICIAL])
async def host(request: Any, local: FunctionsHost, environment: dict[str, str]) -> AsyncIterator[Host]:
    if request.param == "local":
        yield local
        return
    async with OfficialRuntime(SAMPLE, environment=environment, placeholder=STARTS[request.param]) as runtime:
        yield runtime


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/p/plain/a%2Fb%20c/d/e?q=1&q=2&empty=&plus=a+b", 201),
        ("GET", "/p/plain/../plain/%C3%A9%FF/./%0a%252f", 201),
        ("POST", "/P/Plain/x", 201),
        ("DELETE", "/p/plain/x/", 201),
        ("POST", "/p/echo", 202),
        ("GET", "/p/result/empty", 204),
        ("GET", "/p/result/none", 500),
        ("GET", "/p/plain/x?" + "q" * 8000, 201),
        ("GET", "/p/plain/x?" + "q" * 8192, 414),
        ("PUT", "/p/echo", 404),
        ("GET", "/p/unknown", 404),
        ("GET", "/plain/x", 404),
        ("GET", "/p/plain//x", 404),
        ("GET", "/p/plain/%00", 400),
        ("POST", "/", 200),
        ("HEAD", "/", 200),
    ],
)
async def test_responses_are_those_of_the_local_host(
    host: Host, local: FunctionsHost, method: str, target: str, status: int
) -> None:
    body = b"a body" if method == "POST" and target != "/" else None
    one, other = [await call(each.url, target, method, data=body) for each in (host, local)]
    assert one.status == status
    assert comparable(one) == comparable(other)


def comparable(received: WireResponse) -> tuple[dict[str, str], bytes]:
    names = received.headers.keys() - {"date", "server"}
    return {name: received.headers[name] for name in names}, received.body


async def test_function_gets_resolved_path_parameters_raw_query_body_and_settings(host: Host) -> None:
    received = await call(host.url, "/p/a/../plain/b%2Fc%20d/%2e?q=%20", "POST", data=b"body")
    assert received.headers["x-own"] == "1"
    assert json.loads(received.body) == {
        "method": "POST",
        "path": "/p/plain/b%2Fc d/",
        "raw": "/p/plain/b%252Fc%20d/",
        "params": {"one": "b%2Fc d"},
        "query": "q=%20",
        "body": "body",
        "setting": "given",
    }


async def test_function_sees_the_headers_that_the_host_sets(host: Host) -> None:
    sent = [("Host", "example.com"), ("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https")]
    sent += [("X-Forwarded-Host", "evil"), ("Api-Key", "one"), ("Api-Key", "two"), ("User-Agent", "test")]
    seen = dict(json.loads((await call(host.url, "/p/headers", headers=sent)).body))
    assert len(seen.pop("x-ms-invocation-id")) == 36
    assert seen.pop("accept") and seen.pop("accept-encoding")
    assert seen == {
        "host": urlsplit(host.worker_url if isinstance(host, OfficialRuntime) else host.url).netloc,
        "x-forwarded-host": "example.com",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "api-key": "one, two",
        "user-agent": "test",
    }


@pytest.mark.parametrize("kind", ["error", "none", "text"])
async def test_any_other_result_than_a_response_is_an_internal_error(host: Host, kind: str) -> None:
    received = await call(host.url, f"/p/result/{kind}")
    assert (received.status, received.body) == (500, InternalError().body())


async def test_failed_function_is_logged(local: FunctionsHost, caplog: pytest.LogCaptureFixture) -> None:
    await call(local.url, "/p/result/error")
    assert "RuntimeError: secret" in caplog.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [({f"x-{n}": "1" for n in range(110)}, 431), ({"x-a": "1" * 33_000}, 431), ({"x-a": "1" * 32_000}, 201)],
    ids=["too many", "too long", "long"],
)
async def test_headers_above_the_limit_are_refused(host: Host, headers: dict[str, str], status: int) -> None:
    assert (await call(host.url, "/p/plain/x", headers=headers)).status == status


async def test_body_above_the_limit_is_an_empty_500(host: Host) -> None:
    received = [await call(host.url, "/p/echo", "POST", data=b"1" * length) for length in (10, 11)]
    assert [(one.status, one.body) for one in received] == [(202, b"1" * 10), (500, b"")]


async def test_bytes_stream_both_ways_while_the_client_waits_for_each(host: Host) -> None:
    to_send: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while chunk := await to_send.get():
            yield chunk

    to_send.put_nowait(b"one")
    async with aiohttp.ClientSession() as client, client.post(host.url + "/p/echo", data=body()) as response:
        assert await response.content.readexactly(3) == b"one"
        to_send.put_nowait(b"two")
        assert await response.content.readexactly(3) == b"two"
        to_send.put_nowait(b"")
        assert await response.content.read() == b""


@pytest.mark.parametrize("how", ["fail", "end"])
async def test_cut_response_ends_in_a_reset_after_its_parts(host: Host, how: str) -> None:
    reader, writer = await asyncio.open_connection(*urlsplit(host.url).netloc.split(":"))
    writer.write(f"GET /p/cut/{how} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert (await reader.readuntil(b"first\r\n")).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@pytest.mark.parametrize("path", ["/p/endless", "/p/silent"])
async def test_function_notices_a_disconnect(host: Host, environment: dict[str, str], path: str) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as client:
        with pytest.raises(TimeoutError):
            async with client.get(host.url + path) as response:
                assert await response.content.readexactly(5) == b"chunk"
                await response.read()
    while not taken(environment["ENDED"]):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


async def test_timer_runs_by_its_name(host: Host, environment: dict[str, str]) -> None:
    await host.run_timer("tick")
    assert taken(environment["TICKED"])


def taken(path: str) -> bool:
    exists = Path(path).exists()
    Path(path).unlink(missing_ok=True)
    return exists


@in_the_cloud_only
async def test_worker_reports_failures_and_keeps_no_record_of_a_finished_call(host: OfficialRuntime) -> None:
    before = await host.worker_state()
    await call(host.url, "/p/result/text")
    await call(host.url, "/p/result/error")
    after = await host.worker_state()
    assert after.failures == [*before.failures, "RuntimeError: secret"]
    assert (after.invocations_in_flight, after.context_references) == (0, 0)
    assert after.rss_kb >= 0


@in_the_cloud_only
async def test_worker_imports_the_app_as_in_the_cloud(host: OfficialRuntime, request: Any) -> None:
    """A placeholder imports it from an empty folder with its settings only, a classic one with its own packages."""
    found = json.loads((await call(host.url, "/p/worker")).body)
    start = request.node.callspec.params["host"]
    assert (found["folder"], found["placeholder"]) == (str(SAMPLE), None)
    assert (Path(found["cwd"]) in {SAMPLE, ROOT, Path.cwd()}) == (start == "cold")
    if start.startswith("classic"):
        packages = await classic_packages()
        assert found["versions"] == ["1.22.0b4", "1.0.0b2"]
        assert all(Path(folder).is_relative_to(packages) for folder in found["folders"])
        assert found["http"] == ["azure_functions_worker.http_v2"]
