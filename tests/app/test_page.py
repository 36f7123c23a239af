"""The attendee's page: its headers, and how it works in a real browser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shared.app.page import page
from tests import browser
from tests.conftest import EVENT, MODEL, Stage
from tests.responses import response_of
from tools.simulator import Answer, CutStream


async def test_page_is_at_the_root_and_needs_no_credential(stage: Stage) -> None:
    got = await response_of(stage.http.get(stage.url + "/"))
    assert got.status == 200
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Azure OpenAI for your event</title>" in got.body
    assert not stage.simulator.calls


async def test_page_may_only_run_its_own_script_and_call_this_proxy(stage: Stage) -> None:
    got = await response_of(stage.http.get(stage.url + "/"))
    policy = dict(
        directive.strip().split(" ", 1) for directive in got.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), got.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"


def test_page_names_no_other_host() -> None:
    body = page().body
    assert isinstance(body, bytes)
    assert not re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]", body)
    assert b"src=" not in body and b"innerHTML" not in body


# ---- in a real browser


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[browser.Page]:
    async with browser.opened(tmp_path / "profile") as page:
        yield page


async def text_when(opened: browser.Page, element: str, expected: str) -> str:
    """The text of the element, once it contains the expected one. Fails after 30 seconds."""
    for _ in range(600):
        text = str(await opened.evaluate(f"document.getElementById('{element}').textContent"))
        if expected in text:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(text)


async def click(opened: browser.Page, element: str) -> None:
    await opened.evaluate(f"document.getElementById('{element}').click()")


async def sign_in(opened: browser.Page, code: str, user: str = "amy") -> None:
    await opened.evaluate(
        f"document.getElementById('code').value = {json.dumps(code)};"
        f"document.getElementById('user').value = {json.dumps(user)};"
        "document.querySelector('#sign-in button').click()"
    )


async def show_event(stage: Stage, opened: browser.Page, code: str) -> None:
    """Follow an organiser's link, and show the event that it fills in."""
    await opened.open(f"{stage.url}/#{code}/amy")
    await opened.evaluate("document.querySelector('#sign-in button').click()")
    await text_when(opened, "state", "Open now.")


async def test_attendee_sees_the_event_gets_an_answer_and_sees_the_remaining_quota(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(name="<b>Winter</b> hack", requests_per_day=5, organizer="Ann")
    await opened.send("Emulation.setTimezoneOverride", timezoneId=EVENT.time_zone.key)
    await show_event(stage, opened, code)
    assert await text_when(opened, "name", "hack") == "<b>Winter</b> hack"
    facts = await text_when(opened, "facts", "5 of 5 left, resets tonight at midnight")
    assert "Ann" in facts and MODEL in facts
    assert f'api_key="{code}/amy"' in await text_when(opened, "sample", stage.url)
    await text_when(opened, "key", f"{code}/amy")
    stage.simulator.always(MODEL, Answer(text="A box with gloves."))
    await click(opened, "ask")
    await text_when(opened, "answer", "A box with gloves.")
    await text_when(opened, "facts", "4 of 5 left")
    assert opened.complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in opened.requested)
    (call,) = stage.simulator.calls
    assert call.json["stream"] is True


async def test_page_shows_the_proxys_messages_for_a_wrong_code_and_a_used_up_quota(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(requests_per_day=0)
    await opened.open(stage.url)
    await sign_in(opened, "no-such-event")
    await text_when(opened, "problem", "Check the event code with your organiser.")
    await sign_in(opened, code)
    await text_when(opened, "facts", "0 of 0 left")
    await click(opened, "ask")
    await text_when(opened, "answer", "Ask your organiser to raise it.")
    assert await opened.evaluate("document.getElementById('problem').hidden")


async def test_page_shows_that_the_events_total_is_used_before_any_request(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(requests_total=0)
    await opened.open(stage.url)
    await sign_in(opened, code)
    await text_when(opened, "state", "the event has used its whole quota. Ask your organiser.")


async def test_page_shows_that_an_event_has_ended(stage: Stage, opened: browser.Page) -> None:
    code = await stage.add_event(ends_at=EVENT.starts_at, requests_per_day=5)
    await opened.open(stage.url)
    await sign_in(opened, code)
    await text_when(opened, "state", "This event has ended. Ask your organiser to extend it.")
    assert "resets" not in await text_when(opened, "facts", "5 of 5 left")
    assert await opened.evaluate("document.getElementById('play').hidden")


async def test_quota_resets_at_midnight_in_the_time_zone_of_the_event(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(requests_per_day=5, time_zone=ZoneInfo("Asia/Kolkata"))
    await opened.send("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
    await show_event(stage, opened, code)
    await text_when(opened, "facts", "5 of 5 left, resets at midnight (Asia/Kolkata)")


INVALID = [
    ("hackathon", "J\u00fcrgen", "Your GitHub name cannot contain \u201c\u00fc\u201d."),
    ("hackathon", "\u674e\u96f7", "Your GitHub name cannot contain \u201c\u674e\u201d."),
    ("hackathon", "amy\U0001f600", "Your GitHub name cannot contain \u201c\U0001f600\u201d."),
    ("hackathon", "amy lee", "Your GitHub name cannot contain spaces."),
    ("hackathon/amy", "amy", "The event code cannot contain \u201c/\u201d."),
    ("h\u00e4ckathon", "amy", "The event code cannot contain \u201c\u00e4\u201d."),
    (" ", "amy", "The event code is missing."),
    ("hackathon", "a" * 65, "Your GitHub name is too long."),
]


async def test_page_rejects_invalid_names_itself_and_accepts_every_valid_character(
    stage: Stage, opened: browser.Page
) -> None:
    await opened.open(stage.url)
    for code, user, problem in INVALID:
        await sign_in(opened, code, user)
        await text_when(opened, "problem", problem)
    assert "EVENT-CODE/YOUR-NAME" in await text_when(opened, "sample", stage.url)
    assert not [url for url in opened.requested if url.endswith("/v1/event")]
    code = await stage.add_event(name="Winter hack")
    await sign_in(opened, f" {code.upper()} ", "Az09._@+-")
    await text_when(opened, "name", "Winter hack")
    assert await opened.evaluate("document.getElementById('problem').hidden")
    assert opened.complaints == []


async def test_answer_that_mentions_the_end_of_streams_is_shown_whole(
    stage: Stage, opened: browser.Page
) -> None:
    stage.simulator.always(MODEL, Answer(text="It ends in [DONE], or data: [DONE] in full."))
    await show_event(stage, opened, await stage.add_event(requests_per_day=5))
    await click(opened, "ask")
    await text_when(opened, "facts", "4 of 5 left")
    assert await text_when(opened, "answer", "in full") == "It ends in [DONE], or data: [DONE] in full."


@pytest.mark.parametrize("pieces", [None, 3], ids=["before-the-answer", "within-it"])
async def test_page_shows_the_remaining_quota_after_a_stop(
    stage: Stage, opened: browser.Page, pieces: int | None
) -> None:
    code = await stage.add_event(requests_per_day=5, tokens_per_day=9_000)
    gate = stage.simulator.gate(MODEL, Answer("One two three four five."))
    if pieces is not None:
        gate.open(pieces)
    await show_event(stage, opened, code)
    await click(opened, "ask")
    await (gate.arrived() if pieces is None else gate.reached(pieces))
    await click(opened, "stop")
    # Chromium may read for five more seconds before it closes the connection.
    await stage.simulator.until(lambda calls: calls[0].ended, seconds=20)
    got = await stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/amy"})
    left = (await got.json())["tokens"]["remaining"]
    assert "4 of 5 left" in await text_when(opened, "facts", f"{left:,} of 9,000 left")
    assert not await opened.evaluate("document.getElementById('ask').disabled")


async def test_page_shows_the_error_and_the_remaining_quota_after_a_cut_stream(
    stage: Stage, opened: browser.Page
) -> None:
    stage.simulator.always(MODEL, CutStream(after=4))
    await show_event(stage, opened, await stage.add_event(requests_per_day=5))
    await click(opened, "ask")
    await text_when(opened, "answer", "was cut off")
    await text_when(opened, "facts", "4 of 5 left")
    assert not await opened.evaluate("document.getElementById('ask').disabled")


async def test_selected_model_stays_selected_after_an_answer(stage: Stage, opened: browser.Page) -> None:
    await show_event(stage, opened, await stage.add_event(requests_per_day=5))
    await opened.evaluate(
        "document.getElementById('model').value = 'gpt-4o';"
        "document.getElementById('model').dispatchEvent(new Event('change'))"
    )
    await click(opened, "ask")
    await text_when(opened, "facts", "4 of 5 left")
    assert await opened.evaluate("document.getElementById('model').value") == "gpt-4o"
    assert 'model="gpt-4o"' in await text_when(opened, "sample", stage.url)
    await sign_in(opened, await stage.add_event(models=("gpt-4o", MODEL)))
    await text_when(opened, "sample", f'model="{MODEL}"')


async def test_page_works_with_a_damaged_link(stage: Stage, opened: browser.Page) -> None:
    await opened.open(f"{stage.url}/#100%/amy")
    assert f'base_url="{stage.url}/v1"' in await text_when(opened, "sample", stage.url)
    assert await opened.evaluate("document.getElementById('code').value") == "100%"
    assert opened.complaints == []
