"""The real Bicep compiler computes the host's body limit, and refuses what does not fit in an instance.

`bicep snapshot` evaluates the template without Azure. azd runs it too, before it deploys.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

INFRA = Path(__file__).parents[2] / "infra"
NAMES = ("PER_INSTANCE_CONCURRENCY", "PROXY_MAX_BODY_BYTES", "INSTANCE_MEMORY_MB")

pytestmark = pytest.mark.skipif(shutil.which("bicep") is None, reason="the Bicep CLI is not on the PATH")


def _settings(folder: Path, *lines: str) -> dict[str, Any]:
    """The app settings that a deployment with these parameters makes.

    Raises:
        subprocess.CalledProcessError: the template fails; `stderr` has its sentence.
    """
    infra = shutil.copytree(INFRA, folder / "infra")
    parameters = infra / "test.bicepparam"
    required = ("using 'main.bicep'", "param environmentName = 'test'", "param location = 'swedencentral'")
    parameters.write_text("\n".join([*required, *lines, ""]), encoding="utf-8")
    scope = ("--subscription-id", "1" * 8 + "-1111-1111-1111-" + "1" * 12, "--location", "swedencentral")
    command = ["bicep", "snapshot", str(parameters), "--mode", "overwrite", *scope]
    subprocess.run(command, check=True, capture_output=True, text=True)
    resources = json.loads((infra / "test.snapshot.json").read_text(encoding="utf-8"))["predictedResources"]
    (config,) = (one for one in resources if one["type"] == "Microsoft.Web/sites/config")
    found: dict[str, Any] = config["properties"]
    return found


def test_defaults_give_a_limit_above_the_apps(tmp_path: Path) -> None:
    found = _settings(tmp_path)
    assert found["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == "8000000"
    assert found["AzureWebJobsDisableHomepage"] == "true"


def test_limit_follows_the_app_and_proxy_settings_cannot_replace_it(tmp_path: Path) -> None:
    given = "PROXY_MAX_BODY_BYTES: '1000000', FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '9'"
    found = _settings(tmp_path, f"param proxySettings = {{ {given}, AzureWebJobsDisableHomepage: 'false' }}")
    assert found["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"] == "1500000"
    assert found["AzureWebJobsDisableHomepage"] == "true"


@pytest.mark.parametrize(
    ("memory", "concurrency", "body", "fits"),
    [
        (512, 50, 7_500_000, (1, 7_500_000)),
        (2048, 100, 7_500_000, (51, 7_500_000)),
        (512, 1, 100_000_000, (1, 10_409_090)),
    ],
)
def test_deployment_fails_with_values_that_fit(
    tmp_path: Path, memory: int, concurrency: int, body: int, fits: tuple[int, int]
) -> None:
    def parameters(concurrency: int, body: int) -> tuple[str, ...]:
        return (
            f"param instanceMemoryMB = {memory}",
            f"param perInstanceConcurrency = {concurrency}",
            f"param proxySettings = {{ PROXY_MAX_BODY_BYTES: '{body}' }}",
        )

    with pytest.raises(subprocess.CalledProcessError) as caught:
        _settings(tmp_path / "refused", *parameters(concurrency, body))

    assert all(name in caught.value.stderr for name in NAMES)
    remedy = "Set PER_INSTANCE_CONCURRENCY to {} and PROXY_MAX_BODY_BYTES (in PROXY_SETTINGS) to {} at most"
    assert remedy.format(*fits) in caught.value.stderr
    _settings(tmp_path / "accepted", *parameters(*fits))
