"""The attendee's page at `/`: what it is allowed to do, and what it says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.app.page import page
from tests import browser
from tests.conftest import MODEL, Stage, answered
from tools.simulator import Answer, CutStream


async def test_the_page_is_at_the_root_and_needs_no_credential(stage: Stage) -> None:
    got = await answered(stage.http.get(stage.url + "/"))
    assert got.status == 200
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    assert b"<title>Azure OpenAI for your event</title>" in got.body
    assert not stage.simulator.calls


async def test_the_page_may_run_its_own_script_and_call_this_proxy_and_nothing_else(stage: Stage) -> None:
    got = await answered(stage.http.get(stage.url + "/"))
    policy = dict(
        directive.strip().split(" ", 1) for directive in got.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), got.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"


def test_the_page_names_no_other_host() -> None:
    body = page().body
    assert isinstance(body, bytes)
    assert not re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]", body)
    assert b"src=" not in body and b"innerHTML" not in body


# ---- in a real browser


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[browser.Page]:
    async with browser.opened(tmp_path / "profile") as page:
        yield page


async def text_when(opened: browser.Page, element: str, holds: str) -> str:
    """The text of that element, once this is in it: within a bounded number of looks."""
    for _ in range(600):
        text = str(await opened.evaluate(f"document.getElementById('{element}').textContent"))
        if holds in text:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(text)


async def sign_in(opened: browser.Page, code: str, user: str) -> None:
    await opened.evaluate(
        f"document.getElementById('code').value = {json.dumps(code)};"
        f"document.getElementById('user').value = {json.dumps(user)};"
        "document.querySelector('#who button').click()"
    )


async def test_an_attendee_sees_the_event_asks_and_sees_what_is_left(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(name="<b>Winter</b> hack", requests_per_day=5, organizer="Ann")
    await opened.open(f"{stage.url}/#{code}/amy")
    await opened.evaluate("document.querySelector('#who button').click()")
    assert await text_when(opened, "name", "hack") == "<b>Winter</b> hack"
    facts = await text_when(opened, "facts", "5 of 5 left")
    assert "Ann" in facts and MODEL in facts
    assert f'api_key="{code}/amy"' in await text_when(opened, "sample", stage.url)
    stage.simulator.always(MODEL, Answer(text="A box with gloves."))
    await opened.evaluate("document.getElementById('ask').click()")
    await text_when(opened, "answer", "A box with gloves.")
    await text_when(opened, "facts", "4 of 5 left")
    assert opened.complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in opened.requested)
    (call,) = stage.simulator.calls
    assert call.json["stream"] is True


async def test_a_wrong_code_and_a_used_up_quota_are_told_in_the_proxys_own_words(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(requests_per_day=0)
    await opened.open(stage.url)
    await sign_in(opened, "no-such-event", "amy")
    await text_when(opened, "trouble", "with the event code that your organiser gave you")
    await sign_in(opened, code, "amy")
    await text_when(opened, "facts", "0 of 0 left")
    await opened.evaluate("document.getElementById('ask').click()")
    await text_when(opened, "answer", "Ask your organiser to raise it.")
    assert await opened.evaluate("document.getElementById('trouble').hidden")


async def test_an_event_whose_total_is_used_is_told_before_anybody_asks(
    stage: Stage, opened: browser.Page
) -> None:
    code = await stage.add_event(requests_total=0)
    await opened.open(stage.url)
    await sign_in(opened, code, "amy")
    await text_when(opened, "state", "the event has used all that it may: ask your organiser")


NAMES = [
    ("hackathon", "J\u00fcrgen", "Your GitHub name has \u201c\u00fc\u201d in it."),
    ("hackathon", "\u674e\u96f7", "Your GitHub name has \u201c\u674e\u201d in it."),
    ("hackathon", "amy\U0001f600", "Your GitHub name has \u201c\U0001f600\u201d in it."),
    ("hackathon", "amy lee", "Your GitHub name has \u201c \u201d in it."),
    ("hackathon/amy", "amy", "The event code has \u201c/\u201d in it."),
    ("h\u00e4ckathon", "amy", "The event code has \u201c\u00e4\u201d in it."),
    (" ", "amy", "The event code is missing."),
    ("hackathon", "a" * 65, "Your GitHub name is longer than 64 characters."),
]


async def test_a_name_that_the_proxy_cannot_take_is_told_so_and_one_with_all_that_it_takes_is_welcome(
    stage: Stage, opened: browser.Page
) -> None:
    await opened.open(stage.url)
    for code, user, says in NAMES:
        await sign_in(opened, code, user)
        await text_when(opened, "trouble", says)
    assert "EVENT_CODE/YOUR_GITHUB_NAME" in await text_when(opened, "sample", stage.url)
    assert not [url for url in opened.requested if url.endswith("/v1/event")]
    code = await stage.add_event(name="Winter hack")
    await sign_in(opened, f" {code.upper()} ", "Az09._@+-")
    await text_when(opened, "name", "Winter hack")
    assert await opened.evaluate("document.getElementById('trouble').hidden")
    assert opened.complaints == []


async def test_a_stream_that_is_cut_is_told_beneath_what_came(stage: Stage, opened: browser.Page) -> None:
    code = await stage.add_event()
    stage.simulator.always(MODEL, CutStream(after=4))
    await opened.open(f"{stage.url}/#{code}/amy")
    await opened.evaluate("document.querySelector('#who button').click()")
    await text_when(opened, "state", "Open now.")
    await opened.evaluate("document.getElementById('ask').click()")
    await text_when(opened, "answer", "was cut off")
    assert not await opened.evaluate("document.getElementById('ask').disabled")


async def show_and_ask(stage: Stage, opened: browser.Page, code: str) -> None:
    await opened.open(f"{stage.url}/#{code}/amy")
    await opened.evaluate("document.querySelector('#who button').click()")
    await text_when(opened, "state", "Open now.")
    await opened.evaluate("document.getElementById('ask').click()")


async def test_an_answer_about_the_end_of_streams_is_shown_whole(stage: Stage, opened: browser.Page) -> None:
    stage.simulator.always(MODEL, Answer(text="It ends in [DONE], or data: [DONE] in full."))
    await show_and_ask(stage, opened, await stage.add_event(requests_per_day=5))
    await text_when(opened, "facts", "4 of 5 left")
    assert await text_when(opened, "answer", "in full") == "It ends in [DONE], or data: [DONE] in full."


@pytest.mark.parametrize("pieces", [None, 3], ids=["before-the-answer", "within-it"])
async def test_after_a_stop_the_numbers_are_those_that_the_call_has_left(
    stage: Stage, opened: browser.Page, pieces: int | None
) -> None:
    code = await stage.add_event(requests_per_day=5, tokens_per_day=9_000)
    gate = stage.simulator.gate(MODEL, Answer("One two three four five."))
    if pieces is not None:
        gate.open(pieces)
    await show_and_ask(stage, opened, code)
    await (gate.arrived() if pieces is None else gate.reached(pieces))
    await opened.evaluate("document.getElementById('stop').click()")
    # Chromium may go on reading for five seconds, to keep the connection, before it closes it.
    await stage.simulator.until(lambda calls: calls[0].ended, timeout=20)
    got = await stage.http.get(f"{stage.url}/v1/event", headers={"api-key": f"{code}/amy"})
    left = (await got.json())["tokens"]["remaining"]
    assert "4 of 5 left" in await text_when(opened, "facts", f"{left:,} of 9,000 left")
    assert not await opened.evaluate("document.getElementById('ask').disabled")


async def test_after_a_cut_stream_the_numbers_are_those_that_it_has_left(
    stage: Stage, opened: browser.Page
) -> None:
    stage.simulator.always(MODEL, CutStream(after=4))
    await show_and_ask(stage, opened, await stage.add_event(requests_per_day=5))
    await text_when(opened, "answer", "was cut off")
    await text_when(opened, "facts", "4 of 5 left")


async def test_a_chosen_model_stays_chosen_after_an_answer(stage: Stage, opened: browser.Page) -> None:
    await opened.open(f"{stage.url}/#{await stage.add_event(requests_per_day=5)}/amy")
    await opened.evaluate("document.querySelector('#who button').click()")
    await text_when(opened, "state", "Open now.")
    await opened.evaluate(
        "document.getElementById('model').value = 'gpt-4o';"
        "document.getElementById('model').dispatchEvent(new Event('change'));"
        "document.getElementById('ask').click()"
    )
    await text_when(opened, "facts", "4 of 5 left")
    assert await opened.evaluate("document.getElementById('model').value") == "gpt-4o"
    assert 'model="gpt-4o"' in await text_when(opened, "sample", stage.url)
    other = await stage.add_event(models=("gpt-4o", MODEL))
    await sign_in(opened, other, "amy")
    await text_when(opened, "sample", f'model="{MODEL}"')


async def test_a_link_that_was_damaged_leaves_the_page_in_working_order(
    stage: Stage, opened: browser.Page
) -> None:
    await opened.open(f"{stage.url}/#100%/amy")
    assert f'base_url="{stage.url}/v1"' in await text_when(opened, "sample", stage.url)
    assert await opened.evaluate("document.getElementById('code').value") == "100%"
    assert opened.complaints == []
