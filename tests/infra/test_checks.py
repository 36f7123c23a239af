"""The project itself passes every check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.infra.checks import CHECKS
from tests.infra.project import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(ROOT)


@pytest.mark.parametrize("name", CHECKS)
def test_the_project_passes(name: str, project: Project) -> None:
    assert list(CHECKS[name](project)) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name
)
def test_a_workflow_is_valid_yaml_and_may_only_what_it_says(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["jobs"]
    assert workflow["permissions"]


def test_the_devcontainer_is_valid_json_with_comments() -> None:
    lines = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8").splitlines()
    content = json.loads("\n".join(line for line in lines if not line.strip().startswith("//")))
    assert content["image"].endswith(":3.13")
    assert any("azd" in feature for feature in content["features"])


def test_exceptions_are_sampled_as_all_else() -> None:
    """Each client that leaves is a failed call with 7 KB of stack traces: unsampled, they could fill the log."""
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["logging"]["applicationInsights"]["samplingSettings"] == {
        "isEnabled": True,
        "maxTelemetryItemsPerSecond": 20,
    }
