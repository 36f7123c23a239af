"""Who may import whom: one arrow, one file. Read from the sources, so that nothing has to be run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = {
    *("errors", "models", "settings", "sse", "json_edit", "json_faults", "amounts", "estimate", "trace"),
    *("connections", "deadlines", "turns"),
}
STAGES = {
    "request",
    "credentials",
    "events",
    "quota",
    "routing",
    "upstream",
    "relay",
    "metering",
    "usage",
    "identity",
    "health",
}
ENTRY = "function_app"
SHARED = ROOT / "shared"
ROOMS = sorted(
    path.relative_to(SHARED).with_suffix("").as_posix().replace("/", ".")
    for path in SHARED.rglob("*.py")
    if path.stem != "__init__"
)
EDGE = {room for room in ROOMS if room.startswith("functions.")}
COMMANDS = sorted(path.stem for path in (ROOT / "admin").glob("*.py"))


@cache
def source(room: str) -> ast.Module:
    path = ROOT / f"{ENTRY}.py" if room == ENTRY else SHARED / f"{room.replace('.', '/')}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST, room: str = "") -> Iterator[str]:
    """Every name that is imported, in full; `from a import b` gives `a.b`, ours begin with `shared.`."""
    package = ["shared", *room.split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level] if node.level else []
            base = ".".join([*outer, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def command(room: str) -> list[str]:
    """What a room of the administrator's commands imports."""
    return list(imported(ast.parse((ROOT / "admin" / f"{room}.py").read_text(encoding="utf-8"))))


def ours(room: str) -> set[str]:
    """The rooms that a room imports."""
    names = [
        name.removeprefix("shared.") for name in imported(source(room), room) if name.startswith("shared.")
    ]
    return {one for one in ROOMS for name in names if f"{name}.".startswith(f"{one}.")}


def importers(*packages: str) -> set[str]:
    """The rooms that import one of `packages`, or from them."""
    return {
        room
        for room in [ENTRY, *ROOMS]
        if any(
            f"{name}.".startswith(f"{package}.")
            for name in imported(source(room), room)
            for package in packages
        )
    }


def at_import(tree: ast.Module) -> ast.Module:
    """What runs when the module is imported: no function's body, and nothing that is for the type checker."""

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


def test_every_leaf_and_stage_of_these_tests_is_a_room() -> None:
    assert set(ROOMS) >= LEAVES | (STAGES - {"quota"})


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_ours_but_errors_and_models(leaf: str) -> None:
    assert ours(leaf) <= {"errors", "models"}


@pytest.mark.parametrize("stage", sorted(STAGES & set(ROOMS)))
def test_a_stage_never_imports_another(stage: str) -> None:
    assert ours(stage) & STAGES == set()


@pytest.mark.parametrize("stage", sorted(STAGES & set(ROOMS)))
def test_a_stage_knows_nothing_of_what_stands_over_it(stage: str) -> None:
    above = {"proxy", "forwarding", "tables", "table_service", "rows", "wiring", *EDGE}
    assert ours(stage) & above == set()


def test_only_the_triggers_know_the_edge_and_within_it_only_the_handlers_know_the_app() -> None:
    assert {room for room in [ENTRY, *ROOMS] if ours(room) & EDGE} <= {ENTRY, *EDGE}
    assert {room for room in EDGE if ours(room) - EDGE - {"errors"}} == {"functions.web"}


def test_no_import_goes_round_in_a_circle() -> None:
    left = {room: ours(room) & set(ROOMS) for room in ROOMS}
    while free := [room for room, needs in left.items() if not needs & left.keys()]:
        for room in free:
            del left[room]
    assert left == {}


def test_what_is_deployed_imports_nothing_of_what_is_not() -> None:
    assert importers("admin", "tools", "tests", "manage", "dev") == set()


def test_only_the_tables_know_azure_data_tables() -> None:
    assert importers("azure.data") == {"tables", "table_service", "rows"}
    knowing = [room for room in COMMANDS if any(name.startswith("azure.data") for name in command(room))]
    assert knowing == ["tables"]


@pytest.mark.parametrize("room", COMMANDS)
def test_no_command_imports_a_private_name_of_the_app(room: str) -> None:
    assert not [name for name in command(room) if name.startswith("shared.") and "._" in name]


def test_only_the_extension_and_the_triggers_know_functions_and_its_server() -> None:
    assert importers("starlette", "fastapi") == set()
    assert importers("azure.functions") == {ENTRY}
    assert importers("azurefunctions") == {"functions.extension"}
    assert importers("uvicorn") == {"functions.server"}


def test_only_the_connections_and_the_wiring_know_the_http_client() -> None:
    assert importers("aiohttp") == {"connections", "wiring"}
    assert importers("yarl") == {"connections", "upstream"}


def test_only_the_telemetry_knows_opentelemetry_and_never_when_it_is_imported() -> None:
    packages = ("opentelemetry", "azure.monitor")
    assert importers(*packages) == {"telemetry"}
    assert not [name for name in imported(at_import(source("telemetry"))) if name.startswith(packages)]


def test_the_environment_is_read_only_where_settings_are() -> None:
    readers = {
        room
        for room in [ENTRY, *ROOMS]
        for node in ast.walk(source(room))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
        or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv", "getenvb"})
    }
    assert readers <= {"settings", ENTRY}


@pytest.mark.parametrize("room", [ENTRY, *ROOMS])
def test_azure_identity_is_not_imported_with_a_module(room: str) -> None:
    assert not [name for name in imported(at_import(source(room))) if name.startswith("azure.identity")]


def test_the_triggers_load_without_azure_identity() -> None:
    program = "import sys, function_app; print([name for name in sys.modules if name == 'azure.identity'])"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
