"""README.md's block for organisers, and the one that `manage.py --help` shows: each works in its order."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.admin.manage import ROOT, manage
from tests.conftest import KEY, Stage
from tools.azurite import Azurite

NEXT_YEAR = datetime.now(UTC).year + 1
ENDPOINT = "https://NAME.openai.azure.com"


async def shown(where: str) -> list[list[str]]:
    """The arguments of its commands, for a simulated Azure OpenAI and an event that begins next year."""
    told = (await manage(None, "--help")).output
    text = told if where == "help" else (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("\\\n", " ").replace(" --managed-identity", "").replace("2026-", f"{NEXT_YEAR}-")
    return [shlex.split(line, comments=True) for line in re.findall(r"(?m)^ *python3 manage\.py (.*)", text)]


@pytest.mark.usefixtures("deployments_as_before")
@pytest.mark.parametrize("where", ["README.md", "help"])
async def test_the_commands_that_are_shown_work_in_their_order(
    stage: Stage, azurite: Azurite, tmp_path: Path, where: str
) -> None:
    code, done = "", []
    for command in await shown(where):
        if "--watch" in command:
            continue
        places = {ENDPOINT: stage.simulator.url, "CODE": code, "report.html": str(tmp_path / "report.html")}
        arguments = [places.get(one, one) for one in command]
        if arguments[0] == "deployments":
            arguments += ["--key-env", "SIMULATOR_KEY"]
        said = await manage(azurite, *arguments, SIMULATOR_KEY=KEY, PROXY_URL=stage.url)
        assert said.status == 0, (arguments, said.output, said.errors)
        done.append(arguments[:2])
        code = code or said.output.partition("API key    ")[2].partition("/")[0]
    assert done[0] == ["deployments", "add"] and ["events", "check"] in done
