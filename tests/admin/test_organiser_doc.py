"""docs/organiser.md, as a new organiser follows it: its commands in its order, and the answers that it shows."""

from __future__ import annotations

import asyncio
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.admin.manage import ROOT, Said, manage
from tests.conftest import KEY, Stage
from tools.azurite import Azurite

DOCUMENT = ROOT / "docs" / "organiser.md"
SIMULATOR, URL, CODE = "http://127.0.0.1:36427", "http://127.0.0.1:41889", "near-pond-tree-slain"
NEXT_YEAR = str(datetime.now(UTC).year + 1)


class Shown(NamedTuple):
    command: str
    answer: str


def shown() -> list[Shown]:
    """Every command of a `console` block, with the lines below it."""
    blocks = re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found = []
    for block in blocks:
        for one in block.removeprefix("$ ").split("\n$ "):
            command, _, answer = one.replace("\\\n", " ").partition("\n")
            found.append(Shown(command, answer.strip("\n")))
    return found


def shape(text: str) -> list[str]:
    """Its lines without what is another each time: figures, weekdays, the code, addresses, and white space."""
    for volatile in (CODE, SIMULATOR, URL):
        text = text.replace(volatile, "X")
    text = re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b", "day", re.sub(r"<?\d[\d.,:]*", "0", text))
    return [re.sub(r"─+", "─", " ".join(line.split())) for line in text.splitlines() if line.strip()]


@pytest.mark.usefixtures("deployments_as_before")
async def test_its_commands_work_in_their_order_and_say_what_it_shows(
    stage: Stage, azurite: Azurite, tmp_path: Path
) -> None:
    commands, code = shown(), ""
    assert len(commands) >= 15
    for command, expected in commands:
        real = command.replace(SIMULATOR, stage.simulator.url).replace(URL, stage.url).replace(CODE, code)
        program, *arguments = shlex.split(real.replace("2026-", f"{NEXT_YEAR}-"))[1:]
        assert program == "manage.py"
        arguments = [str(tmp_path / one) if one.endswith(".html") else one for one in arguments]
        run = told_usage if arguments[0] == "usage" else manage
        said = await run(azurite, *arguments, SIMULATOR_KEY=KEY, PROXY_URL=stage.url)
        assert said.status == ("FAIL" in expected), said.errors
        if arguments[:2] == ["events", "create"]:
            code = said.output.partition("API key    ")[2].partition("/")[0]
        told = (said.output + said.errors).replace(str(tmp_path) + "/", "")
        for mine, documents in ((stage.simulator.url, SIMULATOR), (stage.url, URL), (code or CODE, CODE)):
            told = told.replace(mine, documents)
        if arguments[0] == "usage" or arguments[1] == "list":
            assert shape(told)[0] == shape(expected)[0]
        else:
            assert shape(told) == shape(expected), command


async def told_usage(azurite: Azurite, *arguments: str, **more: str) -> Said:
    """What it says once the app has written down the rehearsal's calls: the document says `within some seconds`."""
    for _ in range(200):
        said = await manage(azurite, *arguments, **more)
        if "Nobody has used" not in said.output:
            return said
        await asyncio.sleep(0.1)
    raise AssertionError(said)


def test_every_command_is_in_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for command in ("create", "update", "check", "stop", "delete", "show"):
        assert f"events {command}" in text
    for command in ("add", "list", "disable"):
        assert f"deployments {command}" in text
