"""What a prompt can cost: never less than the upstream bills, and what media add."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.tokens.families import LARGEST_CONTEXT, family_of
from shared.tokens.parts import EARLIER_SOUND_TOKENS
from shared.tokens.prompt import (
    FRAMING_TOKENS,
    MAX_MEDIA_ON_LOOP,
    MAX_OBJECTS_ON_LOOP,
    SAMPLES,
    Prompt,
)
from shared.tokens.shifts import thread

from . import images
from .reference import prompt_tokens, text_tokens

ROOT = Path(__file__).parent.parent.parent
FOUR = family_of("gpt-4o")
LARGEST = 1445
PNG = images.png((512, 512)) + random.Random(1).randbytes(30_000)
SQUARE = 255
"""The tokens of `PNG`."""


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_uri(data: bytes = PNG) -> str:
    return f"data:image/png;base64,{encoded(data)}"


def chat(content: Any, **members: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}], **members}).encode()


def picture(url: str, **members: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **members}}


def costs(body: bytes, model: str = "gpt-4o") -> tuple[int, int]:
    """The bound, and the exact count."""
    prompt = Prompt(body, family_of(model))
    return prompt.bound, asyncio.run(prompt.count())


def media(body: bytes, model: str = "gpt-4o") -> int:
    """The tokens of the media in a body whose text is short: at least, and at most a few hundred more."""
    bound, count = costs(body, model)
    assert count <= bound <= count + 400
    return count - FRAMING_TOKENS


names = st.text("abcdefghij_", min_size=1, max_size=12)
words = st.text(max_size=40)
leaves = st.builds(
    lambda kind, description: {"type": kind, "description": description},
    st.sampled_from(["string", "integer", "number", "boolean"]),
    words,
) | st.lists(words, min_size=1, max_size=60).map(lambda values: {"type": "string", "enum": values})


def objects(members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(names, members, max_size=4).map(
        lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)[:2]}
    )


schemas = st.recursive(
    leaves, lambda inner: objects(inner) | inner.map(lambda item: {"type": "array", "items": item})
)
tools = st.builds(
    lambda name, description, parameters: {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    },
    names,
    words,
    objects(schemas),
)
messages = st.builds(
    lambda role, content, name: {"role": role, "content": content, **({"name": name} if name else {})},
    st.sampled_from(["system", "user", "assistant"]),
    words | st.lists(words.map(lambda text: {"type": "text", "text": text}), max_size=3),
    st.none() | names,
)
requests = st.builds(
    lambda messages, tools: {"messages": messages, **({"tools": tools} if tools else {})},
    st.lists(messages, min_size=1, max_size=6),
    st.lists(tools, max_size=3),
)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "mystery"])
@settings(max_examples=150, deadline=None)
@given(body=requests, escapes=st.booleans())
def test_no_prompt_costs_more_than_its_count_nor_the_count_more_than_the_bound(
    model: str, body: dict[str, Any], escapes: bool
) -> None:
    bound, count = costs(json.dumps(body, ensure_ascii=escapes).encode(errors="replace"), model)
    encodings = family_of(model).encodings
    assert max(prompt_tokens(body, name) for name in encodings) <= count <= bound


@settings(max_examples=150, deadline=None)
@given(schema=objects(schemas), space=st.booleans())
def test_a_response_format_costs_at_least_its_schema_as_json(schema: dict[str, Any], space: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "hi"}], "response_format": form}
    written = json.dumps(schema, ensure_ascii=False, separators=None if space else (",", ":"))
    bound, count = costs(json.dumps(body).encode())
    assert (
        prompt_tokens(body) + text_tokens(f"# Response Formats\n\n## answer\n\n{written}") <= count <= bound
    )


def test_ordinary_text_is_counted_closely() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 200
    bound, count = costs(chat(text))
    assert bound > 9000
    assert text_tokens(text) < count < text_tokens(text) + FRAMING_TOKENS + 16


@given(
    body=st.binary()
    | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_have_a_bound_and_a_count(body: bytes) -> None:
    bound, count = costs(body)
    assert 0 < count <= bound


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":5}]}',
        b'{"messages":"hello"}',
        b'{"messages":[[[]]],"input":{"a":1}}',
        b'{"messages":[{"content":"\\ud800"}]}',
        b'{"messages":[{"content":[{"type":7,"image_url":[]}]}]}',
        b'{"messages":[{"content":["a","image_url"]}]}',
        b'{"messages":' + b"[" * 984 + b"]" * 984 + b"}",
        b'{"messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"messages":[],"messages":[{"content":"a","content":"b"}]}',
        b'{"messages":[{"content":"x"}],"a":123456789012345678901234567890,"b":-1e308,"c":true}',
        b"",
        b"[]",
    ],
)
def test_an_odd_body_has_a_bound_and_a_count(body: bytes) -> None:
    bound, count = costs(body)
    assert 0 < count <= bound


@pytest.mark.parametrize("model", ["gpt-4o", "mystery"])
def test_the_input_of_embeddings_is_text(model: str) -> None:
    for value in ("hello", ["hello", "world"], [1, 2, 3], [[1, 2], [3]]):
        body = json.dumps({"model": model, "input": value}).encode()
        assert 0 < costs(body, model)[0] - len(body) < 200


FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda uri: uri,
    "escaped slashes": lambda uri: uri.replace("/", "\\/"),
    "escaped signs": lambda uri: uri.replace("+", "\\u002B").replace("=", "\\u003d"),
    "line breaks": lambda uri: uri[:100] + "\\n".join(uri[at : at + 76] for at in range(100, len(uri), 76)),
    "URL-safe": lambda uri: uri[:22] + uri[22:].replace("+", "-").replace("/", "_"),
    "no padding": lambda uri: uri.rstrip("="),
    "upper case": lambda uri: uri.replace(";base64,", ";BASE64,"),
    "parameters": lambda uri: uri.replace(";base64,", ";name=a.png;base64,"),
    "white space": lambda uri: f" {uri} ",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_inlined_picture_is_no_text_however_it_is_written(form: str) -> None:
    body = chat([picture("URI")]).replace(b"URI", FORMS[form](data_uri()).encode())
    assert json.loads(body)
    bound, count = costs(body)
    assert SQUARE <= count - FRAMING_TOKENS < SQUARE + 60
    escapes = body.count(b"\\") * len("u002B")
    assert count <= bound <= count + 400 + escapes


def test_a_type_with_escaped_letters_is_a_picture() -> None:
    body = chat([picture("https://example.com/a.png")])
    escaped = body.replace(b'"type": "image_url"', b'"t\\u0079pe": "image\\u005furl"')
    assert escaped != body
    assert media(escaped, "gpt-4o-mini") >= 48_169


def test_each_picture_counts() -> None:
    for number in (1, 10, MAX_MEDIA_ON_LOOP, MAX_MEDIA_ON_LOOP + 1, 200):
        bound, count = costs(chat([picture(data_uri(PNG[:100]))] * number), "gpt-4.1")
        assert SQUARE * number < count < (SQUARE + 60) * number + FRAMING_TOKENS
        assert count <= bound


def test_the_detail_counts_where_the_part_or_its_picture_says_it() -> None:
    url = data_uri(images.png((2048, 2048)))
    assert media(chat([picture(url, detail="low")])) < 85 + 60
    assert media(chat([picture(url)])) >= 765
    responses = json.dumps(
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url, "detail": "low"}]}]}
    )
    assert 85 <= media(responses.encode()) < 85 + 60
    both = {**picture(url, detail="low"), "detail": "high"}
    assert media(chat([both])) >= 765


@pytest.mark.parametrize(
    "url",
    ["https://example.com/a.png", data_uri(b"no picture"), data_uri()[:40] + "%%%", "data:image/png,abc", ""],
)
def test_a_picture_of_unknown_size_has_the_largest_cost(url: str) -> None:
    assert LARGEST <= media(chat([picture(url)])) < LARGEST + 80


def test_a_large_header_is_read_by_the_count() -> None:
    exif = [images.segment(0xE1, bytes(60_000))] * 3
    body = chat([picture(data_uri(images.jpeg(*exif, images.frame((512, 512)))))])
    bound, count = costs(body)
    assert SQUARE < count - FRAMING_TOKENS < SQUARE + 60
    assert LARGEST < bound < LARGEST + 400


def test_pictures_in_responses() -> None:
    content = [{"type": "input_image", "image_url": data_uri(), "file_id": "file-1"}]
    assert media(json.dumps({"input": [{"role": "user", "content": content}]}).encode()) >= SQUARE + LARGEST
    output = {"type": "computer_screenshot", "image_url": data_uri()}
    screenshot = {"type": "computer_call_output", "output": output}
    assert SQUARE <= media(json.dumps({"input": [screenshot]}).encode()) < SQUARE + 80
    of_function = {
        "type": "function_call_output",
        "output": [{"type": "input_image", "image_url": data_uri()}],
    }
    assert SQUARE <= media(json.dumps({"input": [of_function]}).encode()) < SQUARE + 80


def test_base64_anywhere_else_is_text() -> None:
    uri = data_uri()
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": picture(uri)}}}
    for body in (
        chat([{"type": "text", "text": uri}]),
        chat([{**picture(data_uri(PNG[:100])), "text": uri}]),
        chat([{"type": "text", "text": "a", "image_url": {"url": uri}}]),
        chat([picture(uri), {"type": "text", "text": uri}]),
        chat("hello", tools=[tool]),
        chat("hello", unknown={"a": picture(uri)}),
        json.dumps({"messages": [{"role": "user", "content": "a", "tool_calls": [picture(uri)]}]}).encode(),
    ):
        bound, count = costs(body)
        assert text_tokens(uri) < count <= bound


def test_sound_costs_its_length_and_its_data_is_no_text() -> None:
    data = b"ID3" + random.Random(2).randbytes(20_000)
    body = chat([{"type": "input_audio", "input_audio": {"data": encoded(data), "format": "mp3"}}])
    assert 800 <= media(body, "gpt-audio") < 900


def test_an_earlier_spoken_answer_counts() -> None:
    body = json.dumps({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}).encode()
    assert media(body, "gpt-audio") >= EARLIER_SOUND_TOKENS
    assert media(chat("hi", audio={"voice": "alloy"}), "gpt-audio") < 60


def test_a_file_costs_its_bytes_and_one_that_was_uploaded_the_context_window() -> None:
    text = {"file_data": "data:text/plain;base64," + encoded(b"word " * 1000), "filename": "a.txt"}
    assert 5000 <= media(chat([{"type": "file", "file": text}])) < 5100
    responses = {"input": [{"role": "user", "content": [{"type": "input_file", **text}]}]}
    assert 5000 <= media(json.dumps(responses).encode()) < 5100
    for part in (
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "file", "file": {**text, "file_id": "file-1"}},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    ):
        assert costs(chat([part])) == (128_000, 128_000)
        assert costs(chat([part]), "mystery")[1] >= LARGEST_CONTEXT


def test_a_pdf_is_bounded_by_the_context_window_and_counted_by_its_pages() -> None:
    data = encoded(b"%PDF-1.7\n/Page /Page")
    bound, count = costs(chat([{"type": "file", "file": {"file_data": data}}]))
    assert bound == 128_000
    assert 2 * LARGEST < count - FRAMING_TOKENS < 2 * LARGEST + 100


def test_the_pages_of_a_pdf_may_cost_more_than_the_context_window() -> None:
    data = encoded(b"%PDF-1.7\n" + b"/Page " * 20)
    bound, count = costs(chat([{"type": "file", "file": {"file_data": data}}]), "gpt-4o-mini")
    page = family_of("gpt-4o-mini").picture_tokens((2480, 3508), "high")
    assert 20 * page <= count <= bound
    text = encoded(b"word " * 100_000)
    assert costs(chat([{"type": "file", "file": {"file_data": text}}]), "gpt-4o-mini") == (128_000, 128_000)


@pytest.mark.parametrize("name", ["data_sources", "dataSources", "data\\u005fsources"])
def test_documents_of_a_data_source_count_as_the_context_window(name: str) -> None:
    body = chat("hello", NAME=[{"type": "azure_search"}]).replace(b"NAME", name.encode())
    assert costs(body) == (128_000, 128_000)


def test_no_prompt_costs_more_than_the_context_window() -> None:
    assert costs(chat("1 " * 200_000)) == (128_000, 128_000)
    assert costs(chat("1 " * 200_000), "mystery")[1] > 200_000


def test_a_body_of_very_many_parts_is_bounded_without_reading_them() -> None:
    parts = [{"type": "text", "text": ""}] * MAX_OBJECTS_ON_LOOP
    bound, count = costs(chat(parts), "gpt-4.1")
    assert count < bound < LARGEST_CONTEXT
    pictures = chat([*parts, picture("https://example.com/a.png")])
    assert LARGEST <= costs(pictures, "gpt-4.1")[1] <= costs(pictures, "gpt-4.1")[0]


def test_a_prompt_does_not_wait_for_the_count_of_a_long_one() -> None:
    is_done = threading.Event()
    counting = thread(True).submit(is_done.wait, 60)
    try:
        assert costs(chat("hello " * 5000))[1] < 6000
        assert not counting.done()
    finally:
        is_done.set()


DASHES = "-" * 300_000
PDF = (
    b"%PDF"
    + random.Random(3).randbytes(60_000)
    + b"stream\n"
    + zlib.compress(b"/Kids[1 0 R] 2 0 R" * 200_000)
)
PDFS = [{"type": "file", "file": {"file_data": encoded(PDF)}}] * 3


@pytest.mark.parametrize("content", [DASHES, PDFS], ids=["dashes", "PDFs"])
async def test_a_long_prompt_does_not_wait_for_the_end_of_another(content: Any) -> None:
    """Some texts take ten seconds for 7 MB. So a few such calls would stop every call with a photo."""
    slow = [asyncio.create_task(Prompt(chat(content), family_of("o3")).count()) for _ in range(2)]
    await asyncio.sleep(0)
    prompt = Prompt(chat([picture(data_uri(random.Random(2).randbytes(150_000)))]), FOUR)
    assert not await prompt.is_too_long()
    await prompt.count()
    assert not any(one.done() for one in slow)
    assert len(set(await asyncio.gather(*slow))) == 1


def test_without_the_tokenizer_a_prompt_has_its_bound() -> None:
    program = """
import asyncio, sys
sys.modules["bpe_openai"] = None
from shared.tokens.families import family_of
from shared.tokens.prompt import Prompt
prompt = Prompt(b'{"messages":[{"role":"user","content":"' + b"word " * 40_000 + b'"}]}', family_of("gpt-4o"))
print(asyncio.run(prompt.count()) == prompt.bound, asyncio.run(prompt.is_too_long()))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["True", "False"]


async def test_several_callers_share_one_count_and_one_may_leave() -> None:
    prompt = Prompt(chat("hello world " * 20_000), FOUR)
    tasks = [asyncio.create_task(prompt.count()) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    counts = await asyncio.gather(*tasks[1:])
    assert len(set(counts)) == 1
    assert await prompt.count() == counts[0]


async def test_the_event_loop_runs_while_a_long_text_is_counted() -> None:
    prompt = Prompt(chat("".join(random.Random(3).choices("abcdefgh", k=2_000_000))), family_of("gpt-4.1"))
    count = asyncio.create_task(prompt.count())
    turns = 0
    began = time.monotonic()
    while not count.done() and time.monotonic() - began < 60:
        await asyncio.sleep(0.001)
        turns += 1
    assert await count > 500_000
    assert turns > 10


@pytest.mark.parametrize(
    ("content", "model", "expected"),
    [
        ("word " * 130_000, "gpt-4o", True),
        ([{"type": "text", "text": "word " * 70_000}] * 2, "gpt-4o", True),
        ("word " * 120_000, "gpt-4o", False),
        ("word " * 130_000, "gpt-4.1", False),
        ("word " * 130_000, "mystery", False),
        ([picture(data_uri(bytes(400_000)))], "gpt-4o", False),
        ("a" * 600_000, "gpt-4o", False),
        (7, "gpt-4o", False),
    ],
)
async def test_a_prompt_is_too_long_only_if_its_messages_exceed_the_window(
    content: Any, model: str, expected: bool
) -> None:
    prompt = Prompt(chat(content), family_of(model))
    assert await prompt.is_too_long() is expected


@pytest.mark.parametrize("parts", [16, SAMPLES])
async def test_no_text_can_avoid_the_samples(parts: int) -> None:
    text = ("a" * 1_000 + "1 " * (192_000 // parts)) * parts
    assert await Prompt(chat(text), FOUR).is_too_long()


async def test_text_outside_of_the_messages_makes_no_prompt_too_long() -> None:
    assert not await Prompt(chat("hi", metadata={"a": "word " * 130_000}), FOUR).is_too_long()


async def test_pictures_can_cost_more_than_the_context_window() -> None:
    """gpt-4o-mini bills 48,169 tokens for a large picture. So ten of them cost more than its 128,000."""
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/y.png"}}
    body = json.dumps({"messages": [{"role": "user", "content": [picture] * 10}]}).encode()
    prompt = Prompt(body, family_of("gpt-4o-mini"))
    assert 481_690 <= await prompt.count() <= prompt.bound
