"""The Bicep compiler reads infra/ and evaluates it, as azd does before it deploys."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.infra.compiler import MISSING, PROGRAM, BicepError, Compiler
from tests.infra.rules import TABLE, Snapshot, difference, faults
from tools.processes import ROOT

if not PROGRAM and not os.environ.get("TESTS_NEED_BICEP"):
    pytest.skip(MISSING, allow_module_level=True)

REQUIRED: Final = {"environmentName": "test", "location": "swedencentral"}
CASES: Final = TABLE["cases"]


@pytest.fixture(scope="session")
def compiler() -> Iterator[Compiler]:
    running = Compiler()
    yield running
    running.close()


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/, for parameter files: azd would use one in the original."""
    return copy_infra(tmp_path_factory.mktemp("bicep"))


def copy_infra(folder: Path) -> Path:
    return Path(shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns("hooks")))


@pytest.fixture(scope="session")
def main(compiler: Compiler) -> tuple[list[str], Any]:
    """The warnings and the template of main.bicep."""
    return compiler.compile(ROOT / "infra" / "main.bicep")


def evaluate(compiler: Compiler, infra: Path, name: str) -> Snapshot:
    return Snapshot(compiler.snapshot(infra, REQUIRED | CASES[name]["parameters"]), CASES[name])


def test_every_file_compiles_without_warnings_and_is_formatted(compiler: Compiler, main: Any) -> None:
    assert main[0] == []
    files = sorted((ROOT / "infra").rglob("*.bicep"))
    assert [path.name for path in files if compiler.format(path) != path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("name", CASES)
def test_deployment_follows_every_rule(compiler: Compiler, infra: Path, name: str) -> None:
    assert faults(evaluate(compiler, infra, name)) == []


def test_models_keep_their_properties_and_get_defaults(compiler: Compiler, infra: Path) -> None:
    chat, small = evaluate(compiler, infra, "own models").of("deployments")
    assert chat["sku"] == {"name": "GlobalStandard", "capacity": 100}
    assert chat["properties"]["raiPolicyName"] == "strict"
    assert small["sku"] == {"name": "Standard", "capacity": 30}
    assert small["properties"]["model"] == {"format": "OpenAI", "name": "gpt-4o-mini", "version": None}


@pytest.mark.parametrize(("parameters", "message"), TABLE["rejected"])
def test_wrong_parameter_is_named(compiler: Compiler, infra: Path, parameters: Any, message: str) -> None:
    with pytest.raises(BicepError, match=message):
        compiler.snapshot(infra, REQUIRED | parameters)


@pytest.mark.parametrize("change", [str, str.upper])
def test_proxy_settings_cannot_replace_a_fixed_setting(compiler: Compiler, infra: Path, change: Any) -> None:
    older = evaluate(compiler, infra, "other Python, memory and instances")
    names = [change(name) for name in older.one("config")]
    with pytest.raises(BicepError, match="PROXY_SETTINGS must not contain") as caught:
        compiler.snapshot(infra, REQUIRED | {"PROXY_SETTINGS": dict.fromkeys(names, "x")})
    assert [name for name in names if name not in str(caught.value)] == []


def test_roles_come_before_the_app_and_models_one_by_one(main: Any) -> None:
    assert list(order_faults(main[1])) == []


def order_faults(main: Any) -> Iterator[str]:
    for name, module in main["resources"].items():
        assigns_roles = "Microsoft.Authorization/roleAssignments" in str(module)
        if assigns_roles and name not in main["resources"]["api"]["dependsOn"]:
            yield f"the app does not wait for {name}"
    models = main["resources"]["openAi"]["properties"]["template"]["resources"]["modelDeployments"]
    yield from difference("models", models["copy"].get("batchSize"), 1)


def test_defaults_for_azd_are_those_of_the_template(main: Any) -> None:
    declared = main[1]["parameters"]
    given = json.loads((ROOT / "infra" / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
    assert given.keys() == declared.keys() - {"firstOfMonth"}
    for name in given.keys() - REQUIRED.keys():
        default = given[name]["value"].rstrip("}").partition("=")[2]
        expected = declared[name]["defaultValue"]
        if default or expected:
            assert default == (expected if isinstance(expected, str) else json.dumps(expected)), name


@pytest.mark.parametrize(("path", "text", "replacement", "name", "message"), TABLE["planted"])
def test_planted_fault_is_found(
    compiler: Compiler, tmp_path: Path, path: str, text: str, replacement: str, name: str, message: str
) -> None:
    infra = copy_infra(tmp_path)
    source = (infra / path).read_text(encoding="utf-8")
    assert text in source, "the file has changed: plant the fault elsewhere"
    (infra / path).write_text(source.replace(text, replacement), encoding="utf-8")
    assert any(re.search(message, one) for one in all_faults(compiler, infra, name))


def all_faults(compiler: Compiler, infra: Path, name: str) -> Iterator[str]:
    try:
        yield from faults(evaluate(compiler, infra, name))
    except BicepError as error:
        yield str(error)
    diagnostics, template = compiler.compile(infra / "main.bicep")
    yield from diagnostics
    yield from order_faults(template) if template else []
