"""A real browser without a window, spoken to in its own protocol (Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome", "msedge")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_FLAGS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--window-size=1000,1400"),
)
REQUIRED = "TESTS_NEED_BROWSER"
"""Set where a browser must be there, as in CI: then its lack is a failure, and never passed over."""


def find() -> str:
    """The browser on this machine; without one the test is skipped, or fails where `REQUIRED` is set."""
    found = next(filter(None, map(shutil.which, (*_NAMES, *_PLACES))), None)
    if found:
        return found
    told = "there is no Chromium or Chrome on this machine (Debian: `apt install chromium`)"
    if os.environ.get(REQUIRED):
        pytest.fail(f"{told}, and {REQUIRED} is set")
    pytest.skip(told)


class Page:
    """One page. `requested` has the address of everything that it asked for, `complaints` what it logged."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._numbers = count(1)
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            told = message.json()
            if (waiting := self._answers.pop(told.get("id", 0), None)) is not None:
                waiting.set_result(told)
            match told.get("method"):
                case "Network.requestWillBeSent":
                    self.requested.append(told["params"]["request"]["url"])
                case "Log.entryAdded":
                    self.complaints.append(told["params"]["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    self.complaints.append("a dialog was opened")
                case "Page.loadEventFired":
                    self._loaded.set()

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(60):
            answer = await self._answers[number]
        assert "error" not in answer, answer
        return answer["result"]

    async def open(self, url: str) -> None:
        """Returns when all of it is loaded."""
        self._loaded.clear()
        for domain in ("Network", "Page", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(60):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """By the tool, not by the page: whatever the page forbids itself."""
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Page]:
    """A page of a new browser, whose profile is in `folder`."""
    program = find()
    inside = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        *(program, *_FLAGS, *inside, f"--user-data-dir={folder}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:
            address = await _address(http, folder / "DevToolsActivePort")
            async with http.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                await socket.close()
                await listening
    finally:
        process.terminate()
        await process.wait()


async def _address(http: aiohttp.ClientSession, announced: Path) -> str:
    """Of the first page's socket, when the browser has said where it listens."""
    async with asyncio.timeout(60):
        while True:
            lines = await asyncio.to_thread(_words, announced)
            if lines:
                async with http.get(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    pages = [one for one in await answer.json() if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)


def _words(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split() if file.exists() else []
