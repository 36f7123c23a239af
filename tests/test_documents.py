"""Links and paths in the documents lead to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import clients

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")])
_links = re.compile(r"\]\((?![a-z]+:)([^)#\s]+)").findall
_headings = re.compile(r"(?m)^#+ (.+)$").findall
_links_to_headings = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)#([^)\s]+)\)").findall
_decisions = re.compile(r"docs/decisions/[0-9]{4}").findall
_paths = re.compile(r"`((?:shared|admin|tools|tests|docs|infra|examples)/[\w./-]+)`").findall


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_paths_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    files = [document.parent / link for link in _links(text)] + [ROOT / path for path in _paths(text)]
    assert [file for file in files if not file.exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_headings_that_links_name_exist(document: Path) -> None:
    for link, heading in _links_to_headings(document.read_text(encoding="utf-8")):
        target = document.parent / link if link else document
        assert heading in map(anchor, _headings(target.read_text(encoding="utf-8"))), link


def anchor(heading: str) -> str:
    """The name that GitHub gives to a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("program", clients.programs(), ids=lambda path: path.name)
def test_table_of_the_clients_has_the_versions_that_run(program: Path) -> None:
    lines = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith(f"| {program.stem} "))
    assert ", ".join(clients.packages(program)) in row


def test_decisions_that_the_code_cites_exist() -> None:
    sources = [path for room in ("shared", "admin", "tools", "infra") for path in (ROOT / room).rglob("*.*")]
    code = [path.read_text(encoding="utf-8") for path in sources if path.suffix in {".py", ".bicep", ".txt"}]
    cited = {decision for text in code for decision in _decisions(text)}
    assert cited and {one for one in cited if not list(ROOT.glob(f"{one}-*.md"))} == set()
