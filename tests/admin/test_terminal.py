"""`manage.py` on a narrow terminal: no name is cut."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.core.counts import Counts, UsageRow
from shared.core.models import Deployment
from tests.admin.manage import ROOT, environment
from tests.conftest import EVENT
from tests.seeded_tables import Tables
from tools.azurite import Azurite

if sys.platform == "win32":
    pytest.skip("no pseudo-terminals on Windows", allow_module_level=True)

import fcntl
import pty
import termios

SECOND_PAGE, FIRST_PAGE = "\x1b[?1049h", "\x1b[?1049l"
"""Switch a terminal to a page of its own, and back (xterm, "Control Sequences")."""


def plain(text: str) -> str:
    """Without colours and other control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Terminal:
    """The terminal of a program, with everything it has drawn."""

    def __init__(self, process: asyncio.subprocess.Process, end: int) -> None:
        self.process = process
        self.text = ""
        self._end = end
        self._drawn = asyncio.Event()
        os.set_blocking(end, False)
        asyncio.get_running_loop().add_reader(end, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # the program closed its end
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._end)
        self.text += data.decode().replace("\r\n", "\n")
        self._drawn.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(30):
            while text not in self.text:
                self._drawn.clear()
                await self._drawn.wait()

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            return await self.process.wait()


@asynccontextmanager
async def terminal(
    azurite: Azurite, *arguments: str, columns: int = 80, lines: int = 24
) -> AsyncIterator[Terminal]:
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    settings = environment(azurite, {"TERM": "xterm"})
    settings = {name: value for name, value in settings.items() if name not in {"COLUMNS", "LINES"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "manage.py"),
        *arguments,
        env=settings,
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    try:
        yield Terminal(process, ours)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


def used(event: str, user: str) -> UsageRow:
    return UsageRow(event, datetime.now(UTC), user, "m", Counts(1, 1_234, 5_678))


async def test_watch_draws_no_more_than_fits_on_the_terminal(tables: Tables, azurite: Azurite) -> None:
    await tables.put_event(replace(EVENT, code="crowded", name="Crowd"))
    await tables.write_usage([used("crowded", f"guest-{number}") for number in range(50)], "w")
    watching = ("usage", "crowded", "--watch", "--every", "2")
    async with terminal(azurite, *watching, columns=60, lines=14) as screen:
        await screen.until("more users, included in the total")
        await tables.write_usage([used("crowded", "late")], "other")
        await screen.until("352,512")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ended() == 0
        await screen.until(FIRST_PAGE)
    before, _, drawn = screen.text.partition(SECOND_PAGE)
    drawn, _, after = drawn.partition(FIRST_PAGE)
    assert before == ""
    frames = [frame for one in drawn.split("\x1b[H") if (frame := plain(one))]
    assert len(frames) >= 2
    assert all(frame.count("\n") < 14 for frame in frames)
    assert all("Crowd (crowded)" in frame and "Press Ctrl-C to stop." in frame for frame in frames)
    assert "guest-0" in after and "total" in after and "Ctrl-C" not in after


@pytest.mark.parametrize(("columns", "shown"), [(80, "prompt"), (60, "errors"), (40, "requests")])
async def test_usage_on_a_narrow_terminal_hides_columns_and_cuts_no_name(
    tables: Tables, azurite: Azurite, columns: int, shown: str
) -> None:
    await tables.put_event(replace(EVENT, code="narrow"))
    await tables.write_usage([used("narrow", "a-long-name")], "w")
    async with terminal(azurite, "usage", "narrow", columns=columns) as screen:
        assert await screen.ended() == 0
        await screen.until("No cost")
    table, _, _ = plain(screen.text).partition("No cost")
    assert "a-long-name" in table and "6,912" in table and shown in table
    assert ("prompt" in table, "errors" in table) == (columns >= 80, columns >= 60)
    assert max(len(line) for line in table.splitlines()) <= columns


async def test_a_list_too_wide_for_the_terminal_is_printed_line_by_line(
    tables: Tables, azurite: Azurite
) -> None:
    one = Deployment("a-model-of-the-list", "wide", "https://a-long-name.openai.azure.com", "its-deployment")
    await tables.put_deployment(one)
    async with terminal(azurite, "deployments", "list") as screen:
        assert await screen.ended() == 0
        await screen.until("last seen")
    await tables.delete_deployment(one.model, one.id)
    _, _, printed = plain(screen.text).partition("a-model-of-the-list\n")
    assert (
        "  deployment  its-deployment\n  id          wide\n  endpoint    https://a-long-name.openai.azure.com\n"
        in printed
    )
