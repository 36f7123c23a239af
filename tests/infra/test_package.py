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

import pytest
import yaml
from pathspec import GitIgnoreSpec

from tools.processes import ROOT

STARTER = Path(__file__).with_name("first_response.py")
# Keyless, like in Azure. No server listens at the address: these requests need no table.
SETTINGS = {"PROXY_TABLES__tableServiceUri": "https://127.0.0.1:9", "PROXY_TABLES__clientId": "an-identity"}
SUFFIXES = {".py", ".pyc", ".json", ".txt", ".html", ".css", ".js", ".typed"}
NEVER_UPLOADED = [".azure/", ".funcignore", "local.settings.json"]
LOCAL_FILES = """
    .env .env.local prod.env local.settings.json local.settings.sample.json .azure/dev/.env .git/config
    .github/workflows/x.yml .vscode/settings.json .venv/lib/x.py .venvs/311/lib/x.py node_modules/x/y.js
    __pycache__/a.pyc shared/a.pyc tools/__pycache__/a.pyc tests/a.py tools/a.py admin/a.py docs/a.md infra/a.bicep manage.py dev.py README.md
    requirements-dev.txt requirements-infra.txt pyproject.toml azure.yaml package.json .coverage .ci/run
    __azurite_db_table__.json __blobstorage__/x .local/tables/x spring.jsonl .spring.jsonl.new
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
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(executable)]
    run(*pip, "install", "--quiet", "--requirement", str(package / "requirements.txt"))
    return executable


@pytest.fixture(scope="module")
def started(python: Path, package: Path) -> dict[str, Any]:
    """What `first_response.py` reports about the app of the package."""
    return dict(json.loads(run(str(python), str(STARTER), str(package), cwd=package)))


def run(*command: str, cwd: Path | None = None) -> str:
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "PROXY_"))}
    done = subprocess.run(
        command, cwd=cwd, env=inherited | SETTINGS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_only_the_app_is_uploaded(package: Path) -> None:
    paths = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in paths} == {"function_app.py", "host.json", "requirements.txt", "shared"}
    assert {path.suffix for path in paths} <= SUFFIXES
    assert [path for path in paths if "test" in str(path)] == []


def test_compiled_modules_are_uploaded(tmp_path: Path) -> None:
    """A check by hash, because the copies in the cloud may have another time than the compiler saw."""
    shutil.copy(ROOT / ".funcignore", tmp_path)
    shutil.copytree(ROOT / "shared", tmp_path / "shared", ignore=shutil.ignore_patterns("__pycache__"))
    hook = yaml.safe_load((ROOT / "azure.yaml").read_text("utf-8"))["services"]["api"]["hooks"]["prepackage"]
    for system in ("posix", "windows"):
        run(sys.executable, *hook[system]["run"].split()[1:], cwd=tmp_path)
        compiled = [tmp_path / path for path in uploaded(tmp_path) if path.suffix == ".pyc"]
        assert len(compiled) == len(list((tmp_path / "shared").rglob("*.py")))
        assert {path.read_bytes()[4:8] for path in compiled} == {b"\3\0\0\0"}, "PEP 552: checked by hash"


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
