"""The commands of docs/organiser.md work in their order and print what it shows."""

from __future__ import annotations

import asyncio
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.admin.manage import ROOT, Result, manage
from tests.conftest import KEY, Stage
from tools.azurite import Azurite

DOCUMENT = ROOT / "docs" / "organiser.md"
SIMULATOR, URL, CODE = "http://127.0.0.1:36427", "http://127.0.0.1:41889", "near-pond-tree-slain"
NEXT_YEAR = str(datetime.now(UTC).year + 1)


class Example(NamedTuple):
    command: str
    output: str


def examples() -> list[Example]:
    """Every command of a `console` block, with the output below it."""
    blocks = re.findall(r"```console\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found = []
    for block in blocks:
        for one in block.removeprefix("$ ").split("\n$ "):
            command, _, output = one.replace("\\\n", " ").partition("\n")
            found.append(Example(command, output.strip("\n")))
    return found


def shape(text: str) -> list[str]:
    """Its lines without what differs each time: numbers, months, the code, addresses, keys and spaces."""
    text = re.sub(r"/desk#\S+", "/desk#KEY", text)
    for volatile in (CODE, SIMULATOR, URL):
        text = text.replace(volatile, "X")
    text = re.sub(
        r"\b0 (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b",
        "0 month",
        re.sub(r"<?\d[\d.,:]*", "0", text),
    )
    return [re.sub(r"─+", "─", " ".join(line.split())) for line in text.splitlines() if line.strip()]


@pytest.mark.usefixtures("deployments_as_before")
async def test_its_commands_work_in_their_order_and_print_what_it_shows(
    stage: Stage, azurite: Azurite, tmp_path: Path
) -> None:
    commands, code = examples(), ""
    assert len(commands) >= 15
    for command, expected in commands:
        real = command.replace(SIMULATOR, stage.simulator.url).replace(URL, stage.url).replace(CODE, code)
        program, *arguments = shlex.split(real.replace("2026-", f"{NEXT_YEAR}-"))[1:]
        assert program == "manage.py"
        arguments = [str(tmp_path / one) if one.endswith(".html") else one for one in arguments]
        run = usage_once_written if arguments[0] == "usage" else manage
        result = await run(azurite, *arguments, SIMULATOR_KEY=KEY, PROXY_URL=stage.url)
        assert result.status == ("FAIL" in expected), result.errors
        if arguments[:2] == ["events", "create"]:
            code = result.output.partition("API key    ")[2].partition("/")[0]
        printed = (result.output + result.errors).replace(str(tmp_path) + "/", "")
        for mine, documents in ((stage.simulator.url, SIMULATOR), (stage.url, URL), (code or CODE, CODE)):
            printed = printed.replace(mine, documents)
        if arguments[0] == "usage" or arguments[1] == "list":
            assert shape(printed)[0] == shape(expected)[0]
        else:
            assert shape(printed) == shape(expected), command


async def usage_once_written(azurite: Azurite, *arguments: str, **settings: str) -> Result:
    """The app writes the usage of the check some seconds later."""
    for _ in range(200):
        result = await manage(azurite, *arguments, **settings)
        if "No usage yet" not in result.output:
            return result
        await asyncio.sleep(0.1)
    raise AssertionError(result)


def test_the_document_names_every_command() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for command in (
        "create",
        "update",
        "check",
        "stop",
        "delete",
        "show",
        "rotate",
        "rename",
        "copy",
        "purge",
    ):
        assert f"events {command}" in text
    for command in ("import", "passes", "list", "block", "unblock", "limit", "reset", "release", "purge"):
        assert f"attendees {command}" in text
    for command in ("add", "list", "disable"):
        assert f"deployments {command}" in text
