"""The same small app in the cloud's own worker library and on the local host: both respond alike."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.tools.sample_apps import Answer, call
from tools.functions_host import AppFault, FunctionsHost
from tools.official_runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime
from tools.processes import ROOT

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)

SAMPLE = Path(__file__).with_name("sample")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("files")
    files = {"ENDED": str(directory / "ended"), "TICKED": str(directory / "ticked")}
    return {"A_SETTING": "given", **files}


@pytest.fixture(scope="module")
async def runtime(environment: dict[str, str]) -> AsyncIterator[OfficialRuntime]:
    async with OfficialRuntime(SAMPLE, environment=environment) as runtime:
        yield runtime


@pytest.fixture(scope="module")
async def host(environment: dict[str, str]) -> AsyncIterator[FunctionsHost]:
    async with FunctionsHost(SAMPLE, environment=environment) as host:
        yield host


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return answer.status, {name: headers[name] for name in headers.keys() - {"date", "server"}}, answer.body


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/p/plain/a%2Fb%20c/d/e?q=1&q=2&empty=&plus=a+b", b""),
        ("GET", "/p/headers", b""),
        ("GET", "/p/plain/../plain/%C3%A9%FF/./%0a%252f", b""),
        ("POST", "/P/Plain/x", b"a body"),
        ("DELETE", "/p/plain/x/", b""),
        ("GET", "/p/result/error", b""),
        ("GET", "/p/result/none", b""),
        ("GET", "/p/result/text", b""),
        ("GET", "/p/result/empty", b""),
        ("POST", "/p/echo", b"streamed"),
        ("PUT", "/p/echo", b""),
        ("GET", "/p/unknown", b""),
        ("GET", "/plain/x", b""),
        ("GET", "/p/plain//x", b""),
        ("GET", "/p/plain/%00", b""),
        ("GET", "/p/plain/x?" + "q" * 9000, b""),
        ("POST", "/", b""),
    ],
)
async def test_the_local_host_responds_as_the_official_runtime_does(
    runtime: OfficialRuntime, host: FunctionsHost, method: str, target: str, body: bytes
) -> None:
    headers = {"Api-Key": "a/b", "X-Forwarded-For": "1.2.3.4"}
    official, local = [
        await call(one.url, target, method, data=body or None, headers=headers) for one in (runtime, host)
    ]
    assert comparable(official) == comparable(local)


async def test_the_environment_reaches_the_app(runtime: OfficialRuntime) -> None:
    answer = await call(runtime.url, "/p/plain/x", "POST", data=b"body")
    found = json.loads(answer.body)
    assert (found["setting"], found["params"], found["body"]) == ("given", {"one": "x"}, "body")


async def test_bytes_stream_both_ways_while_the_client_waits_for_each(runtime: OfficialRuntime) -> None:
    to_send: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while chunk := await to_send.get():
            yield chunk

    to_send.put_nowait(b"one")
    async with aiohttp.ClientSession() as client, client.post(runtime.url + "/p/echo", data=body()) as answer:
        assert await answer.content.readexactly(3) == b"one"
        to_send.put_nowait(b"two")
        assert await answer.content.readexactly(3) == b"two"
        to_send.put_nowait(b"")
        assert await answer.content.read() == b""


def taken(path: Path) -> bool:
    exists = path.exists()
    path.unlink(missing_ok=True)
    return exists


async def appears(path: Path) -> None:
    while not taken(path):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)


async def test_a_client_that_leaves_a_stream_ends_it(
    runtime: OfficialRuntime, environment: dict[str, str]
) -> None:
    async with aiohttp.ClientSession() as client, client.get(runtime.url + "/p/endless") as answer:
        assert await answer.content.readexactly(5) == b"chunk"
        answer.close()
    await appears(Path(environment["ENDED"]))


async def test_a_client_that_leaves_before_the_response_is_reported_to_the_function(
    runtime: OfficialRuntime, environment: dict[str, str]
) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as client:
        with pytest.raises(TimeoutError):
            await client.get(runtime.url + "/p/silent")
    await appears(Path(environment["ENDED"]))


async def test_a_failure_after_the_first_byte_resets_the_connection(runtime: OfficialRuntime) -> None:
    async with aiohttp.ClientSession() as client, client.get(runtime.url + "/p/cut") as answer:
        assert await answer.content.readexactly(5) == b"first"
        with pytest.raises(aiohttp.ClientError, match="reset by peer"):
            await answer.content.read()


async def test_the_state_of_the_worker_can_be_seen(runtime: OfficialRuntime) -> None:
    before = await runtime.worker_state()
    await call(runtime.url, "/p/result/text")
    await call(runtime.url, "/p/result/error")
    after = await runtime.worker_state()
    assert after.invocations_in_flight == 0
    assert after.failures == [*before.failures, "RuntimeError: secret"]
    assert after.context_references == 0
    assert after.rss_kb >= 0


async def test_a_timer_runs_by_its_name(runtime: OfficialRuntime, environment: dict[str, str]) -> None:
    await runtime.run_timer("tick")
    assert taken(Path(environment["TICKED"]))


async def test_the_log_of_the_worker_can_be_read(runtime: OfficialRuntime) -> None:
    await call(runtime.url, "/p/plain/x?code=seen")
    assert "plain code=seen" in runtime.worker_log()


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("async def f(req: func.HttpRequest) -> Response: ...", "Python type annotation HttpRequest"),
        ("async def f(req: Request) -> None: ...", "return annotation"),
        ("async def f(req: 'Request | None') -> Response: ...", "cannot load the f function"),
        ("async def f(request: Request) -> Response: ...", "cannot load the f function"),
    ],
)
async def test_an_app_that_does_not_start_in_the_cloud_does_not_start_here(
    tmp_path: Path, declaration: str, message: str
) -> None:
    head = (SAMPLE / "function_app.py").read_text().partition("async def")[0]
    head = head.replace("Path(__file__).parents[3]", repr(str(ROOT)))
    (tmp_path / "function_app.py").write_text(f'{head}\n@app.route("x", methods=["GET"])\n{declaration}\n')
    with pytest.raises(IndexingFailed, match=message):
        await OfficialRuntime(tmp_path).__aenter__()
    with pytest.raises(AppFault):
        await FunctionsHost(tmp_path).__aenter__()


async def test_a_worker_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import os\nprint('last words', flush=True)\nos._exit(3)\n")
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 3.*last words"):
        await OfficialRuntime(tmp_path).__aenter__()
