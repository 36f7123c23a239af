"""Edits of JSON in place: what is not named keeps every byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.json_edit import DuplicateMember, edit, members, without

NAMES = ("model", "max_tokens", "stream_options")

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(NAMES) | st.text(), values, max_size=6)
changes = st.dictionaries(st.sampled_from(NAMES), st.integers() | st.text() | objects, max_size=3)
spaces = st.text(alphabet=" \t\r\n", max_size=3)


@st.composite
def written(draw: st.DrawFn, value: object) -> str:
    """`value` as JSON, with spaces and escapes where a writer may put them."""

    def gap() -> str:
        return draw(spaces)

    if isinstance(value, dict):
        parts = [f"{gap()}{name(draw, key)}{gap()}:{draw(written(one))}" for key, one in value.items()]
        return f"{gap()}{{{','.join(parts) or gap()}}}{gap()}"
    if isinstance(value, list):
        return f"{gap()}[{','.join(draw(written(one)) for one in value)}]{gap()}"
    return gap() + json.dumps(value, ensure_ascii=draw(st.booleans())) + gap()


def name(draw: st.DrawFn, text: str) -> str:
    if draw(st.booleans()) and text.isascii():
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'
    return json.dumps(text, ensure_ascii=draw(st.booleans()))


bodies = objects.flatmap(written).map(lambda text: text.encode(errors="surrogatepass"))


def utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


bodies = bodies.filter(utf8)


def encoded(values: dict[str, Any]) -> dict[str, bytes]:
    return {name: json.dumps(value).encode() for name, value in values.items()}


@given(bodies, changes)
def test_an_edit_reads_as_the_object_with_the_changes(body: bytes, changes: dict[str, Any]) -> None:
    assert json.loads(edit(body, encoded(changes))) == {**json.loads(body), **changes}


@given(bodies.filter(utf8), changes)
def test_knowing_what_the_object_has_changes_nothing(body: bytes, changes: dict[str, Any]) -> None:
    known = json.loads(body).keys()
    assert edit(body, encoded(changes), known) == edit(body, encoded(changes))


@given(bodies, changes)
def test_every_byte_outside_the_changed_values_stays(body: bytes, changes: dict[str, Any]) -> None:
    places = members(body, changes)
    expected, at = b"", 0
    for name, place in sorted(places.items(), key=lambda one: one[1].start):
        expected += body[at : place.start] + encoded(changes)[name]
        at = place.end
    expected += body[at:]
    added = b",".join(
        b'"%s":%s' % (name.encode(), value) for name, value in encoded(changes).items() if name not in places
    )
    if added:
        brace = expected.index(b"{") + 1
        comma = b"" if not json.loads(expected) else b","
        expected = expected[:brace] + added + comma + expected[brace:]
    assert edit(body, encoded(changes)) == expected


@given(bodies)
def test_a_members_place_holds_its_value_and_nothing_else(body: bytes) -> None:
    value = json.loads(body)
    places = members(body, value)
    assert {name: json.loads(body[place.start : place.end]) for name, place in places.items()} == value


@given(bodies)
def test_without_changes_the_body_is_the_same(body: bytes) -> None:
    assert edit(body, {}) is body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b'{"model":"new"}'),
        (b" { } ", b' {"model":"new" } '),
        (b'{"a":1}', b'{"model":"new","a":1}'),
        (b'{ "a":1}', b'{"model":"new", "a":1}'),
        (b'{"model":"old"}', b'{"model":"new"}'),
        (b'{"model" : null , "a":1}', b'{"model" : "new" , "a":1}'),
        (b'{"model":{"model":"in"}}', b'{"model":"new"}'),
        (b'{"model":[1,{"]":"}"}],"z":0}', b'{"model":"new","z":0}'),
        (b'{"mod\\u0065l":"old"}', b'{"mod\\u0065l":"new"}'),
        (b'{"a":{"model":"in"},"model":"old"}', b'{"a":{"model":"in"},"model":"new"}'),
        (b'{"a":[{"model":"in"}]}', b'{"model":"new","a":[{"model":"in"}]}'),
        (b'{"a":"\\"model\\":1","model":"old"}', b'{"a":"\\"model\\":1","model":"new"}'),
        (b'{"a":"model","model":"old"}', b'{"a":"model","model":"new"}'),
        (b'{"a":"\\\\","model":"old"}', b'{"a":"\\\\","model":"new"}'),
        (
            b'{"a":123456789012345678901234567890,"b":1.50E+02,"c":-0.0,"model":1}',
            b'{"a":123456789012345678901234567890,"b":1.50E+02,"c":-0.0,"model":"new"}',
        ),
        ('{"é":"日本😀","model":"ü"}'.encode(), '{"é":"日本😀","model":"new"}'.encode()),
        (b'{"a":"\\u00e9\\ud83d\\ude00","model":1}', b'{"a":"\\u00e9\\ud83d\\ude00","model":"new"}'),
    ],
)
def test_one_member_is_replaced_in_its_place_or_put_first(body: bytes, expected: bytes) -> None:
    assert edit(body, {"model": b'"new"'}) == expected


@given(bodies, st.sampled_from(NAMES))
def test_what_is_taken_out_is_gone_and_the_rest_stays_in_its_order(body: bytes, name: str) -> None:
    expected = json.loads(body)
    expected.pop(name, None)
    got = json.loads(without(body, name), object_pairs_hook=list)
    assert [key for key, _ in got] == list(expected)
    assert json.loads(without(body, name)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", b"{}"),
        (b'{"a":1}', b'{"a":1}'),
        (b'{"model":1}', b"{}"),
        (b'{ "model" : {"model":[1,2]} }', b"{  }"),
        (b'{"model":1,"a":2}', b'{"a":2}'),
        (b'{"a":1, "model":1 , "b":2}', b'{"a":1, "b":2}'),
        (b'{"a":1.50 , "model":1 }', b'{"a":1.50 }'),
        (b'{"a":{"model":1},"mod\\u0065l":"},{"}', b'{"a":{"model":1}}'),
    ],
)
def test_one_member_is_taken_out_with_its_comma(body: bytes, expected: bytes) -> None:
    assert without(body, "model") == expected


@pytest.mark.parametrize(
    "body", [b'{"model":1,"model":1}', b'{"model":1,"a":[],"mod\\u0065l":2}', b'{"\\u006dodel":1,"model":2}']
)
def test_a_name_to_change_that_stands_twice_is_refused(body: bytes) -> None:
    with pytest.raises(DuplicateMember) as caught:
        edit(body, {"model": b"0"})
    assert caught.value.name == "model"


def test_other_names_may_stand_twice() -> None:
    assert edit(b'{"a":1,"a":2,"model":3}', {"model": b"0"}) == b'{"a":1,"a":2,"model":0}'


def test_the_same_name_in_different_objects_is_no_duplicate() -> None:
    body = b'{"a":{"model":1},"b":{"model":2},"model":3}'
    assert edit(body, {"model": b"0"}) == b'{"a":{"model":1},"b":{"model":2},"model":0}'


def test_depth_of_what_is_stepped_over_does_not_matter() -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"model":%s}'
    assert edit(deep % b"1", {"model": b"2"}) == deep % b"2"


def test_length_of_a_number_or_text_that_is_stepped_over_does_not_matter() -> None:
    long = b'{"a":' + b"9" * 100_000 + b',"b":"' + b"\\n" * 1_000_000 + b'","model":%s}'
    assert edit(long % b"1", {"model": b"2"}) == long % b"2"
