"""The package of `azd deploy` is complete: it installs in an empty environment, starts and responds."""

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pathspec import GitIgnoreSpec

from tests.infra.conftest import ROOT
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime

STARTER = Path(__file__).with_name("first_response.py")
# Keyless, like in Azure. No server listens at the address: these requests need no table.
SETTINGS = {"PROXY_TABLES__tableServiceUri": "https://127.0.0.1:9", "PROXY_TABLES__clientId": "an-identity"}
NEVER_UPLOADED = [".azure/", ".funcignore", "local.settings.json"]
LOCAL_FILES = """
    .env .env.local prod.env local.settings.json local.settings.sample.json .azure/dev/.env .git/config
    .github/workflows/x.yml .vscode/settings.json .venv/lib/x.py .venvs/311/lib/x.py node_modules/x/y.js
    shared/__pycache__/a.pyc tests/a.py tools/a.py admin/a.py docs/a.md infra/a.bicep manage.py dev.py README.md
    requirements-dev.txt requirements-infra.txt pyproject.toml azure.yaml package.json .coverage .ci/run
    __azurite_db_table__.json __blobstorage__/x .local/tables/x
"""

# pip can take half a minute from its cache, and longer from the index.
pytestmark = pytest.mark.timeout(600)


def uploaded(root: Path) -> Iterator[Path]:
    """The files that `azd deploy` uploads, relative to `root`: .funcignore has the rules of .gitignore."""
    rules = (root / ".funcignore").read_text("utf-8").splitlines()
    ignored = GitIgnoreSpec.from_lines(rules + NEVER_UPLOADED)
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        yield from (here / name for name in names if not ignored.match_file((here / name).as_posix()))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    for path in uploaded(ROOT):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the packages of the app's requirements.txt, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    executable = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    options = ["--quiet", "--disable-pip-version-check", "--requirement", str(package / "requirements.txt")]
    pip = [sys.executable, "-m", "pip", "--python", str(executable)]
    run(*pip, "install", *options)
    return executable


@pytest.fixture(scope="module")
def started(python: Path, package: Path) -> dict[str, Any]:
    """What `first_response.py` reports about the app of the package."""
    return dict(json.loads(run(str(python), str(STARTER), str(package), cwd=package)))


def run(*command: str, cwd: Path | None = None) -> str:
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "PROXY_"))}
    env = inherited | SETTINGS
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_only_the_app_is_uploaded(package: Path) -> None:
    paths = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in paths} == {"function_app.py", "host.json", "requirements.txt", "shared"}
    assert {path.suffix for path in paths} <= {".py", ".json", ".txt", ".html", ".css", ".js", ".typed"}
    assert [path for path in paths if "test" in str(path) or "__pycache__" in str(path)] == []


def test_secrets_and_local_files_are_not_uploaded(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".funcignore", tmp_path)
    app = ["function_app.py", "host.json", "requirements.txt", "shared/a.py", "shared/b/c.json"]
    for name in (*app, *LOCAL_FILES.split()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {path.as_posix() for path in uploaded(tmp_path)} == set(app)


def test_package_responds_in_an_empty_environment(started: dict[str, Any]) -> None:
    (alive, _), (refused, body) = started["responses"]
    assert (alive, refused) == (200, 401)
    assert json.loads(body)["error"]["code"] == "invalid_event_token"


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
async def test_official_runtime_serves_the_package(package: Path) -> None:
    async with OfficialRuntime(package, environment=SETTINGS) as runtime, aiohttp.ClientSession() as http:
        async with http.get(f"{runtime.url}/healthz") as response:
            assert (response.status, await response.json()) == (200, {"status": "alive"})
        async with http.post(f"{runtime.url}/api/v1/chat/completions", json={"messages": []}) as response:
            assert response.status == 401


def test_app_uses_no_file_outside_its_package(started: dict[str, Any], python: Path, package: Path) -> None:
    allowed = [package, python.parent.parent, Path(sys.base_prefix), STARTER.parent]
    outside = [name for name in started["used"] if not any(Path(name).is_relative_to(at) for at in allowed)]
    assert outside == []
    tests_only = subprocess.run([python, "-c", "import pytest"], capture_output=True, check=False)
    assert b"No module named 'pytest'" in tests_only.stderr, "the environment is not empty"


def test_import_leaves_out_slow_packages(started: dict[str, Any]) -> None:
    """The app imports the SDKs of Azure when it first needs them, which makes the cold start shorter."""
    names = [Path(name).as_posix() for name in started["imported"]]
    unwanted = ("/azure/identity/", "/msal/", "/openai/", "/pytest/", "/tools/")
    assert [name for name in names if any(part in name for part in unwanted)] == []
