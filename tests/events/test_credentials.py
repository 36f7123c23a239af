"""The credential: its three headers, its form, and one error for everything else."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.core.errors import InvalidEventToken
from shared.core.models import Credential
from shared.events.credentials import LONGEST_PASS, is_event_code, parse, read_credential

GOOD = Credential("hackathon", "gloveboxes")
CODE_LETTERS = string.ascii_lowercase + string.digits + "-_."


@pytest.mark.parametrize(
    "headers",
    [
        {b"api-key": b"hackathon/gloveboxes"},
        {b"openai-event-code": b"hackathon/gloveboxes"},
        {b"authorization": b"Bearer hackathon/gloveboxes"},
        {b"authorization": b"bearer hackathon/gloveboxes"},
        {b"authorization": b"BEARER   hackathon/gloveboxes  "},
        {b"authorization": b"  bEaReR hackathon/gloveboxes"},
        {b"api-key": b"hackathon/gloveboxes", b"openai-event-code": b"x/y", b"authorization": b"Bearer x/y"},
        {b"openai-event-code": b"hackathon/gloveboxes", b"authorization": b"Bearer x/y"},
        {b"api-key": b"", b"openai-event-code": b"hackathon/gloveboxes"},
        {b"api-key": b"", b"openai-event-code": b" \t", b"authorization": b"Bearer hackathon/gloveboxes"},
        {b"api-key": b"  ", b"authorization": b"Bearer hackathon/gloveboxes"},
        {b"api-key": b"hackathon/gloveboxes", b"authorization": b"Bearer"},
        {b"api-key": b"unused", b"openai-event-code": b"hackathon/gloveboxes"},
        {
            b"api-key": b"a b/c",
            b"openai-event-code": b"sk-1",
            b"authorization": b"Bearer hackathon/gloveboxes",
        },
    ],
)
def test_first_header_with_the_form_of_a_credential_holds_it(headers: dict[bytes, bytes]) -> None:
    assert read_credential(headers) == GOOD


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"api-key": b""},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer "},
        {b"authorization": b"Basic hackathon/gloveboxes"},
        {b"authorization": b"hackathon/gloveboxes"},
        {b"authorization": b"Bearerhackathon/gloveboxes"},
        {b"api-key": b"wrong", b"openai-event-code": b"a b/c", b"authorization": b"Bearer unused"},
    ],
)
def test_header_without_a_credential_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidEventToken):
        read_credential(headers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"HackaThon/GloveBoxes", GOOD),
        (b" hackathon / gloveboxes\t", GOOD),
        (b"a/b", Credential("a", "b")),
        (b"a.b-c_9/x@y.z+1-2_3", Credential("a.b-c_9", "x@y.z+1-2_3")),
        (b"c" * 64 + b"/" + b"u" * 64, Credential("c" * 64, "u" * 64)),
    ],
)
def test_both_parts_are_trimmed_and_put_in_lower_case(text: bytes, expected: Credential) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"/",
        b"hackathon",
        b"hackathon/",
        b"/gloveboxes",
        b" /gloveboxes",
        b"hackathon/glove/boxes",
        b"hackathon//gloveboxes",
        b"hack athon/gloveboxes",
        b"hackathon/glove boxes",
        b"hackathon/gloveboxes\n",
        b"hackathon\x00/gloveboxes",
        b"hackathon\\/gloveboxes",
        b"hack@thon/gloveboxes",
        b"hack+thon/gloveboxes",
        "hackathön/gloveboxes".encode(),
        "hackathön/gloveboxes".encode("latin-1"),
        "hackathon/日本".encode(),
        "hac\u212aathon/gloveboxes".encode(),
        b"hackathon'/gloveboxes",
        b'"hackathon"/gloveboxes',
        b"' or 1 eq 1 or PartitionKey eq '/gloveboxes",
        b"hackathon' or RowKey ne '/gloveboxes",
        b"hackathon/x' or true",
        b"hackathon/*",
        b"hackathon/$filter=true",
        b"hackathon/%27",
        b"hackathon/a#b?c",
        b"c" * 65 + b"/u",
        b"c/" + b"u" * 65,
        b" " * 600 + b"c/u",
        b"c/u" + b" " * 600,
        b"c/u" * 100_000,
    ],
)
def test_malformed_credential_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidEventToken):
        parse(text)


GENERIC = InvalidEventToken().message


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, GENERIC),
        ({b"authorization": b"Basic x"}, GENERIC),
        ({b"api-key": b"a b/c"}, GENERIC),
        ({b"api-key": b"hackathon"}, "has no name in it"),
        ({b"api-key": b"hackathon/ "}, "has no name in it"),
        ({b"api-key": "hackathon/jörg".encode()}, "characters that are not allowed"),
        ({b"api-key": b"hackathon/" + b"u" * 65}, "too long. Use at most 64"),
        ({b"api-key": b"hackathon/YOUR-GITHUB-NAME"}, "Put your own name in its place"),
        ({b"api-key": b"hackathon/your-name.pass"}, "Put your own name in its place"),
        (
            {b"api-key": b"unused", b"authorization": b"Bearer hackathon/a b"},
            "characters that are not allowed",
        ),
    ],
)
def test_refusal_says_what_is_wrong_with_the_form_of_the_key(
    headers: dict[bytes, bytes], expected: str
) -> None:
    with pytest.raises(InvalidEventToken) as caught:
        read_credential(headers)
    assert expected in caught.value.message


@given(st.text(CODE_LETTERS, min_size=1, max_size=64), st.text(CODE_LETTERS + "@+", min_size=1, max_size=64))
def test_every_valid_pair_is_parsed(code: str, user: str) -> None:
    assert parse(f"{code}/{user}".encode()) == Credential(code, user)
    assert parse(f"{code.upper()}/{user.upper()}".encode()) == Credential(code, user)
    assert is_event_code(code)


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode(errors="replace")))
def test_parsed_credential_holds_only_characters_allowed_in_a_table_key(text: bytes) -> None:
    try:
        parsed = parse(text)
    except InvalidEventToken:
        return
    code, user = parsed.event_code, parsed.user
    assert set(code) <= set(CODE_LETTERS)
    assert set(user) <= set(CODE_LETTERS + "@+")
    assert 1 <= len(code) <= 64
    assert 1 <= len(user) <= LONGEST_PASS


@pytest.mark.parametrize("text", ["", "Hackathon", "a b", "a/b", "a@b", "é", "x" * 65, "a\n"])
def test_text_of_another_form_is_not_an_event_code(text: str) -> None:
    assert not is_event_code(text)
