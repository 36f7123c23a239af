"""What a person does on the attendee's page, in a real browser."""

from __future__ import annotations

import json
from typing import Any

from tests import browser
from tests.conftest import Stage

CTRL = 2


class AttendeePage:
    """One page. Elements are named by their ids."""

    def __init__(self, page: browser.Page) -> None:
        self.page = page

    async def run(self, script: str) -> Any:
        return await self.page.evaluate(script)

    async def get(self, element: str, attribute: str) -> Any:
        return await self.run(f"document.getElementById('{element}').{attribute}")

    async def text(self, element: str, expected: str) -> str:
        """The text of the element, once it contains the expected one. Fails after 30 seconds."""
        element = f"document.getElementById('{element}').textContent"
        try:
            await self.page.until(f"{element}.includes({json.dumps(expected)})")
        except AssertionError:
            raise AssertionError(expected, await self.run(element)) from None
        return str(await self.run(element))

    async def click(self, element: str) -> None:
        await self.run(f"document.getElementById('{element}').click()")

    async def enter(self, element: str, text: str, event: str = "input") -> None:
        """Type into a field or choose an option."""
        await self.run(
            f"document.getElementById('{element}').value = {json.dumps(text)};"
            f"document.getElementById('{element}').dispatchEvent(new Event('{event}'))"
        )

    async def sign_in(self, code: str, user: str = "amy") -> None:
        await self.enter("code", code)
        await self.enter("user", user)
        await self.run("document.querySelector('#sign-in button').click()")

    async def show_event(self, stage: Stage, code: str) -> None:
        """Follow a link that has the whole key."""
        await self.page.open("about:blank")
        await self.page.open(f"{stage.url}/#{code}/amy")
        await self.text("state", "Open now.")

    async def ask(self, question: str, *, shows: str) -> str:
        """Ask, and return the text of the chat once it has ended and contains this."""
        await self.enter("question", question)
        await self.click("ask")
        return await self.chat(shows)

    async def chat(self, shows: str) -> str:
        await self.text("log", shows)
        await self.page.until("document.getElementById('stop').hidden")
        return str(await self.get("log", "textContent"))

    async def type(self, text: str) -> None:
        await self.page.send("Input.insertText", text=text)

    async def tab_to(self, element: str) -> None:
        """Press Tab until the element has the focus."""
        for _ in range(50):
            if await self.run("document.activeElement.id || document.activeElement.textContent") == element:
                return
            await self.page.press("Tab")
        raise AssertionError(f"Tab does not reach {element}")


async def as_new(page: browser.Page, origin: str) -> AttendeePage:
    """The page of a browser that has never seen the proxy. It starts faster than a new browser."""
    await page.open("about:blank")
    await page.send("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
    await page.send("Emulation.clearDeviceMetricsOverride")
    await page.send("Emulation.setTimezoneOverride", timezoneId="")
    page.requested.clear()
    page.complaints.clear()
    return AttendeePage(page)
