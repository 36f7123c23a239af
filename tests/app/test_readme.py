"""The commands and samples in README.md and in `manage.py --help` work as they are shown."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.admin.manage import ROOT, manage
from tests.conftest import KEY, Stage
from tools.azurite import Azurite

pytestmark = pytest.mark.one_python

README = (ROOT / "README.md").read_text(encoding="utf-8")
NEXT_YEAR = datetime.now(UTC).year + 1
ENDPOINT = "https://NAME.openai.azure.com"


async def commands(source: str) -> list[list[str]]:
    """The arguments of the commands, for a simulated Azure OpenAI and an event that starts next year."""
    text = README if source == "README.md" else (await manage(None, "--help")).output
    text = text.replace("\\\n", " ").replace(" --managed-identity", "").replace("2026-", f"{NEXT_YEAR}-")
    return [shlex.split(line, comments=True) for line in re.findall(r"(?m)^ *python3 manage\.py (.*)", text)]


@pytest.mark.usefixtures("deployments_as_before")
@pytest.mark.parametrize("source", ["README.md", "help"])
async def test_manage_commands_work_in_the_order_shown(
    stage: Stage, azurite: Azurite, tmp_path: Path, source: str
) -> None:
    code, done = "", []
    for command in await commands(source):
        if "--watch" in command:
            continue
        values = {ENDPOINT: stage.simulator.url, "CODE": code, "report.html": str(tmp_path / "report.html")}
        values["YOUR-NAME"] = "ann"
        arguments = [values.get(one, one) for one in command]
        if arguments[0] == "deployments":
            arguments += ["--key-env", "SIMULATOR_KEY"]
        result = await manage(azurite, *arguments, SIMULATOR_KEY=KEY, PROXY_URL=stage.url)
        assert result.status == 0, (arguments, result.output, result.errors)
        done.append(arguments[:2])
        code = code or result.output.partition("API key    ")[2].partition("/")[0]
    assert done[0] == ["deployments", "add"] and ["events", "check"] in done


@pytest.mark.parametrize("number", [0, 1])
async def test_python_samples_print_an_answer(stage: Stage, number: int) -> None:
    sample = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number]
    assert "glove" in (await output(stage, sys.executable, "-c", sample)).lower()


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")) or sys.platform == "win32",
    reason="needs curl, jq and a POSIX shell",
)
async def test_curl_prints_an_answer_like_the_one_shown(stage: Stage) -> None:
    (command,) = re.findall(r"```\n(curl .*?)```", README, re.DOTALL)
    (shown,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    printed = json.loads(await output(stage, "sh", "-c", command))
    assert "glove box" in printed and "glove box" in json.loads(shown)


async def output(stage: Stage, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(part.replace("http://127.0.0.1:7071", stage.url) for part in command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return printed.decode()
