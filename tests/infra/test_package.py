"""What `azd deploy` uploads is what runs: it installs in an empty environment, starts and answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.infra import package
from tools.official_runtime import AVAILABLE, WHY_NOT, OfficialRuntime

ROOT = Path(__file__).parents[2]
STARTER = Path(__file__).with_name("first_answer.py")
# As in the cloud: keyless. Nobody listens at the address; the answers asked for need no table.
SETTINGS = {"PROXY_TABLES__tableServiceUri": "https://127.0.0.1:9", "PROXY_TABLES__clientId": "an-identity"}
TOP_LEVEL = {"function_app.py", "host.json", "requirements.txt", "shared"}

# A package that is on no index is asked for again and again; one that is in pip's cache takes half a minute.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("package") / "package.zip"
    package.build(ROOT, target)
    return target


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def python(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with what requirements.txt of the package asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    executable = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    options = ("--quiet", "--disable-pip-version-check", "--requirement", str(unpacked / "requirements.txt"))
    _run(sys.executable, "-m", "pip", "--python", str(executable), "install", *options)
    return executable


@pytest.fixture(scope="module")
def answer(python: Path, unpacked: Path) -> dict[str, Any]:
    """What the app says when it is started from the package. Its second start: the first writes bytecode."""
    for _ in range(2):
        said = json.loads(_run(str(python), str(STARTER), str(unpacked), cwd=unpacked))
    assert isinstance(said, dict)
    return said


def test_only_what_runs_is_uploaded(archive: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
    assert {name.split("/")[0] for name in names} == TOP_LEVEL
    assert {Path(name).suffix for name in names} <= {".py", ".json", ".txt", ".html", ".css", ".js", ".typed"}
    assert not [name for name in names if "test" in name or "__pycache__" in name or ".env" in name]


def test_secrets_and_leftovers_of_one_machine_stay_there(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".funcignore", tmp_path)
    wanted = ("function_app.py", "host.json", "requirements.txt", "shared/a.py", "shared/b/c.json")
    unwanted = (
        *(".env", ".env.local", "prod.env", "local.settings.json", "local.settings.sample.json"),
        *(".git/config", ".github/workflows/x.yml", ".azure/dev/.env", ".vscode/settings.json"),
        *(".venv/lib/x.py", ".venvs/311/lib/x.py", "node_modules/x/y.js", "shared/__pycache__/a.pyc"),
        *(
            "tests/a.py",
            "tools/a.py",
            "admin/a.py",
            "docs/a.md",
            "infra/a.bicep",
            "manage.py",
            "dev.py",
            "README.md",
        ),
        *("requirements-dev.txt", "requirements-infra.txt", "pyproject.toml", "azure.yaml", "package.json"),
        *("__azurite_db_table__.json", "__blobstorage__/x", ".local/tables/x", ".coverage", ".ci/run"),
    )
    for name in (*wanted, *unwanted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {path.as_posix() for path in package.files(tmp_path)} == set(wanted)


def test_the_package_starts_in_an_empty_environment(
    archive: Path, answer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    version = ".".join(map(str, sys.version_info[:2]))
    with capsys.disabled():
        sys.stdout.write(
            f"\npackage {archive.stat().st_size / 1024:.0f} KB; on Python {version} imported in"
            f" {answer['import_milliseconds']} ms; {answer['functions']} functions;"
            f" first answer {answer['alive']}\n"
        )
    assert answer["alive"][0] == 200
    assert answer["refused"][0] == 401
    assert json.loads(answer["refused"][1])["error"]["code"] == "invalid_event_token"


@pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
async def test_the_clouds_own_runtime_serves_the_package(unpacked: Path) -> None:
    async with OfficialRuntime(unpacked, environment=SETTINGS) as runtime, aiohttp.ClientSession() as http:
        async with http.get(f"{runtime.url}/healthz") as reply:
            assert (reply.status, await reply.json()) == (200, {"status": "alive"})
        async with http.post(f"{runtime.url}/api/v1/chat/completions", json={"messages": []}) as reply:
            assert reply.status == 401


def test_the_app_uses_nothing_from_outside_of_the_package(
    answer: dict[str, Any], python: Path, unpacked: Path
) -> None:
    allowed = [unpacked, python.parent.parent, Path(sys.base_prefix), STARTER.parent]
    strangers = [name for name in answer["used"] if not any(Path(name).is_relative_to(at) for at in allowed)]
    assert strangers == []


def test_the_import_leaves_out_what_takes_long(answer: dict[str, Any]) -> None:
    """Neither the SDKs that only the cloud needs, before they are needed, nor anything of tests and tools."""
    names = [Path(name).as_posix() for name in answer["imported"]]
    for unwanted in ("/azure/identity/", "/msal/", "/openai/", "/pytest/", "/tools/"):
        assert not [name for name in names if unwanted in name], unwanted


def test_a_missing_requirement_would_be_seen(python: Path, unpacked: Path, tmp_path: Path) -> None:
    """The empty environment is empty: what only the tests have is not there."""
    outside = subprocess.run(
        [str(python), "-c", "import pytest"], cwd=tmp_path, capture_output=True, check=False
    )
    assert outside.returncode == 1
    assert b"No module named 'pytest'" in outside.stderr
    assert not (unpacked / "tests").exists()


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROXY_"))
    }
    environment |= SETTINGS
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
