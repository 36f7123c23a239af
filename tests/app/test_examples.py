"""The attendees' samples, run as files, as they are."""

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
HANDED_OUT = ["/v1", "/v1/"]
"""What follows the host in the endpoint that `manage.py events create` prints, and as people copy it."""


async def _output(endpoint: str, *command: str) -> str:
    variables = {"EVENT_ENDPOINT": endpoint, "EVENT_KEY": CREDENTIAL}
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("ending", HANDED_OUT)
@pytest.mark.parametrize("name", PYTHON)
async def test_a_python_example_prints_an_answer(stage: Stage, name: str, ending: str) -> None:
    output = await _output(stage.url + ending, sys.executable, str(EXAMPLES / name))
    assert "glove" in output.lower()
    assert [call.status for call in stage.simulator.calls] == [200]


@pytest.mark.skipif(
    not shutil.which("curl") or sys.platform == "win32", reason="needs curl and a POSIX shell"
)
@pytest.mark.parametrize("ending", HANDED_OUT)
async def test_the_curl_example_prints_an_answer(stage: Stage, ending: str) -> None:
    assert '"chat.completion"' in await _output(stage.url + ending, "sh", str(EXAMPLES / "curl.sh"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_has_v1_in_its_own_endpoint_and_adds_none_to_another(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert re.findall(r"[^\s\"'}-]*/v1", text) == ["http://127.0.0.1:7071/v1"]


def test_the_readme_has_an_endpoint_like_the_one_that_is_handed_out() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"EVENT_ENDPOINT=(\S+)", text) == ["https://THE-APP.azurewebsites.net/v1"]
