"""Embeddings: what is read of a body, what goes upstream, and the usage in short and long responses."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import struct
from itertools import pairwise
from typing import Any

import pytest

from shared.apis.embeddings import EMBEDDINGS
from shared.apis.quirks import NO_QUIRKS
from shared.core.errors import InvalidJson, InvalidRequest
from shared.core.models import Deployment, Usage
from shared.tokens.families import family_of
from shared.tokens.inputs import InputsPrompt
from shared.upstream.long_response import LongResponse
from tests.tokens.reference import text_tokens

V1 = Deployment("text-embedding-3-small", "one", "https://one.openai.azure.com", "vectors")
MILLION = b'{"input":[' + b"100000," * 999_999 + b"1]}"


def body(value: Any, **members: Any) -> bytes:
    return json.dumps({"input": value, **members}).encode()


@pytest.mark.parametrize("value", ["text", "", [], ["a", "b"], [1, 2], [[1, 2], [3]], [[]], None])
def test_inputs_of_every_form_are_accepted(value: Any) -> None:
    request = EMBEDDINGS.parse(body(value, model="small", dimensions=256, encoding_format="base64"))
    assert (request.model, request.stream, request.choices, request.output_tokens) == ("small", None, 1, 0)


@pytest.mark.parametrize("value", [7, True, {"text": "a"}, [True], [{"text": "a"}], [-1], [None]])
def test_inputs_of_another_form_are_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        EMBEDDINGS.parse(body(value))
    assert caught.value.param == "input"
    assert caught.value.message.startswith("'input' must be a string, a list of strings")


def test_bodies_that_are_no_json_object_are_refused_in_words_about_embeddings() -> None:
    with pytest.raises(InvalidJson, match=r"it is empty\. Send an object with 'input'"):
        EMBEDDINGS.parse(b"")
    with pytest.raises(InvalidRequest, match="'model' must be a string, not a whole number"):
        EMBEDDINGS.parse(b'{"model":5}')


def test_the_model_alone_is_changed_for_the_upstream() -> None:
    sent = b'{"model":"m", "input":["\\u00e9", 1e2 ],"dimensions":256,"new":{"a": 1.50}}'
    changed = EMBEDDINGS.upstream_body(sent, EMBEDDINGS.parse(sent), V1, 100, NO_QUIRKS)
    assert changed == b'{"model":"vectors","input":["\\u00e9", 1e2 ],"dimensions":256,"new":{"a": 1.50}}'
    dated = Deployment(*("m", "i", "https://one.openai.azure.com", "vectors"), api_version="2024-10-21")
    without = b'{"input":"a"}'
    assert EMBEDDINGS.upstream_body(without, EMBEDDINGS.parse(without), dated, None, NO_QUIRKS) == without


def test_prompt_tokens_are_the_only_usage() -> None:
    assert EMBEDDINGS.usage_of(b'{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}') == Usage(8, 0)
    with pytest.raises(ValueError, match="not a JSON object"):
        EMBEDDINGS.usage_of(b"[]")


@pytest.mark.parametrize(
    "value", [b"null", b"[]", b"{}", b'{"total_tokens":7}', b'{"prompt_tokens":0}', b'{"prompt_tokens":1e9}']
)
def test_odd_usage_is_no_usage(value: bytes) -> None:
    assert EMBEDDINGS.usage_of(b'{"usage":%b}' % value) is None


def vectors(encoding: str, *, usage_first: bool) -> bytes:
    vector = [random.Random(1).uniform(-1, 1) for _ in range(3072)]
    packed = base64.b64encode(struct.pack("3072f", *vector)).decode()
    data = [{"index": index, "embedding": vector if encoding == "float" else packed} for index in range(100)]
    usage = {"usage": {"prompt_tokens": 800, "total_tokens": 800}}
    members: dict[str, Any] = {"object": "list", "data": data}
    return json.dumps(usage | members if usage_first else members | usage, indent=1).encode()


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("usage_first", [True, False])
def test_the_usage_of_a_long_response_is_found_on_the_way(encoding: str, usage_first: bool) -> None:
    response = vectors(encoding, usage_first=usage_first)
    assert len(response) > 1_000_000
    reader = LongResponse(EMBEDDINGS.read_usage)
    cuts = range(0, len(response) + 9973, 9973)
    assert b"".join(reader.feed(response[begin:end]) for begin, end in pairwise(cuts)) == response
    assert reader.end() and reader.usage == Usage(800, 0)


def costs(sent: bytes, model: str = "text-embedding-3-small") -> tuple[int, int]:
    """The bound, and the exact count."""
    prompt = InputsPrompt(sent, family_of(model))
    return prompt.bound, asyncio.run(prompt.count())


@pytest.mark.parametrize("numbers", [[5], [100_000, 7, 9], list(range(5000))])
def test_each_number_is_a_token(numbers: list[int]) -> None:
    assert costs(body(numbers)) == (len(numbers),) * 2
    assert costs(body([numbers, numbers, numbers])) == (3 * len(numbers),) * 2
    assert costs(body([numbers], user="with text")) == (len(numbers),) * 2


def test_text_is_counted_exactly_and_its_bytes_are_a_bound() -> None:
    texts = ["glove boxes", "Fête 日本 🚀", "a" * 3000, ""]
    exact = sum(text_tokens(text, "cl100k_base") for text in texts)
    bound, count = costs(body(texts, model="text-embedding-3-small", user="nobody"))
    assert count == exact
    assert bound >= sum(len(text.encode()) for text in texts)
    assert costs(body(texts[0]))[1] == text_tokens(texts[0], "cl100k_base")


def test_an_unknown_model_costs_more_but_never_more_than_its_bound() -> None:
    bound, count = costs(body(["a", "b"]), "cohere-embed")
    assert 2 + 2 * 3 <= count <= bound


@pytest.mark.parametrize("sent", [body(["a"] * 400_000), b'{"input":[1,"a",2]}', b'{"input":[[1],"a"]}'])
def test_what_cannot_be_counted_has_its_bound(sent: bytes) -> None:
    bound, count = costs(sent)
    assert count == bound


def test_a_missing_input_costs_next_to_nothing() -> None:
    assert costs(b'{"model":"m"}')[0] < 16


def test_a_million_numbers_are_counted_without_being_decoded() -> None:
    prompt = InputsPrompt(MILLION, family_of("text-embedding-3-small"))
    assert prompt.bound == 1_000_000
    EMBEDDINGS.parse(MILLION)
