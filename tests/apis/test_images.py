"""Images: what is read of a body, what a picture can cost, and the usage of responses and streams."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.apis.image_stream import ImageStream
from shared.apis.image_tokens import most_tokens
from shared.apis.images import IMAGES
from shared.apis.quirks import NO_QUIRKS
from shared.apis.sse import MAX_EVENT_BYTES
from shared.core.errors import InvalidRequest, UpstreamError
from shared.core.models import Deployment, Usage
from shared.upstream.long_response import LongResponse

V1 = Deployment("gpt-image-1", "one", "https://one.openai.azure.com", "pictures")
USAGE = {
    "total_tokens": 4210,
    "input_tokens": 50,
    "output_tokens": 4160,
    "input_tokens_details": {"text_tokens": 50, "image_tokens": 0},
}
LINE_ENDS = [b"\n", b"\r\n", b"\r"]
ANY_SIZE = most_tokens("gpt-image-2", "high", None)


def request(**members: Any) -> Any:
    return IMAGES.parse(json.dumps({"prompt": "a glove box", **members}).encode())


def test_everything_may_be_missing_but_the_prompt() -> None:
    read = request()
    assert (read.model, read.stream, read.choices, read.output_tokens) == (None, None, 1, ANY_SIZE)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"n": 0}, "'n' must be from 1 to 10."),
        ({"n": 11}, "'n' must be from 1 to 10."),
        ({"n": "2"}, "'n' must be a whole number, not a string."),
        ({"partial_images": 4}, "'partial_images' must be from 0 to 3."),
        ({"partial_images": -1}, "'partial_images' must be from 0 to 3."),
        ({"stream": "yes"}, "'stream' must be true or false, not a string."),
        ({"size": 1024}, "'size' must be a string, not a whole number."),
    ],
)
def test_what_would_change_the_cost_must_have_its_type(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request(**members)
    assert caught.value.message == message


def test_the_model_alone_is_changed_for_the_upstream() -> None:
    sent = b'{"prompt":"a","n":1,"n":2, "quality":"low","new":[ 1.0 ]}'
    changed = IMAGES.upstream_body(sent, IMAGES.parse(sent), V1, 100, NO_QUIRKS)
    assert changed == b'{"prompt":"a","n":2,"quality":"low","new":[ 1.0 ],"model":"pictures"}'
    assert IMAGES.parse(sent).choices == 2


@pytest.mark.parametrize(
    ("model", "quality", "size", "tokens"),
    [
        ("gpt-image-1", "low", "1024x1024", 272),
        ("gpt-image-1-mini", "medium", "1024x1536", 1584),
        ("gpt-image-1.5", "high", "1024x1024", 4160),
        ("GPT-Image-1", "auto", "auto", 6240),
        ("gpt-image-1", None, None, 6240),
        ("gpt-image-2", "low", "1024x1024", 196),
        ("gpt-image-2", "medium", "1024x1024", 1756),
        ("gpt-image-2", "high", "1024x1024", 7024),
        ("gpt-image-2", "low", "1024x1536", 158),
        ("gpt-image-2", "medium", "1536x1024", 1372),
        ("gpt-image-2.5-sunburst", "max", "3840x2160", 13342),
        ("gpt-image-2", "low", "3840x2160", 371),
        ("dall-e-3", "standard", "1024x1024", 1000),
        ("dall-e-3", "hd", "1792x1024", 3000),
    ],
)
def test_known_models_cost_what_the_public_tables_say(
    model: str, quality: str | None, size: str | None, tokens: int
) -> None:
    assert most_tokens(model, quality, size) == tokens


@pytest.mark.parametrize("quality", ["low", "medium", "high", "auto", None, "luxury"])
@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "2880x2880", "auto", "x", "0x0", "00x00", None])
def test_a_picture_of_an_unknown_model_costs_at_least_that_of_any_known_one(
    quality: str | None, size: str | None
) -> None:
    tokens = [most_tokens(model, quality, size) for model in ("gpt-image-1", "gpt-image-2.5-flare")]
    assert most_tokens("pictures", quality, size) == most_tokens(None, quality, size) == max(tokens)
    assert max(tokens) <= ANY_SIZE


def test_each_partial_image_costs_100_tokens_more() -> None:
    plain = request(quality="low", size="1024x1024")
    partial = request(quality="low", size="1024x1024", stream=True, partial_images=3)
    assert IMAGES.most_output_tokens(plain, "gpt-image-1") == 272
    assert IMAGES.most_output_tokens(partial, "gpt-image-1") == 572


def test_the_body_cannot_make_a_picture_cheaper_by_naming_another_model() -> None:
    assert request(model="dall-e-3").output_tokens == ANY_SIZE
    assert IMAGES.most_output_tokens(request(model="dall-e-3"), "gpt-image-2") == ANY_SIZE


def test_tokens_are_charged_as_reported_and_dall_e_reports_none() -> None:
    assert IMAGES.usage_of(json.dumps({"data": [], "usage": USAGE}).encode()) == Usage(50, 4160)
    assert IMAGES.usage_of(b'{"created":1,"data":[{"url":"https://x"}]}') is None
    assert IMAGES.usage_of(b'{"usage":{"input_tokens":50}}') is None


def test_the_usage_of_a_long_response_is_found_on_the_way() -> None:
    response = json.dumps({"data": [{"b64_json": "iVBOR" * 500_000}], "usage": USAGE}).encode()
    reader = LongResponse(IMAGES.read_usage)
    assert reader.feed(response[:1_500_000]) + reader.feed(response[1_500_000:]) == response
    assert reader.usage == Usage(50, 4160)


def event(kind: str, line_end: bytes = b"\n", name: bool = True, **members: Any) -> bytes:
    data = b"data: " + json.dumps({"type": kind, **members}).encode()
    return (b"event: " + kind.encode() + line_end if name else b"") + data + line_end * 2


def completed(size: int = 100, line_end: bytes = b"\n", name: bool = True, **members: Any) -> bytes:
    members = {"b64_json": "QUJD" * (size // 4), "usage": USAGE, **members}
    return event("image_generation.completed", line_end, name, **members)


def partial(size: int = 100, line_end: bytes = b"\n") -> bytes:
    return event("image_generation.partial_image", line_end, b64_json="QUJD" * (size // 4))


def stream(images: int = 1) -> ImageStream:
    return IMAGES.stream_reader(request(n=images, stream=True), None)


SIZES = st.sampled_from([40, 4000, MAX_EVENT_BYTES - 50, MAX_EVENT_BYTES + 50, 3 * MAX_EVENT_BYTES])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(SIZES, max_size=2),
    SIZES,
    st.sampled_from(LINE_ENDS),
    st.booleans(),
    st.lists(st.integers(1, 3 * MAX_EVENT_BYTES), max_size=6),
)
def test_a_stream_in_any_pieces_is_passed_on_unchanged_and_its_usage_is_found(
    partials: list[int], last: int, line_end: bytes, name: bool, cuts: list[int]
) -> None:
    sent = b"".join(partial(size, line_end) for size in partials) + completed(last, line_end, name)
    whole, reader = sent + b"data: ignored", stream()
    pieces = pairwise([0, *sorted(cuts), len(whole) + max(cuts, default=0)])
    assert b"".join(reader.feed(whole[begin:end]) for begin, end in pieces) == sent
    assert reader.end()
    assert (reader.usage, reader.failed, reader.in_event) == (Usage(50, 4160), False, False)


def test_an_event_is_passed_on_when_it_is_whole_and_a_long_one_in_pieces() -> None:
    reader, sent = stream(), partial()
    assert reader.feed(sent[:50]) == b"" and not reader.in_event
    assert reader.feed(sent[50:]) == sent
    long = completed(2 * MAX_EVENT_BYTES)
    assert reader.feed(long[:1000]) == b""
    assert reader.feed(long[1000:-10]) == long[:-10] and reader.in_event
    assert reader.feed(long[-10:]) == long[-10:] and reader.done


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_the_end_of_a_long_event_is_found_wherever_it_is_cut(line_end: bytes) -> None:
    long = completed(2 * MAX_EVENT_BYTES, line_end)
    for after in range(1, 2 * len(line_end)):
        reader = stream()
        assert reader.feed(long[:-after]) + reader.feed(long[-after:]) == long
        assert reader.done and not reader.in_event


def test_several_pictures_are_complete_with_the_last_one_and_their_usage_is_added_up() -> None:
    reader = stream(images=2)
    reader.feed(completed())
    assert (reader.done, reader.usage) == (False, None)
    reader.feed(completed(2 * MAX_EVENT_BYTES))
    assert (reader.done, reader.usage) == (True, Usage(100, 8320))


def test_a_picture_without_usage_makes_the_usage_of_the_stream_unknown() -> None:
    reader = stream(images=2)
    reader.feed(completed() + completed(usage=None))
    assert (reader.done, reader.usage) == (True, None)
    assert reader.output_bytes > 2**60


@pytest.mark.parametrize("size", [40, 2 * MAX_EVENT_BYTES])
def test_text_that_looks_like_an_event_is_none(size: int) -> None:
    trap = '"type":"image_generation.completed","usage":{"input_tokens":1,"output_tokens":1} \nevent: error\n'
    sent = event("image_generation.partial_image", b64_json="QUJD" * (size // 4), revised_prompt=trap)
    reader = stream()
    assert reader.feed(sent) == sent
    assert (reader.done, reader.failed, reader.usage) == (False, False, None)


@pytest.mark.parametrize("name", [True, False])
def test_an_error_event_is_passed_on_and_noted(name: bool) -> None:
    sent = event("error", name=name, error={"code": "moderation_blocked", "message": "No."})
    reader = stream()
    assert reader.feed(sent) == sent and reader.failed
    assert not reader.end()


def test_a_stream_without_a_completed_picture_is_cut() -> None:
    reader = stream()
    reader.feed(partial())
    assert not reader.end() and reader.usage is None


def test_a_completed_event_without_its_end_is_cut_but_charged_as_reported() -> None:
    for size in (40, 2 * MAX_EVENT_BYTES):
        reader = stream()
        reader.feed(completed(size)[:-2])
        assert not reader.end() and reader.usage == Usage(50, 4160)


def test_an_error_of_the_proxy_has_the_form_of_the_api() -> None:
    sent = stream().error_event(UpstreamError("The answer was cut off."))
    assert sent.startswith(b"event: error\ndata: ") and sent.endswith(b"\n\n")
    data = json.loads(sent.partition(b"data: ")[2])
    assert data["type"] == "error" and data["error"]["message"] == "The answer was cut off."
    reader = stream()
    assert reader.feed(sent) == sent and reader.failed
