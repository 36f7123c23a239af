"""The members of a request that the proxy reads, and those that it changes."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.chat import CHAT, MAX_CHOICES, ChatRequest
from shared.apis.chat_files import MOST_FILES, MOST_OBJECTS
from shared.apis.quirks import NO_QUIRKS, Quirks
from shared.core.errors import InvalidJson, InvalidRequest, UnsupportedEncoding, UnsupportedValue
from shared.core.models import Deployment

V1 = Deployment("gpt", "one", "https://one.example", "gpt-deployed")
DATED = replace(V1, api_version="2024-10-21")
INTEGERS = ["n", "max_tokens", "max_completion_tokens"]
MESSAGES = b'"messages":[{"role":"user","content":"Hi"}]'


def forwarded(
    body: bytes, deployment: Deployment = V1, cap: int | None = None, quirks: Quirks = NO_QUIRKS
) -> bytes:
    return CHAT.upstream_body(body, CHAT.parse(body), deployment, cap, quirks)


def test_the_members_that_the_proxy_needs_are_read() -> None:
    request = CHAT.parse(
        b'{"model":"gpt","stream":true,"stream_options":{"include_usage":true},'
        b'"max_tokens":5,"max_completion_tokens":7,"n":2}'
    )
    assert (request.model, request.stream, request.wants_usage) == ("gpt", True, True)
    assert (request.output_tokens, request.choices) == (7, 2)


@pytest.mark.parametrize("body", [b"{}", b" { } ", b'{"x":1}'])
def test_nothing_is_required(body: bytes) -> None:
    request = CHAT.parse(body)
    assert (request.model, request.stream, request.wants_usage) == (None, None, False)
    assert (request.output_tokens, request.choices) == (None, 1)


@pytest.mark.parametrize("name", ["model", "stream", "stream_options", *INTEGERS])
def test_null_is_the_same_as_missing(name: str) -> None:
    assert CHAT.parse(b'{"%s":null}' % name.encode()) == CHAT.parse(b"{}")


@pytest.mark.parametrize("value", [b"null", b"false", b"null ", b"\tfalse\n"])
def test_the_client_does_not_want_usage_if_it_sends_false_or_null(value: bytes) -> None:
    assert not CHAT.parse(b'{"stream_options":{"include_usage":%s}}' % value).wants_usage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1}{',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":01}',
        b'{"a":"\t"}',
        b'{"a":"\\x"}',
        b'{"a":"\\ud800"}',
        b"model=gpt",
        b"\xef\xbb\xbf{}",
        '{"model":"gpt"}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"\xff":1}',
        b'{"model":"\xc3\x28"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":1}\xff',
    ],
)
def test_a_body_that_is_not_json_in_utf8_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        CHAT.parse(body)


DEEP = b"[" * 100_000
HALF = ": it contains half of a surrogate pair, as when an emoji is cut in two"
BOM = ": it begins with a byte order mark. Save it as UTF-8 without one"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", ": it is empty. Send an object with 'messages'"),
        (b" \r\n", ": it is empty. Send an object with 'messages'"),
        (b'{"a":[1', ": it ends too early"),
        (b'{"a":"abc', ": it ends too early"),
        (b'{"a":1,}', " at byte 7: remove the comma before }"),
        (b'{"a":[1,]}', " at byte 8: remove the comma before ]"),
        (b'{"a":1 "b":2}', " at byte 7: expected ',' or '}'"),
        (b'{"a" 1}', " at byte 5: expected ':'"),
        (b"{'a':1}", " at byte 1: use double quotes around names"),
        (b'{"a":1}}', " at byte 8: remove everything after the last }"),
        (b'{"a":NaN}', " at byte 5: invalid character"),
        (b'{"a":"\\x"}', " at byte 7: invalid escaped character"),
        (b'{"a":"caf\xe9 au lait"}', ": byte 9 is not UTF-8"),
        (b'{"a":"smile \\ud83d"}', HALF),
        (b'{"a":"smile \\uD83D"}]}', HALF),
        (b'{"a":"smile \\ud83d and more"}', HALF),
        (b'{"a":"\\ud83d\\u0041"}', HALF),
        (b'{"a":"\\ude00 smile"}', HALF),
        (b'{"a":"\\ud83d","messages":[{"role":"user","content":"x"}]}', HALF),
        (b'{"model":"\\ud83d","messages":[]}', HALF),
        (b'{"a":"smile \\ud83d\\ude00', ": it ends too early, or a \\u escape in it does"),
        (b'{"a":"smile \\\\ud83d', ": it ends too early, or a \\u escape in it does"),
        (b'{"model":"a\\u4"}', ": it ends too early, or a \\u escape in it does"),
        (b"\xef\xbb\xbf{}", BOM),
        ('{"a":"x"}'.encode("utf-16"), ": it is UTF-16. Save it as UTF-8"),
        (b"\xfe\xff" + '{"a":"x"}'.encode("utf-16-be"), ": it is UTF-16. Save it as UTF-8"),
        ('{"a":"x"}'.encode("utf-16-le"), ": it is UTF-16. Save it as UTF-8"),
        ('{"a":"x"}'.encode("utf-16-be"), ": it is UTF-16. Save it as UTF-8"),
        (b'{"a":' + DEEP, ": it is nested too deeply"),
        (b'{"stream_options":{"a":' + DEEP, ": it is nested too deeply"),
    ],
)
def test_the_message_says_why_a_body_is_not_json(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        CHAT.parse(body)
    assert caught.value.message == f"The body is not valid JSON{problem}."


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"{}", mtime=0), b""),
        (gzip.compress(b"{}", mtime=0), b"gzip"),
        (zlib.compress(b"{}"), b"deflate"),
        (b"\x0b\x01\x80{}\x03", b" BR "),
        (b"(\xb5/\xfd\x04\x00", b"zstd"),
        (gzip.compress(b"{}", mtime=0)[2:], b"x-gzip, identity"),
    ],
)
def test_the_message_says_that_a_body_is_compressed(body: bytes, encoding: bytes) -> None:
    with pytest.raises(UnsupportedEncoding) as caught:
        CHAT.parse(body, encoding)
    assert caught.value.message == (
        "The body is compressed. Send it uncompressed, without the header 'content-encoding'."
    )


@pytest.mark.parametrize("encoding", [b"gzip", b"utf-8", b"identity"])
def test_a_plain_body_is_read_whatever_its_header_says(encoding: bytes) -> None:
    assert CHAT.parse(b'{"n":2}', encoding).n == 2
    with pytest.raises(InvalidJson, match="at byte 7: remove the comma before"):
        CHAT.parse(b'{"n":2,}', encoding)


@given(
    st.integers(0, 40), st.sampled_from(['"', "\\", ",", "}", "x", "\n", "\\ud83d", "\ud83d", "\xef\xbb\xbf"])
)
def test_the_message_repeats_nothing_of_the_body(at: int, junk: str) -> None:
    body = '{"messages":[{"secret":"SECRET SECRET"}],"secret":1}'
    for written in (body[:at] + junk + body[at:], body[: at + 1]):
        try:
            CHAT.parse(written.encode(errors="surrogatepass"))
        except (InvalidJson, InvalidRequest) as refused:
            assert "secret" not in refused.message.lower()


@given(st.integers(0, 10), st.binary(min_size=1, max_size=4))
def test_bytes_that_are_not_utf8_are_refused_at_every_place(at: int, junk: bytes) -> None:
    body = b'{"abcdefghij":{"abcdefghij":["abcdefghij"]}}'
    places = [found.start() for found in re.finditer(b"abcdefghij", body)]
    try:
        junk.decode()
    except UnicodeDecodeError:
        for place in places:
            with pytest.raises(InvalidJson):
                CHAT.parse(body[: place + at] + junk + body[place + at :])


@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b'{"a":', b"}"), (b'{"stream_options":{"a":', b"}}"), (b'{"a":"\\u0041","b":', b"}"), (b"", b"")],
)
@pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_very_deep_nesting_is_refused(opening: bytes, closing: bytes, left: bytes, right: bytes) -> None:
    depth = 100_000
    for value in (left * depth, left * depth + b"1" + right * depth):
        with pytest.raises((InvalidJson, InvalidRequest)):
            CHAT.parse(opening + value + closing)


@pytest.mark.parametrize("depth", [100, 500, 800, 900, 950, 960, 970, 980, 990])
def test_an_accepted_body_can_be_rewritten_however_deep(depth: int) -> None:
    body = b'{"a":' + b"[" * depth + b"]" * depth + b',"model":"gpt"}'
    try:
        request = CHAT.parse(body)
    except InvalidJson:
        return
    assert CHAT.upstream_body(body, request, V1, None, NO_QUIRKS) == body.replace(b'"gpt"', b'"gpt-deployed"')


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"true", b"[{}]", b"1.5"])
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^The body must be an object, not ") as caught:
        CHAT.parse(body)
    assert caught.value.param is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", b"1", "'model' must be a string, not a whole number."),
        ("model", b"[]", "'model' must be a string, not a list."),
        ("model", b"{}", "'model' must be a string, not an object."),
        ("stream", b'"true"', "'stream' must be true or false, not a string."),
        ("stream", b"1", "'stream' must be true or false, not a whole number."),
        ("stream_options", b"[]", "'stream_options' must be an object, not a list."),
        ("stream_options", b"true", "'stream_options' must be an object, not true or false."),
        *(
            (name, value, f"'{name}' must be a whole number, not {kind}.")
            for name in INTEGERS
            for value, kind in [
                (b'"5"', "a string"),
                (b"1.5", "a decimal number"),
                (b"1.0", "a decimal number"),
                (b"1e2", "a decimal number"),
                (b"true", "true or false"),
                (b"[1]", "a list"),
                (b"{}", "an object"),
            ]
        ),
        ("n", b"1e999", "'n' is out of range."),
        ("n", b"0", "'n' must be from 1 to 128."),
        ("n", b"-1", "'n' must be from 1 to 128."),
        ("n", b"129", "'n' must be from 1 to 128."),
        ("n", b"9" * 30, "'n' must be from 1 to 128."),
        ("max_tokens", b"0", "'max_tokens' must be at least 1."),
        ("max_tokens", b"-" + b"9" * 30, "'max_tokens' must be at least 1."),
        ("max_completion_tokens", b"0", "'max_completion_tokens' must be at least 1."),
    ],
)
def test_the_message_names_the_wrong_member_and_the_right_type(name: str, value: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHAT.parse(b'{"%s":%s,"x":0}' % (name.encode(), value))
    assert (caught.value.message, caught.value.param) == (message, name)


@pytest.mark.parametrize("digits", [100, 4_299, 4_301, 100_000])
@pytest.mark.parametrize("name", INTEGERS)
def test_a_negative_number_of_any_length_is_refused_with_a_short_error(name: str, digits: int) -> None:
    body = b'{"%s":-%s}' % (name.encode(), b"9" * digits)
    with pytest.raises((InvalidRequest, InvalidJson)) as caught:
        CHAT.parse(body)
    assert len(caught.value.body()) < 300


@pytest.mark.parametrize(("name", "value"), [("n", 1), ("n", MAX_CHOICES), ("max_tokens", 1)])
def test_the_bounds_themselves_are_allowed(name: str, value: int) -> None:
    assert getattr(CHAT.parse(json.dumps({name: value}).encode()), name) == value


@pytest.mark.parametrize("name", ["model", "stream", "stream_options", *INTEGERS])
def test_the_last_value_of_a_member_given_twice_counts_and_is_forwarded(name: str) -> None:
    """The upstream may use the first value, so it must get only the one that the proxy has checked."""
    first, last = {
        "model": (b'"a"', b'"b"'),
        "stream": (b"true", b"false"),
        "stream_options": (b'{"a":1}', b'{"b":2}'),
    }.get(name, (b"100", b"7"))
    plain = b'"%s"' % name.encode()
    escaped = b'"\\u%04x%s"' % (ord(name[0]), name[1:].encode())
    for one, other in [(plain, plain), (plain, escaped), (escaped, plain), (escaped, escaped)]:
        body = b"{%s:%s,%s,%s:%s}" % (one, first, MESSAGES, other, last)
        assert CHAT.parse(body) == CHAT.parse(b"{%s:%s}" % (plain, last))
        members = json.loads(forwarded(body, DATED), object_pairs_hook=lambda pairs: pairs)
        assert [value for key, value in members if key == name] == [
            json.loads(last, object_pairs_hook=lambda pairs: pairs)
        ]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2}',
        b'{"a":"\\u0041","b":1,"b":2}',
        b'{"model":"gpt","a":{"model":"x","model":"y"}}',
        b'{"model":"gpt","a":"\\"model\\":1"}',
    ],
)
def test_other_members_given_twice_are_accepted(body: bytes) -> None:
    CHAT.parse(body)


def test_an_escaped_name_is_that_name() -> None:
    assert CHAT.parse(b'{"\\u006dodel":"gpt"}').model == "gpt"


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode(errors="replace")))
def test_every_invalid_body_gets_one_of_two_errors_with_a_clear_message(body: bytes) -> None:
    try:
        CHAT.parse(body)
    except (InvalidJson, InvalidRequest) as error:
        assert error.message[0] in "T'"
        assert error.message.endswith(".")
        assert "`" not in error.message


@given(st.dictionaries(st.sampled_from(["model", "stream", *INTEGERS, "stream_options"]), st.integers()))
def test_the_error_for_a_wrong_type_names_a_member_of_the_body(value: dict[str, Any]) -> None:
    try:
        CHAT.parse(json.dumps(value).encode())
    except InvalidRequest as error:
        assert error.param in value


def test_only_the_space_between_members_changes_in_a_body_that_needs_no_change() -> None:
    body = b'{ "model":"gpt-deployed",\r\n "x":[1.0, 1e2, 12345678901234567890123], "y":"\\u00e9" } '
    assert forwarded(body) == (
        b'{"model":"gpt-deployed","x":[1.0, 1e2, 12345678901234567890123],"y":"\\u00e9"}'
    )


def test_numbers_and_escapes_of_other_members_keep_every_byte() -> None:
    body = b'{"model":"gpt","x":[1.0, 1e2, -0.0, 1E400, %s],"y":"\\u00e9\\/"}' % (b"9" * 5_000)
    assert forwarded(body) == body.replace(b'"gpt"', b'"gpt-deployed"')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{%s}" % MESSAGES, b'{%s,"model":"gpt-deployed"}' % MESSAGES),
        (b"{}", b'{"model":"gpt-deployed"}'),
        (b'{"model":null}', b'{"model":"gpt-deployed"}'),
        (b'{"model":""}', b'{"model":"gpt-deployed"}'),
        (b'{%s, "model" : "gpt" }' % MESSAGES, b'{%s,"model":"gpt-deployed"}' % MESSAGES),
    ],
)
def test_the_name_of_the_deployment_replaces_the_model(body: bytes, expected: bytes) -> None:
    assert forwarded(body) == expected


@pytest.mark.parametrize("body", [b"{%s}" % MESSAGES, b'{"model":"anything"}', b'{"model":null}'])
def test_the_dated_form_leaves_the_model_unchanged(body: bytes) -> None:
    assert forwarded(body, DATED) == body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"max_tokens":101}', b'{"max_tokens":100}'),
        (b'{"max_tokens":100}', b'{"max_tokens":100}'),
        (b'{"max_tokens":%s}' % (b"9" * 30), b'{"max_tokens":100}'),
        (b'{"max_completion_tokens":500}', b'{"max_completion_tokens":100}'),
        (b'{"max_tokens":500,"max_completion_tokens":50}', b'{"max_tokens":100,"max_completion_tokens":50}'),
        (
            b'{"max_tokens":500,"max_completion_tokens":500}',
            b'{"max_tokens":100,"max_completion_tokens":100}',
        ),
        (
            b'{"max_tokens":500,"max_completion_tokens":null}',
            b'{"max_tokens":100,"max_completion_tokens":null}',
        ),
        (b"{}", b'{"max_completion_tokens":100}'),
        (b'{"max_completion_tokens":null}', b'{"max_completion_tokens":100}'),
        (b'{"max_tokens":null}', b'{"max_tokens":null,"max_completion_tokens":100}'),
    ],
)
def test_a_cap_lowers_a_higher_limit_or_is_added(body: bytes, expected: bytes) -> None:
    assert forwarded(body, DATED, 100) == expected


def test_a_cap_is_added_in_the_field_that_the_deployment_accepts() -> None:
    deployment = replace(DATED, output_field="max_tokens")
    assert forwarded(b'{"max_tokens":null}', deployment, 100) == b'{"max_tokens":100}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"stream":true}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{"stream":true,"stream_options":null}',
            b'{"stream":true,"stream_options":{"include_usage":true}}',
        ),
        (b'{"stream":true,"stream_options":{}}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{"stream":true,"stream_options":{"include_usage": false ,"include_obfuscation": false}}',
            b'{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}',
        ),
        (
            b'{"stream":true,"stream_options":{"big":12345678901234567890.50,"deep":{"a": [1.0]}}}',
            b'{"stream":true,"stream_options":'
            b'{"big":12345678901234567890.50,"deep":{"a": [1.0]},"include_usage":true}}',
        ),
    ],
)
def test_usage_is_requested_beside_the_other_stream_options(body: bytes, expected: bytes) -> None:
    assert forwarded(body, DATED) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,"stream_options":{ "include_usage" : true }}',
        b'{"stream":true,"stream_options":{"include_usage":"yes"}}',
        b'{"stream":false}',
        b'{"stream":null}',
        b'{"stream":false,"stream_options":{"x":1}}',
    ],
)
def test_stream_options_that_need_no_change_are_unchanged(body: bytes) -> None:
    assert forwarded(body, DATED) == body


rest = st.dictionaries(
    st.text(min_size=1).map(lambda name: "x" + name),
    st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
)
needed = st.fixed_dictionaries(
    {},
    optional={
        "model": st.none() | st.text(),
        "stream": st.none() | st.booleans(),
        "max_tokens": st.none() | st.integers(1, 2**70),
        "max_completion_tokens": st.none() | st.integers(1, 10_000),
        "n": st.none() | st.integers(1, MAX_CHOICES),
    },
)  # fmt: skip


@given(rest, needed, st.none() | st.integers(1, 10_000), st.sampled_from([V1, DATED]), st.booleans())
def test_only_the_members_that_the_proxy_needs_change(
    rest: dict[str, Any], request: dict[str, Any], cap: int | None, deployment: Deployment, ascii_only: bool
) -> None:
    body = json.dumps({**rest, **request}, ensure_ascii=ascii_only).encode(errors="replace")
    before, after = json.loads(body), json.loads(forwarded(body, deployment, cap))
    for name, value in before.items():
        if name not in request:
            assert after[name] == value
    if cap is not None:
        limits = [after.get("max_tokens"), after.get("max_completion_tokens")]
        assert max(filter(None, limits)) <= cap
    if deployment is V1:
        assert after["model"] == V1.deployment_name
    if before.get("stream"):
        assert after["stream_options"] == {"include_usage": True}


# ---- the quirks of a deployment

NEW_FIELD, OLD_FIELD = Quirks("max_completion_tokens"), Quirks("max_tokens")
NO_OPTIONS = Quirks(stream_options=False)


@pytest.mark.parametrize(
    ("body", "quirks", "expected"),
    [
        (b'{"a":1.0,"max_tokens": 5 }', NEW_FIELD, b'{"a":1.0,"max_completion_tokens":5}'),
        (b'{"max_completion_tokens":5,"a":1}', NEW_FIELD, b'{"max_completion_tokens":5,"a":1}'),
        (b'{"max_completion_tokens":5,"a":1}', OLD_FIELD, b'{"a":1,"max_tokens":5}'),
        (b'{"max_completion_tokens":7,"max_tokens":5}', NEW_FIELD, b'{"max_completion_tokens":5}'),
        (b'{"a":1}', NEW_FIELD, b'{"a":1}'),
        (b'{"stream_options":{"include_usage":true},"a":1}', NO_OPTIONS, b'{"a":1}'),
        (b'{"stream_options":{}}', NEW_FIELD, b'{"stream_options":{}}'),
        (b'{"max_tokens":null}', NEW_FIELD, b"{}"),
    ],
)
def test_a_body_is_rewritten_for_the_quirks_of_a_deployment(
    body: bytes, quirks: Quirks, expected: bytes
) -> None:
    assert forwarded(body, DATED, quirks=quirks) == expected


def _error(message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"message": message, "code": code, "param": param, "type": "invalid_request_error"}


@pytest.mark.parametrize(
    ("error", "quirks", "expected"),
    [
        (_error("...", "unsupported_parameter", "max_tokens"), Quirks(), NEW_FIELD),
        (_error("...", "unsupported_parameter", "max_completion_tokens"), Quirks(), OLD_FIELD),
        (_error("...", "unsupported_parameter", "max_tokens"), NEW_FIELD, None),
        (_error("...", "unsupported_parameter", "max_tokens"), OLD_FIELD, NEW_FIELD),
        (_error("...", "unsupported_parameter", "max_completion_tokens"), NEW_FIELD, OLD_FIELD),
        (_error("...", "unsupported_parameter", "temperature"), Quirks(), None),
        (_error("...", "unsupported_value", "max_tokens"), Quirks(), None),
        (_error("Unrecognized request argument supplied: max_completion_tokens"), Quirks(), OLD_FIELD),
        (_error("Unrecognized request argument supplied: stream_options"), Quirks(), NO_OPTIONS),
        (_error("Unrecognized request argument supplied: stream_options"), NO_OPTIONS, None),
        (
            _error("Validation error at #/stream_options: Extra inputs are not permitted"),
            Quirks(),
            NO_OPTIONS,
        ),
        (_error("Unrecognized request argument supplied: tools"), Quirks(), None),
        (_error("The 'stream_options' parameter is only allowed when 'stream' is enabled."), Quirks(), None),
        (_error("Unrecognized request argument supplied: stream_options.x"), Quirks(), None),
        (_error("Validation error at #/stream_options/x: Extra inputs are not permitted"), Quirks(), None),
        (_error("...", "content_filter", "prompt"), Quirks(), None),
        ({}, Quirks(), None),
        ({"message": 5, "code": [], "param": {}}, Quirks(), None),
    ],
)
def test_quirks_are_learned_from_the_errors_of_the_model(
    error: dict[str, Any], quirks: Quirks, expected: Quirks | None
) -> None:
    assert CHAT.learned_quirks(error, quirks) == expected


@pytest.mark.parametrize(
    ("body", "has"),
    [
        (b'{"messages":[]}', False),
        (b'{"data_sources":[]}', True),
        (b'{"d\\u0061ta_sources":[]}', True),
        (b'{"data_sources":1,"data_sources":2}', True),
        (b'{"messages":["data_sources"],"a":{"data_sources":1}}', False),
    ],
)
def test_own_data_is_found_in_any_form_of_its_name(body: bytes, has: bool) -> None:
    assert CHAT.has_own_data(body) == has


@pytest.mark.parametrize(
    ("field", "quirks"), [("max_tokens", NEW_FIELD), ("max_completion_tokens", OLD_FIELD)]
)
def test_a_null_limit_does_not_replace_the_output_limit_of_the_event(field: str, quirks: Quirks) -> None:
    body = b'{"%s":null}' % field.encode()
    deployment = replace(DATED, output_field=str(quirks.output_field))
    assert json.loads(forwarded(body, deployment, 50, quirks)) == {quirks.output_field: 50}


def test_a_body_that_is_too_deep_for_the_stack_upstream_is_refused() -> None:
    """On Python 3.11, the depth that can be decoded depends on the depth of the stack."""
    depth = 2000
    while True:
        body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        try:
            CHAT.parse(body)
            break
        except InvalidJson:
            depth -= 1

    def from_a_deep_stack(frames: int) -> None:
        if frames:
            from_a_deep_stack(frames - 1)
        else:
            CHAT.upstream_body(body, ChatRequest(), DATED, None, NO_QUIRKS)

    with contextlib.suppress(InvalidJson):
        from_a_deep_stack(50)


@pytest.mark.parametrize("name", ["file_id", "file\\u005fid"])
def test_a_message_that_names_an_uploaded_file_is_refused(name: str) -> None:
    part = f'{{"type":"file","file":{{"{name}":"assistant-1"}}}}'
    body = f'{{"messages":[{{"role":"user","content":"Hi"}},{{"role":"user","content":[{part}]}}]}}'
    with pytest.raises(UnsupportedValue, match="file_data") as refused:
        CHAT.check(body.encode())
    assert refused.value.param == "messages"


@pytest.mark.parametrize("name", ['"audio"', '"a\\u0075dio"'])
def test_a_message_that_names_an_earlier_spoken_answer_is_refused(name: str) -> None:
    """All attendees share the resource that holds it."""
    body = f'{{"messages":[{{"role":"assistant",{name} : {{"id":"audio_1"}}}},{{"role":"user","content":"Hi"}}]}}'
    with pytest.raises(UnsupportedValue, match=r"Send its transcript, as 'content'\.") as refused:
        CHAT.check(body.encode())
    assert refused.value.param == "messages"


def test_a_message_of_very_many_files_is_refused_without_reading_them() -> None:
    parts = ",".join(['{"type":"file","file":{"file_id":""}}'] * (MOST_FILES + 1))
    with pytest.raises(InvalidRequest, match="more than 1,000 files"):
        CHAT.check(f'{{"messages":[{{"role":"user","content":[{parts}]}}]}}'.encode())


@pytest.mark.parametrize("message", ["{}", '{"audio":{}}', '{"role":"user","content":[{ "file":1}]}'])
def test_more_objects_than_can_be_read_at_once_are_refused(message: str) -> None:
    """Two million messages would stop the event loop for more than a second."""
    messages = ",".join([message] * (MOST_OBJECTS + 1))
    with pytest.raises(InvalidRequest, match="more than 50,000 objects"):
        CHAT.check(f'{{"messages":[{messages},{{"content":"file_id"}}]}}'.encode())


def test_objects_in_a_text_do_not_count() -> None:
    text = json.dumps([{"file_id": 1}] * (MOST_OBJECTS + 1), indent=1) + '{"' * MOST_OBJECTS
    CHAT.check(json.dumps({"messages": [{"role": "user", "content": text}]}).encode())


@pytest.mark.parametrize(
    "content",
    [
        '"Set \\"file_id\\" to \\u00e4"',
        '[{"type":"text","text":"file_id"}]',
        '[{"type":"file","file":{"file_data":"data:text/plain;base64,SGk=","file_id":null}}]',
        '[{"type":"file","file":"file_id"}]',
        '["file_id"]',
        '[{"type":"text","text":"\\"audio\\""},{"type":"input_audio","audio":{"id":"1"}}],"audio":null',
        '"Hi","audio":{"id":null}',
        '"Hi","audio":"audio_1"',
    ],
)
def test_a_message_without_an_uploaded_file_passes(content: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":{content}}}],"metadata":{{"file_id":"1"}}}}'
    CHAT.check(body.encode())
