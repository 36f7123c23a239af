"""The usage in whole responses, and in JSON objects that arrive in pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.usage import MAX_USAGE_BYTES, MOST_TOKENS, UsageFinder, usage_of
from shared.core.models import Usage

ODD = [
    b"null",
    b"{}",
    b"[]",
    b"7",
    b'"many"',
    b"true",
    b'{"prompt_tokens":7}',
    b'{"completion_tokens":7}',
    b'{"prompt_tokens":0,"completion_tokens":0}',
    b'{"prompt_tokens":0,"completion_tokens":5}',
    b'{"prompt_tokens":-1,"completion_tokens":5}',
    b'{"prompt_tokens":7,"completion_tokens":-5}',
    b'{"prompt_tokens":7.0,"completion_tokens":5}',
    b'{"prompt_tokens":7,"completion_tokens":1.5}',
    b'{"prompt_tokens":7,"completion_tokens":1e3}',
    b'{"prompt_tokens":"7","completion_tokens":5}',
    b'{"prompt_tokens":7,"completion_tokens":true}',
    b'{"prompt_tokens":7,"completion_tokens":null}',
    b'{"prompt_tokens":null,"completion_tokens":5}',
    b'{"prompt_tokens":7,"completion_tokens":[5]}',
    b'{"prompt_tokens":100000001,"completion_tokens":5}',
    b'{"prompt_tokens":7,"completion_tokens":100000001}',
    b'{"prompt_tokens":7,"completion_tokens":9223372036854775808}',
    b'{"prompt_tokens":7,"completion_tokens":' + b"9" * 4000 + b"}",
]
"""Values of `usage` that report nothing."""

GOOD = b'{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"x":{"y":[1]}}'


def found(*pieces: bytes) -> Usage | None:
    finder = UsageFinder()
    for piece in pieces:
        finder.feed(piece)
    return finder.usage


@pytest.mark.parametrize("value", ODD)
def test_odd_usage_is_no_usage(value: bytes) -> None:
    body = b'{"choices":[],"usage":%b}' % value
    assert usage_of(body) is None
    assert found(body) is None


def test_the_largest_plausible_usage_is_read() -> None:
    body = b'{"usage":{"prompt_tokens":%d,"completion_tokens":%d}}' % (MOST_TOKENS, MOST_TOKENS)
    assert usage_of(body) == found(body) == Usage(MOST_TOKENS, MOST_TOKENS)


BODIES = [
    (b'{"usage":%b}' % GOOD, Usage(7, 5)),
    (b' {"choices":7, "usage" : %b , "x":1} ' % GOOD, Usage(7, 5)),
    (b'{"usage":%b,"choices":[{"message":{"content":"x"}}]}' % GOOD, Usage(7, 5)),
    (b'{"usage":{"prompt_tokens":1,"completion_tokens":2},"usage":%b}' % GOOD, Usage(7, 5)),
    (b"{}", None),
    (b'{"error":{"message":"no"}}', None),
    (b'{"choices":[{"usage":%b}]}' % GOOD, None),
    (b'{"x":{"usage":%b}}' % GOOD, None),
    (b'{"x\\"usage":%b}' % GOOD, None),
    (json.dumps({"x": '{"usage":' + GOOD.decode() + "}", "y": '\\","usage":{'}).encode(), None),
    (b'{"x":"\\\\","usage":%b}' % GOOD, Usage(7, 5)),
    (b'{"x":"}}]","usage":%b,"y":"{[\\""}' % GOOD, Usage(7, 5)),
]


@pytest.mark.parametrize(("body", "usage"), BODIES)
def test_the_usage_of_a_response_is_its_own_member(body: bytes, usage: Usage | None) -> None:
    assert usage_of(body) == usage


@pytest.mark.parametrize(("body", "usage"), BODIES)
def test_the_usage_is_found_wherever_the_pieces_end(body: bytes, usage: Usage | None) -> None:
    assert found(*(body[at : at + 1] for at in range(len(body)))) == usage
    for at in range(len(body)):
        assert found(body[:at], body[at:]) == usage


JSON = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('"\\{}[]:,usage \u00e9'), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["usage", 'a"', "\\"]), inner)
    ),
    max_leaves=8,
)
USAGES = st.sampled_from([json.loads(GOOD), {}, None, "x"])


@given(st.dictionaries(st.sampled_from(["a", 'u"', "usage\\"]), JSON), USAGES, JSON, st.integers(1, 9))
def test_the_finder_reads_what_the_parser_reads(
    members: dict[str, object], usage: object, last: object, size: int
) -> None:
    body = json.dumps({**members, "usage": usage, "z": last}, ensure_ascii=False).encode()
    assert found(*(body[at : at + size] for at in range(0, len(body), size))) == usage_of(body)


def test_a_usage_that_is_too_long_is_not_kept() -> None:
    finder = UsageFinder()
    finder.feed(b'{"usage":{"x":"')
    for _ in range(20):
        finder.feed(b"x" * MAX_USAGE_BYTES)
    finder.feed(b'","prompt_tokens":7,"completion_tokens":5}}')
    assert finder.usage is None


@given(st.lists(st.binary(max_size=9)))
def test_the_finder_accepts_any_bytes(pieces: list[bytes]) -> None:
    found(b'{"usage":{', *pieces)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'[{"usage":{}}]', b"1", b"null", b'"x"', b"<html>", b"{", b"\xff\xfe", b"[" * 100_000],
)
def test_the_usage_of_a_body_that_is_not_an_object_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        usage_of(body)


@given(st.binary() | st.text().map(lambda text: json.dumps({"usage": text}).encode()))
def test_any_body_has_a_usage_or_is_an_error(body: bytes) -> None:
    try:
        usage_of(body)
    except ValueError as error:
        assert str(error) == "not a JSON object"
