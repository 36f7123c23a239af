"""The estimate of a prompt is not too low in any language, and not far too high in English."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from shared.quota.estimate import INLINED_TOKENS, next_correction, prompt_tokens

# A text, and its characters per token: fewer than usual for the tokenizers of the gpt-4o and gpt-4 families (prose
# 4 to 5, code about 3), so that the assumed token counts are high.
SAMPLES = {
    "prose": ("Glove boxes keep what must not meet the air away from it, and hands out of harm. ", 3.5),
    "code": ("def add(a: int, b: int) -> int:\n    return a + b  # {'x': [1, 2, 3]}\n", 2.2),
    "json": ('{"id": 17, "tags": ["a", "b"], "at": "2026-01-31T12:00:00Z"}\n', 2.0),
    "German": ("Die Handschuhkästen schützen vor Luft und Wärme; größere gibt es übermorgen. ", 2.5),
    "Chinese": ("手套箱把不能接触空气的东西与空气隔开，保护人的双手。", 0.7),  # noqa: RUF001
    "Japanese": ("グローブボックスは空気に触れてはならないものを守ります。", 0.7),
    "Hindi": ("दस्ताना बॉक्स हवा से दूर रखता है और हाथों की रक्षा करता है। ", 0.9),
    "Arabic": ("صندوق القفازات يحمي اليدين ويمنع الهواء من الدخول. ", 1.0),
    "Greek": ("Το κουτί με γάντια προστατεύει τα χέρια από τον αέρα. ", 0.9),  # noqa: RUF001
    "Thai": ("กล่องถุงมือช่วยป้องกันมือและกันอากาศ", 0.7),
    "emoji": ("👩‍🔬🧤📦🌬️🔥😀🎉", 0.4),
}


def body(content: Any, **members: Any) -> bytes:
    return json.dumps(
        {"messages": [{"role": "user", "content": content}]} | members, ensure_ascii=False
    ).encode()


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("times", [1, 50])
def test_estimate_is_not_too_low(name: str, times: int) -> None:
    text, characters_per_token = SAMPLES[name]
    assert prompt_tokens(body(text * times)) >= len(text * times) / characters_per_token


@pytest.mark.parametrize("name", SAMPLES)
def test_estimate_is_at_most_the_number_of_bytes(name: str) -> None:
    """No tokenizer of this family makes more tokens than bytes."""
    request = body(SAMPLES[name][0] * 20)
    assert prompt_tokens(request) <= len(request) + 1


def test_escaped_text_counts_as_much_as_plain_text() -> None:
    text = SAMPLES["Chinese"][0] * 20
    escaped = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    assert prompt_tokens(escaped) >= prompt_tokens(body(text)) * 0.9


def test_english_is_estimated_at_most_three_times_too_high() -> None:
    text = SAMPLES["prose"][0] * 50
    assert prompt_tokens(body(text)) <= 3 * len(text) / 4.5


def test_every_message_adds_a_few_tokens() -> None:
    """About four beyond its text, according to the OpenAI cookbook, "How to count tokens"."""
    messages = [{"role": "user", "content": "a"}] * 100
    assert prompt_tokens(json.dumps({"messages": messages}).encode()) >= 100 * 5


def test_tools_are_counted() -> None:
    tool = {"type": "function", "function": {"name": "find", "description": "Find glove boxes. " * 50}}
    assert prompt_tokens(body("a", tools=[tool])) - prompt_tokens(body("a")) >= 200


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


INLINED = "data:image/png;base64," + b64encode(bytes(range(256)) * 400).decode()


@pytest.mark.parametrize("url", ["https://example.com/a.png", INLINED])
def test_image_counts_as_a_fixed_number_of_tokens(url: str) -> None:
    alone = prompt_tokens(body([{"type": "text", "text": "a"}]))
    one = prompt_tokens(body([{"type": "text", "text": "a"}, image(url)]))
    three = prompt_tokens(body([{"type": "text", "text": "a"}, *[image(url)] * 3]))
    assert INLINED_TOKENS <= one - alone <= INLINED_TOKENS + 60
    assert 3 * INLINED_TOKENS <= three - alone <= 3 * (INLINED_TOKENS + 60)


def test_sound_and_file_count_as_a_fixed_number_of_tokens() -> None:
    data = INLINED.partition(",")[2]
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    file = {"type": "file", "file": {"file_data": INLINED, "filename": "a.pdf"}}
    assert 2 * INLINED_TOKENS <= prompt_tokens(body([sound, file])) <= 2 * INLINED_TOKENS + 200


def test_base64_in_text_counts_as_text() -> None:
    data = INLINED.partition(",")[2]
    assert prompt_tokens(body(data)) >= len(data) / 2
    beside_an_image = body([{"type": "text", "text": data}, image("https://example.com/a.png")])
    assert prompt_tokens(beside_an_image) >= len(data) / 2 + INLINED_TOKENS


def test_correction_rises_at_once_after_a_low_estimate_and_halves_after_good_ones() -> None:
    assert next_correction(1.0, estimated=100, reported=80) == 1.0
    assert next_correction(1.0, estimated=100, reported=500) == 5.0
    assert next_correction(5.0, estimated=100, reported=500) == 5.0
    assert next_correction(5.0, estimated=100, reported=90) == 2.5
    assert next_correction(2.5, estimated=100, reported=240) == 2.4
    assert next_correction(1.2, estimated=100, reported=0) == 1.0
