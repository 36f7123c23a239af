"""The app's own HTTP extension in a cold worker, in a specialized one, and in an imitation of the classic worker.

The classic worker of Python 3.11 and 3.12, `azure-functions-worker` 4.34, is on no package index, so it does not
run here. The library of Python 3.13 runs in its place, with the packages and names that the classic worker has.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.tools.sample_apps import call
from tools.official_runtime import AVAILABLE, WHY_NOT, IndexingFailed, OfficialRuntime, Placeholder
from tools.official_runtime import classic_packages
from tools.processes import ROOT

needs_runtime = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
pytestmark = pytest.mark.timeout(300)  # the first test makes a virtual environment

CLASSIC_VERSIONS = ("1.22.0b4", "1.0.0b2")
FLAG = {"PYTHON_ENABLE_INIT_INDEXING": "1"}
STARTS = {
    "cold": None,
    "specialized": Placeholder(),
    "classic": Placeholder(like_classic=True),
    "classic with a stale flag": Placeholder(FLAG, like_classic=True),
}

SAMPLE = """
import asyncio
import json
import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

import azure.functions as func
from azurefunctions.extensions import base
from shared.functions.extension import Request, Response

CWD = os.getcwd()
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("facts/{one}", methods=["GET"])
async def facts(req: Request) -> Response:
    found = {
        "params": dict(req.path_params),
        "setting": os.environ.get("A_SETTING"),
        "placeholder": os.environ.get("OF_THE_PLACEHOLDER"),
        "cwd": CWD,
        "last": sys.path[-1],
        "workers": sorted(name for name in sys.modules if name.endswith(".http_v2")),
        "versions": [version("azure-functions"), version("azurefunctions-extensions-base")],
        "folders": [str(Path(module.__file__).parent) for module in (func, base)],
    }
    return Response(200, {}, json.dumps(found).encode())

class Chunks(Response):
    async def send_to(self, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while body := (message := await receive()).get("body"):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

@app.route("echo", methods=["POST"])
async def echo(req: Request) -> Response:
    return Chunks(200, {}, b"")

@app.route("log/{lines}", methods=["GET"])
async def log(req: Request) -> Response:
    for _ in range(int(req.path_params["lines"])):
        logging.getLogger("sample").info("a line")
    return Response(204, {}, b"")

@app.timer_trigger("timer", "0 0 0 1 1 *")
async def tick(timer: func.TimerRequest) -> None:
    Path(os.environ["TICKED"]).touch()
"""


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_app(tmp_path_factory.mktemp("app"), SAMPLE)


@pytest.fixture(scope="module", params=STARTS)
async def runtime(app_directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[OfficialRuntime]:
    placeholder = STARTS[request.param]
    settings = FLAG | {"A_SETTING": "given", "TICKED": str(app_directory / f"{request.param} ticked")}
    async with OfficialRuntime(app_directory, environment=settings, placeholder=placeholder) as runtime:
        yield runtime


@needs_runtime
async def test_trigger_returns_a_response_and_gets_settings_and_path_parameters(
    runtime: OfficialRuntime,
) -> None:
    found = json.loads((await call(runtime.url, "/api/facts/x%20y")).body)
    assert found["params"] == {"one": "x y"}
    assert found["setting"] == "given"


@needs_runtime
async def test_chunks_pass_one_by_one(runtime: OfficialRuntime) -> None:
    to_send: asyncio.Queue[bytes] = asyncio.Queue()

    async def body() -> AsyncIterator[bytes]:
        while chunk := await to_send.get():
            yield chunk

    to_send.put_nowait(b"one")
    url = runtime.url + "/api/echo"
    async with aiohttp.ClientSession() as client, client.post(url, data=body()) as response:
        assert await response.content.readexactly(3) == b"one"
        to_send.put_nowait(b"two")
        assert await response.content.readexactly(3) == b"two"
        to_send.put_nowait(b"")
        assert await response.content.read() == b""


@needs_runtime
async def test_timer_runs(
    runtime: OfficialRuntime, app_directory: Path, request: pytest.FixtureRequest
) -> None:
    start = request.node.callspec.params["runtime"]
    assert not has_ticked(app_directory, start)
    await runtime.run_timer("tick")
    assert has_ticked(app_directory, start)


@needs_runtime
async def test_worker_keeps_no_record_of_a_finished_call(runtime: OfficialRuntime) -> None:
    await call(runtime.url, "/api/facts/x")
    state = await runtime.worker_state()
    assert (state.invocations_in_flight, state.context_references, state.failures) == (0, 0, [])


@needs_runtime
async def test_log_messages_to_the_host_are_counted(runtime: OfficialRuntime) -> None:
    assert await messages_of(runtime, "/api/log/7") - await messages_of(runtime, "/api/log/0") == 7


async def messages_of(runtime: OfficialRuntime, target: str) -> int:
    before = (await runtime.worker_state()).log_messages
    await call(runtime.url, target)
    return (await runtime.worker_state()).log_messages - before


@needs_runtime
@pytest.mark.parametrize("classic", [False, True])
async def test_specialized_worker_imports_the_app_from_an_empty_directory_with_only_its_settings(
    app_directory: Path, classic: bool
) -> None:
    placeholder = Placeholder({"OF_THE_PLACEHOLDER": "1"}, like_classic=classic)
    async with OfficialRuntime(app_directory, environment={}, placeholder=placeholder) as runtime:
        found = json.loads((await call(runtime.url, "/api/facts/x")).body)
    assert found["placeholder"] is None
    assert Path(found["cwd"]) not in {app_directory, ROOT, Path.cwd()}
    assert found["last"] == str(app_directory)


@needs_runtime
@pytest.mark.parametrize("placeholder", [STARTS["classic"], STARTS["classic with a stale flag"]])
async def test_classic_placeholder_uses_its_own_packages_and_name(
    app_directory: Path, placeholder: Placeholder
) -> None:
    async with OfficialRuntime(app_directory, environment=FLAG, placeholder=placeholder) as runtime:
        found = json.loads((await call(runtime.url, "/api/facts/x")).body)
    assert tuple(found["versions"]) == CLASSIC_VERSIONS
    packages = await classic_packages()
    assert all(Path(folder).is_relative_to(packages) for folder in found["folders"])
    assert found["workers"] == ["azure_functions_worker.http_v2"]


@needs_runtime
async def test_stale_flag_fails_an_app_that_does_not_clear_it(tmp_path: Path) -> None:
    registry = "sys.modules['azure_functions_worker.http_v2'].HttpV2Registry"
    app = make_app(tmp_path, f"{SAMPLE}\n{registry}._http_v2_enabled_checked = True\n")
    with pytest.raises(IndexingFailed, match="cannot load the facts function"):
        await OfficialRuntime(app, placeholder=STARTS["classic with a stale flag"]).__aenter__()


@needs_runtime
@pytest.mark.parametrize("placeholder", STARTS.values(), ids=STARTS)
async def test_failed_import_is_reported_with_the_message_of_the_worker(
    tmp_path: Path, placeholder: Placeholder | None
) -> None:
    app = make_app(tmp_path, "raise RuntimeError('no such luck')")
    with pytest.raises(IndexingFailed, match="no such luck"):
        await OfficialRuntime(app, placeholder=placeholder).__aenter__()


@needs_runtime
async def test_name_that_the_classic_worker_lacks_fails_the_app(tmp_path: Path) -> None:
    app = make_app(tmp_path, "from azurefunctions.extensions.base import RuntimeBase\n" + SAMPLE)
    with pytest.raises(IndexingFailed, match="RuntimeBase"):
        await OfficialRuntime(app, placeholder=STARTS["classic"]).__aenter__()


@needs_runtime
@pytest.mark.parametrize("placeholder", STARTS.values(), ids=STARTS)
async def test_proxy_serves_its_liveness_route(placeholder: Placeholder | None) -> None:
    async with OfficialRuntime(ROOT, environment=FLAG, placeholder=placeholder) as runtime:
        assert (await call(runtime.url, "/healthz")).status == 200


async def test_proxy_declares_its_triggers_with_the_packages_of_the_classic_worker() -> None:
    """On each Python, without a worker: names that a newer azure-functions or base has must not be used."""
    code = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        sys.path.append(sys.argv[2])
        import azure.functions
        from azurefunctions.extensions import base
        from function_app import app
        assert all(module.__file__.startswith(sys.argv[1]) for module in (azure.functions, base))
        print(base.HttpV2FeatureChecker.http_v2_enabled(), len(app.get_functions()))
    """
    command = [sys.executable, "-P", "-c", code, str(await classic_packages()), str(ROOT)]
    ended = await asyncio.to_thread(
        subprocess.run, command, cwd="/", env=dict(os.environ), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    enabled, functions = ended.stdout.split()
    assert enabled == "True" and int(functions) > 20


def has_ticked(directory: Path, start: str) -> bool:
    return (directory / f"{start} ticked").exists()


def make_app(directory: Path, code: str) -> Path:
    """An app with the extension of the proxy."""
    (directory / "function_app.py").write_text(code)
    (directory / "host.json").write_text('{"version": "2.0"}')
    (directory / "shared").symlink_to(ROOT / "shared")
    return directory
