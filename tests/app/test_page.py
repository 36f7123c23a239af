"""The attendee's page: its headers, and how it shows the event, the key and the samples in a real browser."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.app.page import page
from shared.core.models import EMBEDDINGS
from tests.app.attendee_page import AttendeePage
from tests.conftest import EVENT, MODEL, Stage
from tests.responses import response_of

pytestmark = pytest.mark.one_python

ROOT = Path(__file__).parents[2]


async def test_page_is_at_the_root_and_may_only_run_its_own_script_and_call_this_proxy(stage: Stage) -> None:
    got = await response_of(stage.http.get(stage.url + "/"))
    assert got.status == 200
    assert got.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        directive.strip().split(" ", 1) for directive in got.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for kind in ("script", "style"):
        (inline,) = re.findall(rb"<%b>(.*?)</%b>" % (kind.encode(), kind.encode()), got.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not stage.simulator.calls


def test_page_names_no_other_host() -> None:
    body = page("page.html").body
    assert isinstance(body, bytes)
    assert not re.findall(rb"(?:https?:)?//[a-z0-9-]+\.[a-z]", body)
    assert b"src=" not in body and b"innerHTML" not in body


# ---- in a real browser


async def test_attendee_sees_the_event_and_what_is_left(stage: Stage, opened: AttendeePage) -> None:
    code = await stage.add_event(
        name="<b>Winter</b> hack",
        organizer="Ann",
        requests_per_day=5,
        tokens_per_day=9_000,
        cost_per_day=2_500_000,
        currency="EUR",
    )
    await opened.page.send("Emulation.setTimezoneOverride", timezoneId=EVENT.time_zone.key)
    await opened.show_event(stage, code)
    assert await opened.get("name", "textContent") == "<b>Winter</b> hack"
    quotas = await opened.get("quotas", "textContent")
    assert "5 of 5 requests left" in quotas and "9,000 of 9,000 tokens left" in quotas
    assert "€2.50 of €2.50 left to spend" in quotas
    assert await opened.get("reset", "textContent") == "For today. Resets tonight at midnight."
    facts = await opened.get("facts", "textContent")
    assert "Ann" in facts and MODEL in facts
    assert await opened.get("key", "textContent") == f"{code}/amy"
    assert await opened.get("endpoint", "textContent") == f"{stage.url}/v1"
    assert f'api_key="{code}/amy"' in await opened.get("sample", "textContent")
    assert opened.page.complaints == []
    assert all(url.startswith((stage.url, "data:")) for url in opened.page.requested)


NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
EARLY = next(zone for zone in map(ZoneInfo, ("UTC", "Etc/GMT-12")) if NOW.astimezone(zone).hour < 22)
"""A time zone where midnight is more than an hour away."""
STATES: list[tuple[dict[str, Any], str]] = [
    ({"starts_at": NOW + HOUR}, "This event has not started yet. Come back on "),
    ({"ends_at": NOW - HOUR}, "This event has ended. Ask your organiser (Ann) to extend it."),
    ({"active": False}, "This event is stopped. Ask your organiser (Ann) to resume it."),
    ({"exceptions": {"amy": {"blocked": True}}}, "Your organiser has blocked you at this event."),
    ({"requests_total": 0}, "Open, but the event has used its whole quota. Ask your organiser (Ann)"),
    ({"requests_per_day": 0}, "Open, but you have no requests left today."),
    ({"tokens_per_day": 31}, "Open, but you have too few tokens left today."),
    ({"requests_per_day": 5, "tokens_per_day": 0}, "Open, but you have too few tokens left today."),
    ({"cost_per_day": 0}, "Open, but you have no money left today."),
    (
        {"requests_per_day": 0, "starts_at": NOW - HOUR, "ends_at": NOW + HOUR, "time_zone": EARLY},
        "Open, but you have no requests left, and the event ends before your limit resets. Ask your organiser (Ann)",
    ),
    ({"tokens_per_day": 32, "requests_per_day": 1}, "Open now."),
    ({}, "Open now."),
]


async def test_page_says_what_is_true_and_what_to_do_whatever_the_clock_of_the_phone(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.page.open(stage.url)
    for number, (changes, state) in enumerate(STATES):
        await opened.run(f"Date.now = () => {number % 2 * 4e12}; 0")
        await opened.sign_in(await stage.add_event(organizer="Ann", **changes))
        await opened.text("state", state)
        assert await opened.get("state", "className") == ("good" if state == "Open now." else "bad")
        assert await opened.get("play", "hidden") is not state.startswith("Open")
        assert await opened.get("reset", "hidden") is not ("_per_day" in str(changes))


async def test_page_opens_by_itself_when_the_event_starts(stage: Stage, opened: AttendeePage) -> None:
    await opened.page.open(stage.url)
    await opened.run("Math.random = () => 0; 0")
    await opened.sign_in(await stage.add_event(starts_at=datetime.now(UTC) + timedelta(seconds=3)))
    await opened.text("state", "Open now.")
    await opened.page.until("!document.getElementById('play').hidden")


async def test_quota_resets_at_midnight_in_the_events_time_zone_even_if_the_browser_does_not_know_it(
    stage: Stage, opened: AttendeePage
) -> None:
    zone = ZoneInfo("Asia/Kolkata")
    code = await stage.add_event(
        requests_per_day=5, time_zone=zone, ends_at=datetime(2099, 1, 1, tzinfo=zone)
    )
    await opened.page.send("Emulation.setTimezoneOverride", timezoneId="Europe/Berlin")
    await opened.show_event(stage, code)
    await opened.text("reset", "Resets at midnight (Asia/Kolkata).")
    await opened.text("facts", "Dec 31, 2098, at the end of the day (Asia/Kolkata)")
    await opened.run(
        "const original = window.fetch; window.fetch = async (...all) => {"
        "const body = await (await original(...all)).json();"
        "return new Response(JSON.stringify({...body, time_zone: 'Mars/Base'})); }; 0"
    )
    await opened.sign_in(code)
    await opened.text("facts", "(UTC)")


INVALID = [
    ("hackathon", "J\u00fcrgen", "Your GitHub name cannot contain \u201c\u00fc\u201d."),
    ("hackathon", "\u674e\u96f7", "Your GitHub name cannot contain \u201c\u674e\u201d."),
    ("hackathon", "amy\U0001f600", "Your GitHub name cannot contain \u201c\U0001f600\u201d."),
    ("hackathon", "amy lee", "Your GitHub name cannot contain spaces."),
    ("hackathon/amy", "amy", "The event code cannot contain \u201c/\u201d."),
    ("h\u00e4ckathon", "amy", "The event code cannot contain \u201c\u00e4\u201d."),
    (" ", "amy", "The event code is missing."),
    ("hackathon", "a" * 65, "Your GitHub name is too long."),
    ("hackathon", "YOUR-GITHUB-NAME", "YOUR-GITHUB-NAME is a placeholder."),
]


async def test_page_rejects_invalid_names_itself_and_accepts_every_valid_character(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.page.open(f"{stage.url}/#100%/amy")
    await opened.text("problem", "The event code cannot contain \u201c%\u201d.")
    for code, user, problem in INVALID:
        await opened.sign_in(code, user)
        await opened.text("problem", problem)
    await opened.text("sample", "hackathon/YOUR-NAME")
    assert not [url for url in opened.page.requested if url.endswith("/v1/event")]
    code = await stage.add_event(name="Winter hack")
    await opened.sign_in(f" {code.upper()} ", "Az09._@+-")
    await opened.text("name", "Winter hack")
    assert await opened.get("problem", "hidden")
    assert opened.page.complaints == []


RAW = (
    "TypeError",
    "SyntaxError",
    "RangeError",
    "Failed to",
    "undefined",
    "Unexpected token",
    "not valid JSON",
)
RESPONSES = {
    "Promise.reject(new TypeError('Failed to fetch'))": "Cannot reach the proxy.",
    "Promise.resolve(new Response('<html>Sign in</html>'))": "cannot read. Reload",
    "Promise.resolve(new Response('{\"error\": {}}', {status: 502}))": "The proxy returned status 502.",
    "Promise.resolve(new Response('{}'))": "cannot read. Reload",
    "Promise.resolve(new Response('Bad gateway', {status: 503}))": "The proxy returned status 503.",
}


async def test_page_explains_every_failure_in_plain_words(stage: Stage, opened: AttendeePage) -> None:
    await opened.page.open(stage.url)
    await opened.sign_in("no-such-event")
    await opened.text("problem", "No event has the code no-such-event. Check it with your organiser.")
    await opened.text("key-hint", "No event has the code no-such-event. Check it with your organiser.")
    assert await opened.get("key", "textContent") == "EVENT-CODE/amy"
    await opened.enter("code", "other-event")
    await opened.text("key-hint", "Enter your event code")
    assert await opened.get("key-hint", "hidden")
    assert await opened.get("key", "textContent") == "other-event/amy"
    claim = await stage.add_event(access="claim", pass_secret="5ec2e7")
    for user, is_offered in [
        ("amy.a0" + "a" * 10, False),
        ("amy.2" + "a" * 10, False),
        ("a." + "b" * 12, True),
    ]:
        await opened.sign_in(claim, user)
        problem = await opened.text("problem", f"\u201c{user}\u201d is not a valid pass.")
        assert await opened.get("claim", "hidden") is not is_offered
        assert ("If it is a name and not a pass, you can take it below." in problem) is is_offered
    await opened.sign_in(claim, "anna.mueller1987")
    await opened.text("claim-name", "anna.mueller1987")
    assert not await opened.get("claim", "hidden") and await opened.get("problem", "hidden")
    await opened.sign_in(await stage.add_event(access="roster", pass_secret="5ec2e7"))
    await opened.text("problem", "Ask your organiser for your pass.")
    assert await opened.get("claim", "hidden")
    for response, problem in RESPONSES.items():
        await opened.run(f"window.fetch = () => {response}; 0")
        await opened.sign_in("hackathon")
        text = await opened.text("problem", problem)
        assert not any(raw in text for raw in RAW)


async def test_attendee_takes_a_name_and_gets_its_pass_once(stage: Stage, opened: AttendeePage) -> None:
    event_code = await stage.add_event(
        access="claim", pass_secret="5ec2e7", requests_per_day=5, organizer="Dave"
    )
    await opened.page.open(f"{stage.url}/#{event_code}")
    await opened.sign_in(event_code, "Amy.Lee")
    assert await opened.text("claim-name", "Amy") == "Amy.Lee"
    await opened.click("take")
    await opened.text("state", "Open now.")
    key = await opened.text("key", f"{event_code}/amy.lee.")
    assert not await opened.get("pass", "hidden")
    assert f'api_key="{key}"' in await opened.get("sample", "textContent")
    assert await opened.run("location.hash") == f"#{key}"
    assert await opened.run("document.activeElement.dataset.copy") == "key"
    assert json.loads(await opened.run("JSON.stringify(localStorage)")) == {
        "name": "amy.lee",
        "claimed": f"{event_code}/amy.lee",
    }
    assert (await stage.chat(event_code, key.partition("/")[2])).status == 200
    await opened.sign_in(event_code, "amy.lee")
    await opened.text("claim-name", "amy.lee")
    await opened.click("take")
    await opened.text("problem", "is taken. If it is yours, ask your organiser (Dave) to release it.")
    assert await opened.run("location.hash") == f"#{event_code}"
    await opened.enter("user", f" {key} ", "change")
    assert (await opened.get("code", "value"), await opened.get("key", "textContent")) == (event_code, key)
    assert await opened.get("pass", "hidden") and await opened.get("claim-earlier", "hidden")
    await opened.sign_in(event_code.upper(), "bob")
    await opened.text("claim-earlier", "has already taken the name \u201camy.lee\u201d at this event.")


async def test_browser_remembers_the_name_and_the_key_only_if_the_attendee_wants_it(
    stage: Stage, opened: AttendeePage
) -> None:
    code = await stage.add_event()
    await opened.show_event(stage, code)
    await opened.page.open("about:blank")
    await opened.page.open(stage.url)
    assert (await opened.get("code", "value"), await opened.get("user", "value")) == ("", "amy")
    await opened.sign_in(code, "john.featherstone")  # in the form of a pass
    await opened.page.until("localStorage.getItem('name') === 'john.featherstone'")
    await opened.sign_in(code)
    await opened.text("state", "Open now.")
    await opened.click("keep")
    await opened.page.open("about:blank")
    await opened.page.open(stage.url)
    await opened.text("state", "Open now.")
    await opened.page.open("about:blank")
    other = await stage.add_event()
    await opened.page.open(f"{stage.url}/#{other}/bob")
    assert await opened.text("key", "bob") == f"{other}/bob"
    await opened.click("keep")
    assert code not in await opened.run("JSON.stringify(localStorage)")


async def test_samples_have_the_key_that_the_attendee_types(stage: Stage, opened: AttendeePage) -> None:
    await opened.page.open(f"{stage.url}/#amber-otter")
    await opened.text("sample", 'api_key="amber-otter/YOUR-NAME"')
    await opened.enter("user", "Amy")
    await opened.text("sample", 'api_key="amber-otter/Amy"')
    assert await opened.get("key", "textContent") == "amber-otter/Amy"
    assert await opened.get("key-hint", "hidden")
    await opened.enter("code", 'x"; evil(); "')
    await opened.text("sample", 'api_key="EVENT-CODE/Amy"')
    assert not await opened.get("key-hint", "hidden")
    assert not [url for url in opened.page.requested if url.endswith("/v1/event")]


async def all_samples(opened: AttendeePage) -> dict[str, dict[str, str]]:
    script = """JSON.stringify(Object.fromEntries(GROUPS.map((name) => {
      chooseGroup(name);
      const texts = [...at("variant").options].map(({ value }) => {
        at("variant").value = value;
        at("variant").dispatchEvent(new Event("change"));
        return [value, at("sample").textContent];
      });
      return [name, Object.fromEntries(texts)];
    })))"""
    return dict(json.loads(await opened.run(script)))


async def run(*command: str, **variables: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | variables,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


FROM_ENV = "from openai import *; print(OpenAI().models.list().data[0].id, AzureOpenAI().base_url)"


async def test_samples_and_env_file_work_as_they_are(stage: Stage, opened: AttendeePage) -> None:
    embeddings = await stage.add_deployment("text-embedding-3-small", apis=(EMBEDDINGS,))
    await opened.show_event(stage, await stage.add_event(models=(MODEL, embeddings), max_output_tokens=900))
    samples = await all_samples(opened)
    key, endpoint = await opened.get("key", "textContent"), f"{stage.url}/v1"
    assert all(key in text and stage.url in text for group in samples.values() for text in group.values())
    for text in (text for group in samples.values() for text in group.values() if "# pip" in text):
        compile(text, "sample", "exec")
    env = dict(re.findall(r"(?m)^(\w+)=(.*)$", await opened.get("env", "textContent")))
    outputs = await asyncio.gather(
        run(sys.executable, "-c", "\n".join([*samples["Python"].values(), FROM_ENV]), **env),
        *[run("sh", "-c", samples["curl"][name]) for name in ("curl", "What is left") if os.name == "posix"],
    )
    assert outputs[0].lower().count("a simulated answer") == 4
    assert f"{MODEL} {endpoint}/openai" in outputs[0] and "2 1536" in outputs[0]
    codex = tomllib.loads(samples["Editors"]["Codex CLI"])
    example = (ROOT / "examples/codex/config.toml").read_text(encoding="utf-8")
    assert codex == tomllib.loads(example.replace("http://127.0.0.1:7071", stage.url))
    [provider] = json.loads(samples["Editors"]["VS Code"].partition("values.\n")[2])
    [model] = provider["models"]
    assert provider["apiKey"] == key and model["maxOutputTokens"] == 900
    assert model["url"] == f"{endpoint}/chat/completions"


async def test_copy_selects_the_text_where_the_browser_refuses_the_clipboard(
    stage: Stage, opened: AttendeePage
) -> None:
    await opened.page.open(stage.url)
    clipboard = "{writeText: async (text) => { window.copied = text; }}"
    await opened.run(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}, writable: true}})")
    await opened.run("document.querySelector('[data-copy=endpoint]').click()")
    await opened.text("announcer", "Copied")
    await opened.run("document.querySelector('[data-copy=endpoint]').click()")
    await opened.page.until("document.querySelector('[data-copy=endpoint]').textContent === 'Copy'")
    assert await opened.run("window.copied") == f"{stage.url}/v1"
    await opened.run("navigator.clipboard = undefined; document.querySelector('[data-copy=sample]').click()")
    await opened.text("announcer", "Selected")
    assert "from openai import OpenAI" in await opened.run("getSelection().toString()")
    assert opened.page.complaints == []


async def test_arrow_keys_move_within_the_tabs(stage: Stage, opened: AttendeePage) -> None:
    await opened.page.open(stage.url)
    await opened.tab_to("Python")
    for key, title, sample in [
        ("ArrowRight", "JavaScript", "// npm install openai"),
        ("End", "Editors", "# Save this as"),
        ("ArrowRight", "Python", "# pip install openai"),
        ("ArrowLeft", "Editors", "# Save this as"),
        ("Home", "Python", "# pip install openai"),
    ]:
        await opened.page.press(key)
        assert await opened.run("document.activeElement.textContent") == title
        assert (await opened.get("sample", "textContent")).startswith(sample)
    stops = "[...document.querySelectorAll('[role=tab]')].filter((tab) => tab.tabIndex === 0).length"
    assert await opened.run(stops) == 1
