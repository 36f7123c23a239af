"""The organiser's page, in a real browser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.app.page import page
from shared.core.counts import Counts, Minute, UsageRow
from shared.desk.keys import desk_key
from tests import browser
from tests.conftest import EVENT, MODEL, Stage
from tests.responses import response_of

pytestmark = pytest.mark.one_python

SECRET = "de5c"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[browser.Page]:
    async with browser.opened(tmp_path / "profile") as page:
        yield page


async def add_event(stage: Stage, **changes: object) -> tuple[str, str]:
    """A busy event with a name that is markup: its code and its desk key."""
    now = datetime.now(UTC)
    fields: dict[str, object] = {
        "name": HOSTILE,
        "tokens_total": 9_000,
        "starts_at": now - timedelta(hours=4),
    }
    code = await stage.add_event(desk_secret=SECRET, **(fields | changes))
    hour = now.replace(minute=0, second=0, microsecond=0)
    minutes = {minute: Minute(2, 30, 0, 4) for minute in range(max(0, now.minute - 9), now.minute + 1)}
    rows = [
        UsageRow(code, hour, f"user-{n}", MODEL, Counts(2, 10, 20, 4), minutes, "request_quota_exceeded")
        for n in range(30)
    ]
    await stage.tables.write_usage([*rows, UsageRow(code, hour, "amy", HOSTILE, Counts(1, 5, 5))], "w")
    return code, desk_key(replace(EVENT, code=code, desk_secret=SECRET))


async def text_when(opened: browser.Page, element: str, expected: str) -> str:
    """The text of the element, once it contains the expected one. Fails after 30 seconds."""
    for _ in range(600):
        text = str(await opened.evaluate(f"document.getElementById('{element}').innerText"))
        if expected in text:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(text)


async def tab_to(opened: browser.Page, text: str) -> None:
    """Press Tab until a button with this text has the focus."""
    for _ in range(80):
        if await opened.evaluate("document.activeElement.textContent") == text:
            return
        await opened.press("Tab")
    raise AssertionError(f"no way to {text!r} by Tab")


async def test_desk_may_only_run_its_own_script_and_call_this_proxy(stage: Stage) -> None:
    got = await response_of(stage.http.get(stage.url + "/desk"))
    policy = got.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), got.body, re.DOTALL)
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(inline).digest()).decode()}'" in policy
    body = page("desk.html").body
    assert not re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]", body.replace(b"//www.w3.org", b""))
    assert not re.findall(rb"\bsrc=|innerHTML|insertAdjacent|\son\w+=|style=", body)


async def test_organiser_stops_and_resumes_the_event_by_keyboard(stage: Stage, opened: browser.Page) -> None:
    code, key = await add_event(stage)
    await opened.open(f"{stage.url}/desk#{key}")
    assert await text_when(opened, "name", "onerror") == HOSTILE
    assert HOSTILE in await text_when(opened, "models", HOSTILE)
    assert "own requests of today are used up" in await text_when(opened, "stuck", "user-0")
    for answer in ("Escape", "Enter"):
        await tab_to(opened, "Stop")
        await opened.press("Enter")
        await opened.until("document.activeElement.id === 'yes'")
        assert "New requests are refused" in await text_when(opened, "ask", "Stop the event?")
        await opened.press(answer)
        await opened.until("!document.getElementById('ask').open")
    await text_when(opened, "headline", "Stopped")
    await text_when(opened, "done", "In effect on all instances.")
    event = await stage.tables.event(code)
    assert event is not None and not event.active
    await tab_to(opened, "Undo")
    await opened.press("Enter")
    await text_when(opened, "state", "open")
    assert (await stage.chat(code)).status == 200
    assert opened.complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in opened.requested)


async def test_who_has_a_wrong_pass_is_named_and_not_blocked_with_one_tap(
    stage: Stage, opened: browser.Page
) -> None:
    code, key = await add_event(stage, access="claim", pass_secret="5ec2e7")
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    minutes = {datetime.now(UTC).minute: Minute(refusals=9000)}
    rows = [
        UsageRow(code, hour, user, "", Counts(refusals=9000), minutes, "invalid_event_token")
        for user in ("cat", "")
    ]
    await stage.tables.write_usage(rows, "w2")
    await opened.open(f"{stage.url}/desk#{key}")
    stuck = await text_when(opened, "stuck", "cat")
    assert stuck.startswith("cat\nhas a wrong or no pass") and "user-0" in stuck
    assert await opened.evaluate(
        "[...document.querySelectorAll('#stuck li')].map(r => !r.querySelector('button'))"
    ) == [
        True,
        *[False] * 11,
    ]
    more = await text_when(opened, "stuck-none", "9,000 refused requests")
    assert more == "9,000 refused requests in 10 min with more names than are counted."


async def test_organiser_raises_a_limit_extends_and_blocks(stage: Stage, opened: browser.Page) -> None:
    code, key = await add_event(stage)
    await opened.open(f"{stage.url}/desk#{key}")

    async def do(button: str, question: str, within: str = "actions", slips: tuple[str, ...] = ()) -> None:
        buttons = f"[...document.getElementById('{within}').querySelectorAll('button')]"
        await text_when(opened, within, button)
        await opened.evaluate(f"{buttons}.find((one) => one.textContent === '{button}').click()")
        await text_when(opened, "ask", question)
        for value in slips:
            field = f"Object.assign(document.getElementById('to'), {{value: '{value}'}})"
            await opened.evaluate(f"{field}.dispatchEvent(new Event('input'))")
            await opened.evaluate("document.getElementById('yes').click()")
            assert await opened.evaluate("document.getElementById('ask').open")
        await opened.evaluate("document.querySelectorAll('#quick button')[1].click()")
        await opened.evaluate("document.getElementById('yes').click()")

    await do("Raise", "Now: 9,000.", slips=("10.000", "9,5", "9000", "-1", "1e9", ""))
    await text_when(opened, "done", "The limit 'tokens total' is now 11,250.")
    await do("+30 min", "The event then ends ")
    await text_when(opened, "done", "The event ends on")
    await opened.evaluate("document.querySelector('#stuck button').focus()")
    assert await opened.evaluate("document.activeElement.ariaLabel") == "Block user-0"
    await do("Block", "Block user-0?", "stuck")
    await text_when(opened, "blocked", "user-0")
    await opened.until("document.activeElement.ariaLabel === 'Unblock user-0'")
    event = await stage.tables.event(code)
    assert event is not None and event.exceptions == {"user-0": {"blocked": True}}
    assert (event.tokens_total, event.ends_at) == (11_250, EVENT.ends_at + timedelta(minutes=30))


async def test_a_lost_network_is_shown_and_comes_back_and_the_phones_clock_does_not_matter(
    stage: Stage, opened: browser.Page
) -> None:
    _, key = await add_event(stage)
    await opened.send("Page.enable")
    wrong = (
        "Date = class extends Date { static now() { return 0; }"
        "constructor(...all) { super(...(all.length ? all : [0])); } }"
    )
    await opened.send("Page.addScriptToEvaluateOnNewDocument", source=wrong)
    await opened.open(f"{stage.url}/desk#{key}")
    await text_when(opened, "clock", f"{datetime.now(UTC):%H:}")
    await text_when(opened, "headline", "Runs out at")
    await opened.evaluate(
        "window.real = fetch; window.fetch = () => Promise.reject(new TypeError('Failed')); refresh(); 0"
    )
    text = await text_when(opened, "banner", "Cannot reach the proxy. These numbers are from")
    assert "TypeError" not in text and await opened.evaluate("!document.getElementById('desk').hidden")
    await opened.evaluate("window.fetch = window.real; dispatchEvent(new Event('online')); 0")
    await opened.until("document.getElementById('banner').hidden")


async def test_projector_shows_no_names_and_takes_the_key_out_of_the_address(
    stage: Stage, opened: browser.Page
) -> None:
    code, key = await add_event(stage)
    await opened.open(f"{stage.url}/desk#projector/{key}")
    await text_when(opened, "tiles", "Attendees active")
    text = str(await opened.evaluate("document.body.innerText + location.href"))
    hidden = str(await opened.evaluate("document.getElementById('desk').textContent"))
    assert key not in text and code not in text and "user-" not in text + hidden and "Stop" not in text


@pytest.mark.parametrize("link", ["nonsense", "a/b", "%3Cscript%3E", "desk.YQ.AAAAAAAAAAAAAAAAAAAAAA"])
async def test_a_wrong_link_is_refused_and_another_can_be_entered(
    stage: Stage, opened: browser.Page, link: str
) -> None:
    _, key = await add_event(stage)
    await opened.open(f"{stage.url}/desk#{link}")
    await text_when(opened, "banner", "desk link")
    await opened.evaluate(
        f"document.getElementById('link').value = {json.dumps(f'{stage.url}/desk#{key}')};"
        "document.querySelector('#enter button').click()"
    )
    await text_when(opened, "tiles", "Tokens left")


async def test_an_end_at_midnight_is_shown_as_that_day(stage: Stage, opened: browser.Page) -> None:
    ends_at = datetime(2099, 1, 1, tzinfo=EVENT.time_zone)
    _, key = await add_event(stage, tokens_total=None, ends_at=ends_at)
    await opened.open(f"{stage.url}/desk#{key}")
    await text_when(opened, "because", "The event ends at the end of Wed, Dec 31.")


@pytest.mark.parametrize(("width", "view"), [(390, ""), (768, ""), (1280, ""), (1920, "projector/")])
async def test_desk_is_not_wider_than_the_window(
    stage: Stage, opened: browser.Page, width: int, view: str
) -> None:
    _, key = await add_event(stage, name="W" * 60, cost_total=10**12, requests_total=10**12)
    await opened.send(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
    )
    await opened.open(f"{stage.url}/desk#{view}{key}")
    await text_when(opened, "tiles", "Tokens left")
    assert await opened.evaluate("document.documentElement.scrollWidth") <= width
