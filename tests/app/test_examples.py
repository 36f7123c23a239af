"""The examples for attendees work as they are."""

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import CREDENTIAL, Stage

EXAMPLES = Path(__file__).parents[2] / "examples"
PYTHON = sorted(path.name for path in EXAMPLES.glob("*.py"))
PROGRAMS = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix != ".md")
ENDINGS = ["/v1", "/v1/"]
"""The endpoint that `manage.py events create` prints ends in the first. Some people add the slash."""


async def _output(endpoint: str, *command: str) -> str:
    variables = {"EVENT_ENDPOINT": endpoint, "EVENT_KEY": CREDENTIAL}
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", PYTHON)
async def test_python_example_prints_an_answer(stage: Stage, name: str, ending: str) -> None:
    output = await _output(stage.url + ending, sys.executable, str(EXAMPLES / name))
    assert "glove" in output.lower()
    assert [call.status for call in stage.simulator.calls] == [200]


@pytest.mark.skipif(
    not shutil.which("curl") or sys.platform == "win32", reason="needs curl and a POSIX shell"
)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_curl_example_prints_a_response(stage: Stage, ending: str) -> None:
    assert '"chat.completion"' in await _output(stage.url + ending, "sh", str(EXAMPLES / "curl.sh"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_has_v1_in_its_own_endpoint_and_adds_none_to_another(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert re.findall(r"[^\s\"'}-]*/v1", text) == ["http://127.0.0.1:7071/v1"]


def test_readme_of_the_examples_has_an_endpoint_that_ends_in_v1() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"EVENT_ENDPOINT=(\S+)", text) == ["https://THE-APP.azurewebsites.net/v1"]
