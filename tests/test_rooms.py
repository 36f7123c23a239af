"""Which room may import which. Read from the sources: nothing is run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parent.parent
LAYERS = {
    "core": set(),
    "functions": {"core"},
    "apis": {"core"},
    "events": {"core"},
    "quota": {"core"},
    "tokens": set(),
    "usage": {"core"},
    "desk": {"core", "events", "quota"},
    "upstream": {"core", "apis", "tokens"},
    "tables": {"core", "quota"},
    "app": {"core", "functions", "apis", "events", "quota", "tokens", "usage", "desk", "upstream", "tables"},
}
"""Each room of `shared/`, and the rooms that it may import."""


def modules(*places: str) -> list[str]:
    """Every module of these files and folders, by its dotted name."""
    paths = [path for place in places for path in (ROOT / place).rglob("*.py")]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


SHARED = modules("shared")
ADMIN = modules("admin")
DEPLOYED = ["function_app", *SHARED]


@cache
def source(module: str) -> ast.Module:
    return ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """Every name that is imported, in full: `from a import b` gives `a.b`."""
    package = module.split(".")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level] if node.level else []
            base = ".".join([*outer, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def imports(module: str) -> list[str]:
    return list(imported(source(module), module))


def importers(among: list[str], *packages: str) -> set[str]:
    """The modules that import one of `packages`, or something from it."""
    return {
        module
        for module in among
        for name in imports(module)
        if any(f"{name}.".startswith(f"{package}.") for package in packages)
    }


def at_import(tree: ast.Module) -> ast.Module:
    """The code that runs when the module is imported: no function bodies, nothing for the type checker."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, _: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, _: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    copy = ast.parse(ast.unparse(tree))
    outside = Outside().visit(copy)
    assert isinstance(outside, ast.Module)
    return outside


def test_every_module_of_shared_is_in_a_room() -> None:
    assert {path.name for path in (ROOT / "shared").iterdir()} - {"__init__.py", "__pycache__"} == set(LAYERS)


@pytest.mark.parametrize("module", [module for module in SHARED if module.count(".") > 1])
def test_a_module_imports_only_rooms_below_its_own(module: str) -> None:
    room = module.split(".")[1]
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("shared.")}
    assert rooms <= LAYERS[room] | {room}


def test_there_are_no_circular_imports() -> None:
    left = {
        module: {one for one in SHARED for name in imports(module) if f"{name}.".startswith(f"{one}.")}
        for module in SHARED
    }
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_the_product_imports_nothing_that_is_for_development() -> None:
    assert importers(DEPLOYED, "admin", "tools", "tests", "manage", "dev") == set()
    assert importers(["manage", *ADMIN], "tools", "tests", "dev") == set()


def test_only_the_tables_room_imports_azure_data_tables() -> None:
    assert importers(DEPLOYED, "azure.data") <= set(modules("shared/tables"))
    assert importers(ADMIN, "azure.data") == {"admin.tables", "admin.backup.values"}


@pytest.mark.parametrize("module", ADMIN)
def test_no_command_imports_a_private_name_of_the_app(module: str) -> None:
    assert not [name for name in imports(module) if name.startswith("shared.") and "._" in name]


def test_only_the_extension_and_the_triggers_import_functions_and_its_server() -> None:
    assert importers(DEPLOYED, "starlette", "fastapi") == set()
    assert importers(DEPLOYED, "azure.functions") == {"function_app"}
    assert importers(DEPLOYED, "azurefunctions") == {"shared.functions.extension"}
    assert importers(DEPLOYED, "uvicorn") == {"shared.functions.server"}


def test_only_the_connections_and_the_wiring_import_the_http_client() -> None:
    assert importers(DEPLOYED, "aiohttp") == {
        "shared.upstream.connections",
        "shared.upstream.response",
        "shared.app.wiring",
    }
    assert importers(DEPLOYED, "yarl") == {"shared.upstream.connections", "shared.upstream.client"}


def test_only_the_spans_import_opentelemetry_and_not_before_it_is_used() -> None:
    packages = ("opentelemetry", "azure.monitor")
    assert importers(DEPLOYED, *packages) == {"shared.usage.spans"}
    spans = at_import(source("shared.usage.spans"))
    assert not [name for name in imported(spans, "shared.usage.spans") if name.startswith(packages)]


def test_only_the_triggers_and_the_settings_read_the_environment() -> None:
    names = {"environ", "environb", "getenv", "getenvb"}
    readers = {
        module
        for module in DEPLOYED
        for node in ast.walk(source(module))
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.alias) and node.name in names)
    }
    assert readers <= {"shared.core.settings", "function_app"}


def test_only_the_room_of_tokens_knows_the_tokenizer_and_loads_it_when_it_is_used() -> None:
    names = [module for module in DEPLOYED if "bpe_openai" in (ast.unparse(source(module)))]
    assert names == ["shared.tokens.tokenizer"]
    assert "bpe_openai" not in ast.unparse(at_import(source("shared.tokens.tokenizer")))


@pytest.mark.parametrize("module", DEPLOYED)
def test_no_module_imports_azure_identity_before_it_is_used(module: str) -> None:
    names = imported(at_import(source(module)), module)
    assert not [name for name in names if name.startswith("azure.identity")]


def test_the_triggers_load_without_azure_identity() -> None:
    program = "import sys, function_app; print([name for name in sys.modules if name == 'azure.identity'])"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
