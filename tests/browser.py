"""A headless browser for tests, driven by the Chrome DevTools Protocol."""

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
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1000,1400",
)
_KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), " ": (0, " ")}
REQUIRED = "TESTS_NEED_BROWSER"
"""Set where a browser must be installed, as in CI: without one, the tests fail in place of being skipped."""


def find() -> str:
    """The browser on this machine. Without one, skip the test, or fail where `REQUIRED` is set."""
    found = next(filter(None, map(shutil.which, (*_NAMES, *_PLACES))), None)
    if found:
        return found
    reason = "Chromium or Chrome is not installed (on Debian: `apt install chromium`)."
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} {REQUIRED} requires it.")
    pytest.skip(reason)


class Page:
    """One page. `requested` has the URL of each request, `complaints` the browser's log and dialogs."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._results: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self._numbers = count(1)
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            received = message.json()
            if (waiting := self._results.pop(received.get("id", 0), None)) is not None:
                waiting.set_result(received)
            match received.get("method"):
                case "Network.requestWillBeSent":
                    self.requested.append(received["params"]["request"]["url"])
                case "Log.entryAdded":
                    self.complaints.append(received["params"]["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    self.complaints.append("a dialog was opened")
                case "Page.loadEventFired":
                    self._loaded.set()

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._results[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(60):
            received = await self._results[number]
        assert "error" not in received, received
        return received["result"]

    async def open(self, url: str) -> None:
        """Open the URL, and wait until the page is loaded."""
        self._loaded.clear()
        for domain in ("Network", "Page", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(60):
            await self._loaded.wait()

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. The page's content security policy does not apply."""
        result = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true. Fails after 30 seconds."""
        for _ in range(1500):
            if await self.evaluate(condition):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(condition)

    async def press(self, key: str, modifiers: int = 0) -> None:
        code, text = _KEYS.get(key, (0, ""))
        typed = {"text": text} if text and not modifiers else {}
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                modifiers=modifiers,
                windowsVirtualKeyCode=code,
                **typed,
            )


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Page]:
    """A page of a new browser, whose profile is in `folder`."""
    program = find()
    sandbox = ["--no-sandbox"] if sys.platform == "linux" and os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        program,
        *_FLAGS,
        *sandbox,
        f"--user-data-dir={folder}",
        "about:blank",
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


async def _address(http: aiohttp.ClientSession, port_file: Path) -> str:
    """The address of the first page's web socket. Waits until the browser has written its port."""
    async with asyncio.timeout(60):
        while True:
            lines = await asyncio.to_thread(_words, port_file)
            if lines:
                async with http.get(f"http://127.0.0.1:{lines[0]}/json") as response:
                    pages = [one for one in await response.json() if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.05)


def _words(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split() if file.exists() else []
