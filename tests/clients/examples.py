"""The examples whose packages are not installed for the other tests, and those in C#."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from admin.steps import SetupError
from tests.conftest import CREDENTIAL, Stage
from tools import clients
from tools.processes import ROOT

EXAMPLES = ROOT / "examples"
FRAMEWORKS = sorted((EXAMPLES / "frameworks").iterdir())
SHARP = sorted((EXAMPLES / "csharp").glob("*.cs"))
HAS_PACKAGES = {
    "langchain_agent.py": "langchain_python.py",
    "microsoft_agent_framework.py": "microsoft_agent_framework.py",
    "openai_agents_sdk.py": "openai_agents_python.py",
    "vercel_ai_sdk.mjs": "ai_sdk.mjs",
}
"""Which client has the packages of an example."""


async def _output(stage: Stage, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | {"EVENT_ENDPOINT": f"{stage.url}/v1", "EVENT_KEY": CREDENTIAL},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("example", FRAMEWORKS, ids=lambda path: str(path.name))
async def test_framework_example_prints_what_its_tool_returned(stage: Stage, example: Path) -> None:
    program = clients.PROGRAMS / HAS_PACKAGES[example.name]
    try:
        command = clients.install(program, clients.prepare())
    except SetupError as error:
        pytest.skip(f"Cannot install the packages of {example.name}. {error}")
    if example.suffix == ".mjs":
        example = clients.copy(example, clients.folder_of(program))
    assert "2 gloves" in await _output(stage, command[0], str(example))
    assert {call.status for call in stage.simulator.calls} == {200}


@pytest.mark.skipif(not shutil.which("dotnet"), reason="dotnet is not installed: C# examples are not tried")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("example", SHARP, ids=lambda path: str(path.name))
async def test_csharp_example_prints_an_answer(stage: Stage, example: Path) -> None:
    assert "glove" in await _output(stage, "dotnet", "run", str(example))
    assert {call.status for call in stage.simulator.calls} == {200}
