"""Apps that the cloud's worker library refuses, and this proxy with the packages of each worker."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.sample_apps import SAMPLE, call
from tests.tools.test_hosts import FLAG, STARTS, needs_runtime
from tools.functions_host import AppFault, FunctionsHost
from tools.official_runtime import IndexingFailed, OfficialRuntime, Placeholder, classic_packages
from tools.processes import ROOT

CODE = (SAMPLE / "function_app.py").read_text().replace("Path(__file__).parents[3]", repr(str(ROOT)))
HEAD = CODE.partition("async def")[0]
STALE = "\nsys.modules['azure_functions_worker.http_v2'].HttpV2Registry._http_v2_enabled_checked = True\n"
NEW_NAME = "from azurefunctions.extensions.base import RuntimeBase\n"
ANNOTATIONS = {
    "req: func.HttpRequest) -> Response": "Python type annotation HttpRequest",
    "req: Request) -> None": "return annotation",
    "req: 'Request | None') -> Response": "cannot load the f function",
    "request: Request) -> Response": "cannot load the f function",
}


async def start(directory: Path, code: str, placeholder: Placeholder | None = None) -> None:
    (directory / "function_app.py").write_text(code)
    await OfficialRuntime(directory, placeholder=placeholder).__aenter__()


@needs_runtime
@pytest.mark.parametrize(("signature", "message"), ANNOTATIONS.items())
async def test_wrong_annotation_fails_in_both_hosts(tmp_path: Path, signature: str, message: str) -> None:
    with pytest.raises(IndexingFailed, match=message):
        await start(tmp_path, f'{HEAD}\n@app.route("x", methods=["GET"])\nasync def f({signature}: ...\n')
    with pytest.raises(AppFault):
        await FunctionsHost(tmp_path).__aenter__()


@needs_runtime
@pytest.mark.parametrize("placeholder", STARTS.values(), ids=STARTS)
async def test_failed_import_is_reported(tmp_path: Path, placeholder: Placeholder | None) -> None:
    with pytest.raises(IndexingFailed, match="the cause"):
        await start(tmp_path, "raise RuntimeError('the cause')", placeholder)


@needs_runtime
async def test_stale_flag_fails_an_app_that_does_not_clear_it(tmp_path: Path) -> None:
    with pytest.raises(IndexingFailed, match="cannot load the plain function"):
        await start(tmp_path, CODE + STALE, STARTS["classic with a stale flag"])


@needs_runtime
async def test_name_that_the_classic_worker_lacks_fails_the_app(tmp_path: Path) -> None:
    with pytest.raises(IndexingFailed, match="RuntimeBase"):
        await start(tmp_path, NEW_NAME + CODE, STARTS["classic"])


@needs_runtime
async def test_worker_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 3.*last words"):
        await start(tmp_path, "import os\nprint('last words', flush=True)\nos._exit(3)\n")


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
    assert (enabled, int(functions)) == ("True", 3)
