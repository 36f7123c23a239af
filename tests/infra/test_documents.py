"""The Bicep files, the hooks, the workflow and the documents name the same things. No compiler is needed."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tools.processes import ROOT


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
AZURE_YAML = yaml.safe_load(read("azure.yaml"))
OUTPUTS = set(re.findall(r"(?m)^output (\w+)", read("infra/main.bicep")))
PARAMETERS = set(re.findall(r"\$\{(\w+)", read("infra/main.parameters.json")))
HOOKS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "infra" / "hooks").glob("*.py"))
READ_BY_HOOKS = set(re.findall(r'"([A-Z][A-Z0-9]+(?:_+[A-Za-z0-9]+)+)"', HOOKS))
VARIABLES = PARAMETERS | (READ_BY_HOOKS - OUTPUTS)
FROM_AZD = {"AZURE_ENV_NAME", "AZURE_LOCATION", "AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"}
DOCUMENTED = set(re.findall(r"(?m)^\| `(\w+)` \|", read("docs/deploy.md")))


def test_deploy_document_explains_every_variable_and_no_other() -> None:
    assert DOCUMENTED == VARIABLES - FROM_AZD


def test_workflow_passes_every_variable() -> None:
    workflow = read(".github/workflows/azure-dev.yml")
    passed = set(re.findall(r"(?m)^ +(\w+): \$\{\{ (?:vars|secrets)\.\1\b", workflow))
    assert VARIABLES - {"AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE", "HOOK_SECONDS"} <= passed
    for name in ("PROXY_SETTINGS", "TAGS"):
        assert f"vars.{name} || '{{}}'" in workflow, "an empty text is not a JSON object"


def test_pipeline_config_sets_every_variable_of_the_hooks() -> None:
    pipeline = AZURE_YAML["pipeline"]
    assert {*pipeline["variables"], *pipeline["secrets"]} == {one for one in DOCUMENTED if "EVENT_" in one}


def test_every_hook_has_a_script() -> None:
    hooks = AZURE_YAML["hooks"].values()
    for command in (hook[system]["run"] for hook in hooks for system in ("posix", "windows")):
        scripts = re.findall(r"infra/hooks/\w+\.py", command)
        assert scripts and all((ROOT / script).is_file() for script in scripts), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_has_pinned_actions_and_least_permissions(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(content)
    may_sign_in = path.name == "azure-dev.yml"
    assert workflow["permissions"] == ({} if may_sign_in else {"contents": "read"})
    assert ("id-token: write" in content) == may_sign_in
    for action in re.findall(r"uses: (.+)", content):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action)
    assert content.count("persist-credentials: false") == content.count("actions/checkout@")


def test_push_to_main_does_not_deploy() -> None:
    workflow = yaml.safe_load(read(".github/workflows/azure-dev.yml"))
    assert workflow[True] == {"workflow_dispatch": None, "push": {"tags": ["v*"]}}, "True is YAML for `on`"
    assert workflow["jobs"]["deploy"]["environment"] == "azure"


def test_devcontainer_has_the_python_of_the_app_and_azd() -> None:
    lines = read(".devcontainer/devcontainer.json").splitlines()
    content = json.loads("\n".join(line for line in lines if not line.strip().startswith("//")))
    assert content["image"].endswith(":3.13")
    assert any("azd" in feature for feature in content["features"])


def test_exceptions_are_sampled_like_everything_else() -> None:
    """Each client that disconnects is a failed call with 7 KB of stack traces. Without sampling they fill the log."""
    sampling = json.loads(read("host.json"))["logging"]["applicationInsights"]["samplingSettings"]
    assert sampling == {"isEnabled": True, "maxTelemetryItemsPerSecond": 20}
