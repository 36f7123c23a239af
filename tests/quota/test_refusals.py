"""What an attendee reads when a quota refuses a call, and whether to retry."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, time, timedelta

import pytest

from tests.conftest import MODEL, QUESTION, Stage
from tests.quota.helpers import post
from tests.responses import WireResponse, response_of
from tools.simulator import Answer


def long_question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text * 200}]


def is_soon(refused: WireResponse, unit: str) -> bool:
    """Whether the quota comes back so soon that a client may sleep until then: a minute before midnight."""
    return int(refused.headers[f"x-ratelimit-reset-{unit}"]) <= 60


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0, "Your daily limit is 0 requests. Ask your organiser to raise it."),
        (
            1,
            r"You have used your 1 request for today. You can continue on \d+ [A-Z][a-z]{2} \d{4}, 00:00 UTC.",
        ),
        (
            2,
            r"You have used all 2 requests for today. You can continue on \d+ [A-Z][a-z]{2} \d{4}, 00:00 UTC.",
        ),
    ],
)
async def test_used_requests_say_when_to_continue(stage: Stage, limit: int, message: str) -> None:
    code = await stage.add_event(requests_per_day=limit)
    for _ in range(limit):
        await post(stage, code)
    refused = await post(stage, code)
    assert refused.status == 429 and re.fullmatch(message, refused.error["message"])
    assert "retry-after" not in refused.headers or is_soon(refused, "requests")


async def test_used_requests_on_the_last_day_of_an_event_do_not_come_back(stage: Stage) -> None:
    midnight = datetime.combine(datetime.now(UTC) + timedelta(days=1), time(), UTC)
    code = await stage.add_event(requests_per_day=1, ends_at=midnight, organizer="Kim")
    await post(stage, code)
    assert (await post(stage, code)).error["message"] == (
        "You have used your 1 request for today. The event ends before your limit resets. "
        "Ask your organiser (Kim) for more."
    )


async def test_used_tokens_say_when_to_continue(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=1_000)
    stage.simulator.always(MODEL, Answer(prompt_tokens=30, completion_tokens=940))
    assert (await post(stage, code)).status == 200
    refused = await post(stage, code)
    text = r"You have 30 of 1,000 tokens left today, too few for this request\. You can continue on .* UTC\."
    assert re.fullmatch(text, refused.error["message"])
    assert refused.headers["x-should-retry"] == "false"
    assert ("retry-after" in refused.headers) == is_soon(refused, "tokens")


async def test_a_total_with_too_few_tokens_for_the_request_says_how_many_are_left(stage: Stage) -> None:
    code = await stage.add_event(tokens_total=1_000, organizer="Kim")
    stage.simulator.always(MODEL, Answer(prompt_tokens=30, completion_tokens=870))
    assert (await post(stage, code)).status == 200
    refused = await post(stage, code, messages=long_question("What? "))
    assert (refused.status, refused.error["code"]) == (429, "event_quota_exceeded")
    assert refused.error["message"] == (
        "This event has 100 of 1,000 tokens left, too few for this request. "
        "Send a shorter one, or ask your organiser (Kim)."
    )


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_total"])
async def test_call_that_can_never_fit_must_be_shorter_and_need_not_wait(stage: Stage, limit: str) -> None:
    code = await stage.add_event(**{limit: 200})
    assert (await post(stage, code)).status == 200
    refused = await post(stage, code, messages=long_question("What is a glove box? "))
    kind = "token_quota_exceeded" if limit == "tokens_per_day" else "event_quota_exceeded"
    assert (refused.status, refused.error["code"]) == (429, kind)
    owner = "your daily" if limit == "tokens_per_day" else "this event's"
    assert re.fullmatch(
        rf"Your message is too long: it needs about [\d,]+ tokens, and {owner} limit is 200\. "
        r"Send a shorter one\.",
        refused.error["message"],
    )
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
    assert (await post(stage, code)).status == 200, "what is left is left"


SEARCH = r"'web_search_options' lets the model read up to 128,000 tokens of what it finds\. Leave it out"
TOOL = r"The tool 'web_search' lets the model read up to 128,000 tokens of what it finds\. Leave it out"
SOURCES = r"'data_sources' lets the model read up to 128,000 tokens of what it finds\. Leave it out"
FILE = r"A file whose content is not in the request can cost up to [\d,]+ tokens\. Send its content, as 'file_data'"
PICTURE = (
    r"Pictures in the request can cost up to [\d,]+ tokens\. Send fewer of them, or with \"detail\": \"low\""
)


def with_part(part: dict[str, object]) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": [part]}]}


LARGE_REQUESTS: list[tuple[str, dict[str, object], str]] = [
    ("chat/completions", {"web_search_options": {}}, SEARCH),
    ("chat/completions", {"data_sources": [{"type": "azure_search"}]}, SOURCES),
    ("chat/completions", with_part({"type": "file", "file": {"filename": "a.pdf"}}), FILE),
    (
        "chat/completions",
        with_part({"type": "image_url", "image_url": {"url": "https://a.test/a.png"}}),
        PICTURE,
    ),
    ("responses", {"input": "Hi", "tools": [{"type": "web_search"}]}, TOOL),
    (
        "responses",
        {
            "input": [
                {"role": "user", "content": [{"type": "input_file", "file_url": "https://a.test/a.pdf"}]}
            ]
        },
        FILE,
    ),
]


@pytest.mark.parametrize(("path", "body", "why"), LARGE_REQUESTS)
async def test_a_short_request_that_can_use_many_tokens_says_what_makes_it_large(
    stage: Stage, path: str, body: dict[str, object], why: str
) -> None:
    code = await stage.add_event(tokens_per_day=20_000, tools=("web_search",), organizer="Kim")
    body = (QUESTION if path == "chat/completions" else {}) | {"model": MODEL} | body
    headers = {"api-key": f"{code}/amy"}
    refused = await response_of(stage.post(f"/v1/{path}", headers=headers, json=body))
    assert (refused.status, refused.error["code"]) == (429, "token_quota_exceeded")
    assert re.fullmatch(
        r"Your request is too large: it can use about [\d,]+ tokens, and your daily limit is 20,000\. "
        rf"{why}, or ask your organiser \(Kim\) for a higher limit\.",
        refused.error["message"],
    )


@pytest.mark.parametrize("limit", ["tokens_per_day", "tokens_total"])
async def test_a_request_that_is_too_large_for_what_is_left_says_what_makes_it_large(
    stage: Stage, limit: str
) -> None:
    code = await stage.add_event(**{limit: 130_000})
    stage.simulator.always(MODEL, Answer(prompt_tokens=30, completion_tokens=9_970))
    assert (await post(stage, code)).status == 200
    refused = await post(stage, code, web_search_options={})
    owner = "You have" if limit == "tokens_per_day" else "This event has"
    left = rf"{owner} 120,000 of 130,000 tokens left( today)?, too few for this request\. "
    assert re.match(rf"{left}{SEARCH}[.,] ", refused.error["message"])


async def test_a_long_message_is_not_blamed_on_a_small_picture(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=20_000)
    picture = {"type": "image_url", "image_url": {"url": "https://a.test/a.png", "detail": "low"}}
    content = [{"type": "text", "text": "What is a glove box? " * 5000}, picture]
    refused = await post(stage, code, messages=[{"role": "user", "content": content}])
    assert refused.error["message"].startswith("Your message is too long: it needs about ")


async def test_call_that_can_never_fit_its_many_answers_may_ask_for_fewer(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=1000)
    refused = await post(stage, code, n=100)
    assert refused.status == 429
    assert refused.error["message"].endswith("Send a shorter one, or ask for fewer answers (n).")


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (
            "tokens_per_day",
            "Your daily limit of 10 tokens is too small for any request. Ask your organiser to raise it.",
        ),
        ("tokens_total", "This event has used its whole quota. Ask your organiser."),
    ],
)
async def test_limit_too_small_for_any_call_sends_to_the_organiser(
    stage: Stage, limit: str, message: str
) -> None:
    code = await stage.add_event(**{limit: 10})
    refused = await post(stage, code)
    assert refused.status == 429 and "retry-after" not in refused.headers
    assert refused.error["message"] == message


async def test_long_call_after_the_event_total_is_used_sends_to_the_organiser(stage: Stage) -> None:
    code = await stage.add_event(tokens_total=200, organizer="Kim")
    stage.simulator.always(MODEL, Answer(text="word " * 300))
    assert (await post(stage, code)).status == 200
    refused = await post(stage, code, messages=long_question("glove box "))
    assert refused.status == 429
    assert refused.error["message"] == "This event has used its whole quota. Ask your organiser (Kim)."


async def test_rest_held_by_the_users_running_calls_is_worth_a_retry(stage: Stage) -> None:
    code = await stage.add_event(tokens_per_day=400, max_output_tokens=1000)
    gate = stage.simulator.gate(MODEL)
    first = asyncio.create_task(post(stage, code))
    await gate.arrived()
    refused = await post(stage, code)
    assert refused.status == 429 and b"Your requests that are still running" in refused.body
    assert (refused.headers["x-should-retry"], refused.headers["retry-after"]) == ("true", "2")
    gate.open_all()
    assert (await first).status == 200


async def test_rest_held_by_running_calls_of_others_is_not_called_the_users(stage: Stage) -> None:
    code = await stage.add_event(tokens_total=400, max_output_tokens=1000)
    gate = stage.simulator.gate(MODEL)
    first = asyncio.create_task(post(stage, code))
    await gate.arrived()
    refused = await post(stage, code, "bob")
    assert refused.status == 429 and b"event_quota_exceeded" in refused.body
    assert b"Your" not in refused.body
    assert refused.headers["retry-after"] == "2"
    gate.open_all()
    assert (await first).status == 200
