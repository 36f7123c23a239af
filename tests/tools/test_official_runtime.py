"""The same small app behind the cloud's own worker library and behind the local host: they answer alike."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.tools.sample_apps import Answer, call
from tools.functions_host import AppFault, FunctionsHost
from tools.official_runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)

SAMPLE = """
import asyncio
import os
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions.http.fastapi import Request, Response, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("plain/{one}/{*rest}", methods=["GET", "POST", "DELETE"])
async def plain(req: Request) -> JSONResponse:
    said = [req.method, req.path_params, dict(req.query_params), (await req.body()).decode()]
    return JSONResponse(said, status_code=201, headers={"x-setting": os.environ.get("A_SETTING", "")})

@app.route("result/{kind}", methods=["GET"])
async def result(req: Request):
    if (kind := req.path_params["kind"]) == "error":
        raise RuntimeError("secret")
    if kind == "teapot":
        raise HTTPException(418, "short and stout")
    return {"none": None, "text": "text", "empty": Response(status_code=204)}.get(kind, {"kind": kind})

@app.route("sync", methods=["GET"])
def sync(req: Request) -> Response:
    return Response(b"in a thread", headers={"set-cookie": "a=b"})

class Echo(Response):
    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 202, "headers": [(b"x-own", b"1")]})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            body = message.get("body", b"")
            await send({"type": "http.response.body", "body": body, "more_body": more})

@app.route("echo", methods=["POST"])
async def echo(req: Request) -> Response:
    return Echo()

@app.route("cut", methods=["GET"])
async def cut(req: Request) -> StreamingResponse:
    async def chunks():
        yield b"first"
        raise RuntimeError
    return StreamingResponse(chunks())

@app.route("endless", methods=["GET"])
async def endless(req: Request) -> StreamingResponse:
    async def chunks():
        try:
            while True:
                yield b"chunk"
                await asyncio.sleep(0.02)
        finally:
            Path(os.environ["ENDED"]).touch()
    return StreamingResponse(chunks())

@app.route("silent", methods=["GET"])
async def silent(req: Request) -> Response:
    while not await req.is_disconnected():
        await asyncio.sleep(0.02)
    Path(os.environ["ENDED"]).touch()
    return Response()

@app.timer_trigger("timer", "0 0 0 1 1 *")
async def tick(timer: func.TimerRequest) -> None:
    if not timer.past_due:
        Path(os.environ["TICKED"]).touch()
"""


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("app")
    (directory / "function_app.py").write_text(SAMPLE)
    (directory / "host.json").write_text('{"extensions": {"http": {"routePrefix": "p"}}}')
    return directory


@pytest.fixture(scope="module")
def environment(app_directory: Path) -> dict[str, str]:
    files = {"ENDED": str(app_directory / "ended"), "TICKED": str(app_directory / "ticked")}
    return {"A_SETTING": "given", **files}


@pytest.fixture(scope="module")
async def runtime(app_directory: Path, environment: dict[str, str]) -> AsyncIterator[OfficialRuntime]:
    async with OfficialRuntime(app_directory, environment=environment) as runtime:
        yield runtime


@pytest.fixture(scope="module")
async def host(app_directory: Path, environment: dict[str, str]) -> AsyncIterator[FunctionsHost]:
    async with FunctionsHost(app_directory, environment=environment) as host:
        yield host


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "date"}
    return answer.status, headers, answer.body


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/p/plain/a%2Fb%20c/d/e?q=1&q=2&empty=&plus=a+b", b""),
        ("POST", "/P/Plain/x", b"a body"),
        ("DELETE", "/p/plain/x/", b""),
        ("GET", "/p/result/error", b""),
        ("GET", "/p/result/teapot", b""),
        ("GET", "/p/result/none", b""),
        ("GET", "/p/result/text", b""),
        ("GET", "/p/result/dict", b""),
        ("GET", "/p/result/empty", b""),
        ("GET", "/p/sync", b""),
        ("POST", "/p/echo", b"streamed"),
        ("PUT", "/p/echo", b""),
        ("GET", "/p/unknown", b""),
        ("GET", "/plain/x", b""),
    ],
)
async def test_the_local_host_answers_as_the_official_runtime_does(
    runtime: OfficialRuntime, host: FunctionsHost, method: str, target: str, body: bytes
) -> None:
    official, local = [await call(one.url, target, method, data=body or None) for one in (runtime, host)]
    if official.status == 404:  # from the stand-in, which adds no headers
        assert (official.status, official.body) == (local.status, local.body)
    else:
        assert comparable(official) == comparable(local)


async def test_the_environment_reaches_the_app(runtime: OfficialRuntime) -> None:
    answer = await call(runtime.url, "/p/plain/x", "POST", data=b"body")
    assert answer.headers["x-setting"] == "given"
    assert json.loads(answer.body) == ["POST", {"one": "x"}, {}, "body"]


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


async def test_a_client_that_leaves_before_the_answer_is_seen_to_have_left(
    runtime: OfficialRuntime, environment: dict[str, str]
) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as client:
        with pytest.raises(TimeoutError):
            await client.get(runtime.url + "/p/silent")
    await appears(Path(environment["ENDED"]))


async def test_a_failure_after_the_first_byte_cuts_the_connection(runtime: OfficialRuntime) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await call(runtime.url, "/p/cut")


async def test_the_state_of_the_worker_can_be_seen(runtime: OfficialRuntime) -> None:
    before = await runtime.worker_state()
    await call(runtime.url, "/p/result/dict")
    await call(runtime.url, "/p/result/error")
    after = await runtime.worker_state()
    assert after.invocations_in_flight == 0
    assert after.failures == [*before.failures, "RuntimeError: secret"]
    assert after.context_references == before.context_references + 2
    assert after.rss_kb >= 0


async def test_a_timer_runs_when_it_is_told_to(runtime: OfficialRuntime, environment: dict[str, str]) -> None:
    await runtime.run_timer("tick")
    assert taken(Path(environment["TICKED"]))


async def test_the_log_of_the_worker_can_be_read(runtime: OfficialRuntime) -> None:
    await call(runtime.url, "/p/sync?code=seen")
    assert "GET /p/sync?code=seen" in runtime.worker_log()


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
    head = SAMPLE[: SAMPLE.index("@app.route")]
    (tmp_path / "function_app.py").write_text(f'{head}\n@app.route("x", methods=["GET"])\n{declaration}\n')
    with pytest.raises(IndexingFailed, match=message):
        await OfficialRuntime(tmp_path).__aenter__()
    with pytest.raises(AppFault):
        await FunctionsHost(tmp_path).__aenter__()


async def test_a_worker_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import os\nprint('last words', flush=True)\nos._exit(3)\n")
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 3.*last words"):
        await OfficialRuntime(tmp_path).__aenter__()
