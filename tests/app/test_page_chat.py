"""The chat of the attendee's page, in a real browser."""

from __future__ import annotations

import asyncio
import base64
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.app.attendee_page import CTRL, AttendeePage
from tests.conftest import MODEL, Stage
from tools.simulator import Answer, CutStream
from tools.simulator.behaviours import RawStream
from tools.simulator.png import base64_picture

pytestmark = pytest.mark.one_python


async def test_chat_sends_all_turns_the_system_prompt_and_the_model_and_can_retry(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.show_event(stage, await stage.add_event(requests_per_day=5))
    for model, answer in [(MODEL, "One."), ("gpt-4o", "Two."), ("gpt-4o", "Three [DONE] data: [DONE]")]:
        stage.simulator.behave(model, Answer(answer))
    await opened.enter("system", "Be brief.")
    await opened.ask("First?", shows="One.")
    await opened.enter("model", "gpt-4o", "change")
    await opened.ask("Second?", shows="Two.")
    await opened.click("retry")
    chat = await opened.chat("Three [DONE] data: [DONE]")
    assert "Two." not in chat and f"{MODEL}One." in chat and "gpt-4oThree" in chat
    calls = [call.json for call in stage.simulator.calls]
    assert [call["model"] for call in calls] == [MODEL, "gpt-4o", "gpt-4o"]
    assert calls[2]["messages"] == calls[1]["messages"]
    assert [message["content"] for message in calls[2]["messages"]] == [
        "Be brief.",
        "First?",
        "One.",
        "Second?",
    ]
    await opened.text("quotas", "2 of 5 requests left")
    assert await opened.get("model", "value") == "gpt-4o"
    assert 'model="gpt-4o"' in await opened.get("sample", "textContent")
    await opened.sign_in(await stage.add_event(models=("gpt-4o", MODEL)))
    await opened.text("sample", f'model="{MODEL}"')
    assert await opened.get("log", "childElementCount") == 0


async def test_chat_works_by_keyboard_and_announces_an_answer_once(
    stage: Stage, opened: AttendeePage
) -> None:
    code = await stage.add_event(requests_per_day=5)
    await opened.page.open(f"{stage.url}/#{code}")
    await opened.tab_to("user")
    await opened.type("amy")
    await opened.page.press("Enter")
    await opened.text("state", "Open now.")
    await opened.run(
        "window.announced = [];"
        "new MutationObserver(() => announced.push(at('announcer').textContent))"
        ".observe(at('announcer'), {childList: true}); 0"
    )
    gate = stage.simulator.gate(MODEL, Answer("One two three four five."))
    await opened.tab_to("question")
    await opened.page.press("Enter", CTRL)
    await gate.arrived()
    gate.open(3)
    await opened.text("log", "One")
    gate.open(99)
    await opened.chat("One two three four five.")
    await opened.text("quotas", "4 of 5 requests left")
    assert await opened.run("announced") == ["Waiting for the answer.", "One two three four five. "]
    await opened.type("Again?")
    await opened.tab_to("ask")
    gate = stage.simulator.gate(MODEL)
    await opened.page.press("Enter")
    await gate.arrived()
    assert await opened.run("document.activeElement.id") == "stop"
    await opened.page.press("Enter")
    await opened.chat("You stopped this answer.")
    assert await opened.run("document.activeElement.id") == "ask"
    assert opened.page.complaints == []


async def test_answers_use_up_the_attendees_money(stage: Stage, opened: AttendeePage) -> None:
    price = Decimal(100)
    model = await stage.add_deployment(prompt_price=price, completion_price=price, currency="EUR")
    money = {"cost_per_day": 2_500_000, "cost_total": 777_000_000, "currency": "EUR"}
    await opened.show_event(stage, await stage.add_event(models=(model,), default_model=model, **money))
    assert "777" not in await opened.get("event", "textContent")
    stage.simulator.always(model, Answer("Hi.", prompt_tokens=5, completion_tokens=12_495))
    await opened.ask("Hello?", shows="Hi.")
    await opened.text("quotas", "\u20ac1.25 of \u20ac2.50 left to spend")
    await opened.click("retry")
    await opened.text("state", "you have no money left today.")


EVIL = """# Title
<script>document.title = "evil"</script> <img src=x onerror="document.title = 'evil'">
[a](javascript:alert(1)) [b](data:text/html,x) ![c](https://pictures.example/c.png) [d](https://good.example/d_(1))
Some **bold *and* `code`**, 2 * 3 * 4, snake_case_name and https://plain.example/x.

1. one
   - nested
   ```python
   print("<b>")
   ```
2. two

| left | right |
|---|---|
| `a` | **b** |

> quoted

שלום, זה **עברית**.

**broken [link](ftp://x
```html
<script>alert(1)</script>"""
SEEN = """JSON.stringify({
  tags: [...new Set([...document.querySelectorAll(".answer *")].map((node) => node.localName))].sort(),
  links: [...document.querySelectorAll(".answer a")].map((link) => [link.href, link.rel]),
  codes: [...document.querySelectorAll(".answer pre")].map((code) => code.textContent),
  cells: [...document.querySelectorAll(".answer td")].map((cell) => cell.innerText),
  start: document.querySelector(".answer ol > li ul > li").textContent,
  hebrew: getComputedStyle([...document.querySelectorAll(".answer > p")]
    .find((node) => node.textContent.includes("שלום"))).direction,
  title: document.title, hasScripts: document.scripts.length,
})"""


async def test_what_the_model_writes_is_formatted_and_never_becomes_html(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.show_event(stage, await stage.add_event())
    stage.simulator.always(MODEL, Answer(EVIL))
    await opened.ask("Be evil.", shows="alert(1)</script>")
    seen = json.loads(await opened.run(SEEN))
    assert seen["links"] == [
        ["https://pictures.example/c.png", "noopener noreferrer"],
        ["https://good.example/d_(1)", "noopener noreferrer"],
        ["https://plain.example/x", "noopener noreferrer"],
    ]
    assert seen["codes"] == ['print("<b>")', "<script>alert(1)</script>"]
    assert seen["cells"] == ["a", "b"] and seen["start"] == "nested" and seen["hebrew"] == "rtl"
    allowed = "a blockquote button code div em h4 li ol p pre span strong table tbody td th thead tr ul"
    assert seen["tags"] == allowed.split()
    assert (seen["title"], seen["hasScripts"]) == ("Azure OpenAI for your event", 1)
    assert opened.page.complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in opened.page.requested)
    await opened.page.send(
        "Emulation.setDeviceMetricsOverride", width=360, height=900, deviceScaleFactor=1, mobile=False
    )
    assert await opened.run("document.documentElement.scrollWidth") <= 360


def stream_of(*pieces: str, reason: str | None = "stop") -> RawStream:
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    end = [{"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}] if reason else []
    done = [b"data: [DONE]\n\n"] if reason else []
    return RawStream((*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in [*chunks, *end]), *done))


SLOW_TO_READ = [
    "[",
    "*a",
    "**a",
    "`a ",
    "> ",
    ">",
    "- ",
    "_a",
    "https://",
    "|-\n",
    "```\n",
    "a\n\n",
    "-",
    "1. ",
]


async def test_page_stays_usable_with_a_megabyte_and_with_markdown_that_is_slow_to_read(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.show_event(stage, await stage.add_event())
    stage.simulator.behave(MODEL, stream_of(*["0123456789 abcdefg\n" * 500] * 110, "The end."))
    await opened.enter("question", "Write a book.")
    await opened.click("ask")
    await opened.page.until("document.querySelector('.turn').ariaBusy === 'false'")
    assert (await opened.text("announcer", "")).strip() == "The answer is complete."
    assert await opened.get("log", "textContent.length") > 1_000_000
    for piece in SLOW_TO_READ:
        text = json.dumps((piece * 100_000)[:100_000])
        assert await opened.run(f"showMarkdown(make('div'), {text}), true")


async def test_cut_and_filtered_answers_are_marked(stage: Stage, opened: AttendeePage) -> None:
    six = "One two three four five six."
    stage.simulator.behave(MODEL, Answer(six, filtered_after=4), Answer(six), Answer(six))
    stage.simulator.behave(MODEL, stream_of("Half an", reason=None))
    await opened.show_event(stage, await stage.add_event())
    ending = "[...document.querySelectorAll('.turn > .bad:not([hidden])')].map((note) => note.textContent)"
    await opened.ask("Filtered?", shows="The content filter stopped this answer.")
    await opened.ask("Whole?", shows=six)
    assert len(await opened.run(ending)) == 1
    await opened.sign_in(await stage.add_event(max_output_tokens=3))
    await opened.text("facts", "3 tokens")
    await opened.ask("Long?", shows="because it reached the output limit.")
    await opened.ask("Without an end?", shows="cut off")
    stage.simulator.behave(MODEL, stream_of("word " * 100, reason=None))
    await opened.ask("A long one?", shows="word word")
    await opened.text("announcer", "cut off")
    assert "The answer is complete" not in await opened.text("announcer", "cut off")
    for event in ["data: {oops", 'data: {"error": {}}', "data: 5", 'data: {"choices": []}']:
        await opened.click("clear")
        await opened.run(f"window.fetch = async () => new Response({json.dumps(event)} + '\\n\\n'); 0")
        await opened.ask("Unreadable?", shows="Try again")


async def test_attendee_can_retry_when_the_network_is_back_and_sees_that_the_quota_is_used(
    stage: Stage, opened: AttendeePage
) -> None:
    async def be_offline(offline: bool) -> None:
        await opened.page.send(
            "Network.emulateNetworkConditions",
            offline=offline,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    await opened.show_event(stage, await stage.add_event(requests_per_day=2))
    await be_offline(True)
    await opened.ask("Anyone?", shows="Cannot reach the proxy. Check your connection and try again.")
    await be_offline(False)
    stage.simulator.behave(MODEL, Answer("I am here."), CutStream(after=4))
    await opened.click("retry")
    assert "Cannot reach" not in await opened.chat("I am here.")
    await opened.ask("And now?", shows="was cut off")
    await opened.text("state", "you have no requests left today.")
    await opened.ask("Once more?", shows="You have used")


async def test_page_shows_the_remaining_quota_after_a_stop(stage: Stage, opened: AttendeePage) -> None:
    code = await stage.add_event(requests_per_day=5, tokens_per_day=9_000)
    gate = stage.simulator.gate(MODEL, Answer("One two three four five."))
    gate.open(3)
    await opened.show_event(stage, code)
    await opened.click("ask")
    await gate.reached(3)
    await opened.click("stop")
    # Chromium may read for five more seconds before it closes the connection.
    await stage.simulator.until(lambda calls: calls[0].ended, seconds=20)
    left = (await stage.get("/v1/event", code, "amy")).json["tokens"]["remaining"]
    quotas = await opened.text("quotas", f"{left:,} of 9,000 tokens left")
    assert "4 of 5 requests left" in quotas


async def choose_file(opened: AttendeePage, path: Path, data: bytes) -> None:
    await asyncio.to_thread(path.write_bytes, data)
    found = await opened.page.send("Runtime.evaluate", expression="at('file')")
    await opened.page.send("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])


async def test_picture_is_scaled_down_in_the_browser(
    stage: Stage, opened: AttendeePage, tmp_path: Path
) -> None:
    await opened.show_event(stage, await stage.add_event())
    await choose_file(opened, tmp_path / "broken.png", b"not a picture")
    await opened.text("play-problem", "Your browser cannot read this picture. Choose a JPEG or PNG file.")
    await choose_file(opened, tmp_path / "wide.png", base64.b64decode(base64_picture("x", 3000, 1500)))
    await opened.page.until("document.getElementById('preview').naturalWidth === 1024")
    assert await opened.get("preview", "naturalHeight") == 512
    await opened.ask("What is this?", shows="a simulated answer")
    text, image = stage.simulator.calls[0].json["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert await opened.get("picture", "hidden")
    assert opened.page.complaints == []
