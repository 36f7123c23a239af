"""The attendees' samples, run as files, as they are."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import CREDENTIAL, Stage

EXAMPLES = Path(__file__).parent.parent / "examples"
PYTHON = sorted(path.name for path in EXAMPLES.glob("*.py"))


async def _output(stage: Stage, *command: str) -> str:
    variables = {"EVENT_ENDPOINT": stage.url, "EVENT_KEY": CREDENTIAL}
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | variables, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("name", PYTHON)
async def test_a_python_example_prints_an_answer(stage: Stage, name: str) -> None:
    output = await _output(stage, sys.executable, str(EXAMPLES / name))
    assert "glove" in output.lower()
    assert [call.status for call in stage.simulator.calls] == [200]


@pytest.mark.skipif(
    not shutil.which("curl") or sys.platform == "win32", reason="needs curl and a POSIX shell"
)
async def test_the_curl_example_prints_an_answer(stage: Stage) -> None:
    assert '"chat.completion"' in await _output(stage, "sh", str(EXAMPLES / "curl.sh"))
