"""Requests of the Responses API: only the attendee's own ids reach the upstream, wherever they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.response_handles import _HANDLES, MOST_PARTS
from shared.apis.response_ids import Owner, turn_of
from shared.apis.response_opening import OpenedRequest, open_request
from shared.apis.response_sealing import FREE_MEMBERS
from shared.core.errors import InvalidRequest, UnsupportedValue
from shared.core.models import Credential

SECRET = b"a secret of an event"
PLACE, OTHER_PLACE = b"12345678", b"abcdefgh"
ANNA = Owner(SECRET, Credential("hackathon", "anna"))
BEN = Owner(SECRET, Credential("hackathon", "ben"))
ANNA_ELSEWHERE = Owner(SECRET, Credential("workshop", "anna"))
UPSTREAM = "x_05500b38c2cd9bfc00691c7c9d222481a3b595421266dab424"
TEXT = [{"type": "input_text", "text": "hello"}]

REFUSED, REMOVED, DROPPED = "refused", "removed", "dropped"
"""What happens to an id that is not the attendee's own. With DROPPED, the whole item is left out."""

RESPONSE, ITEM, CONTENT = "response", "item", "content"
Build = Callable[[str], Any]


def items(build: Build) -> Build:
    return lambda value: {"input": [{"role": "user", "content": "first"}, build(value)]}


PLACES: dict[str, tuple[str, str, Build]] = {
    "previous response": (RESPONSE, REFUSED, lambda i: {"previous_response_id": i}),
    "prompt cache": (RESPONSE, REFUSED, lambda i: {"prompt_cache_options": {"comparison_response_id": i}}),
    "reference": (ITEM, REFUSED, items(lambda i: {"type": "item_reference", "id": i})),
    "reference without a type": (ITEM, REFUSED, items(lambda i: {"id": i})),
    "reference, type null": (ITEM, REFUSED, items(lambda i: {"type": None, "id": i})),
    "message": (ITEM, REMOVED, items(lambda i: {"id": i, "role": "assistant", "content": TEXT})),
    "typed message": (ITEM, REMOVED, items(lambda i: {"type": "message", "role": "user", "id": i})),
    "function call": (
        ITEM,
        REMOVED,
        items(lambda i: {"type": "function_call", "id": i, "call_id": "call_1"}),
    ),
    "output": (ITEM, REMOVED, items(lambda i: {"type": "function_call_output", "id": i, "output": "1"})),
    "custom call": (ITEM, REMOVED, items(lambda i: {"type": "custom_tool_call", "id": i, "input": "1"})),
    "hosted call": (ITEM, REMOVED, items(lambda i: {"type": "web_search_call", "id": i})),
    "unknown type": (ITEM, REMOVED, items(lambda i: {"type": "new_call", "id": i})),
    "reasoning": (ITEM, DROPPED, items(lambda i: {"type": "reasoning", "id": i, "summary": []})),
    "encrypted reasoning": (
        CONTENT,
        DROPPED,
        items(lambda i: {"type": "reasoning", "summary": [], "encrypted_content": i}),
    ),
    "compaction": (CONTENT, REFUSED, items(lambda i: {"type": "compaction", "encrypted_content": i})),
    "unknown encrypted item": (CONTENT, REFUSED, items(lambda i: {"type": "new", "encrypted_content": i})),
    "encrypted part": (
        CONTENT,
        REFUSED,
        items(lambda i: {"role": "user", "content": [{"type": "new", "encrypted_content": i}]}),
    ),
    "approval": (
        ITEM,
        REFUSED,
        items(lambda i: {"type": "mcp_approval_response", "approval_request_id": i, "approve": True}),
    ),
    "file": (
        ITEM,
        REFUSED,
        items(lambda i: {"role": "user", "content": [{"type": "input_file", "file_id": i}]}),
    ),
    "image": (
        ITEM,
        REFUSED,
        items(lambda i: {"role": "user", "content": [{"type": "input_image", "file_id": i}]}),
    ),
    "file of a tool": (
        ITEM,
        REFUSED,
        items(lambda i: {"type": "function_call_output", "output": [{"type": "input_file", "file_id": i}]}),
    ),
    "screenshot": (
        ITEM,
        REFUSED,
        items(lambda i: {"type": "computer_call_output", "output": {"file_id": i}}),
    ),
    "container": (ITEM, REFUSED, items(lambda i: {"type": "code_interpreter_call", "container_id": i})),
    "shell container": (
        ITEM,
        REFUSED,
        items(lambda i: {"type": "shell_call", "environment": {"container_id": i}}),
    ),
    "safety check": (
        ITEM,
        REMOVED,
        items(lambda i: {"type": "computer_call_output", "acknowledged_safety_checks": [{"id": i}]}),
    ),
    "list in a list": (ITEM, REMOVED, lambda i: {"input": [[{"id": i}]]}),
}

SEALS: dict[str, Callable[[Owner], str]] = {
    RESPONSE: lambda owner: owner.seal(UPSTREAM, PLACE, 300),
    ITEM: lambda owner: owner.seal_item(UPSTREAM, PLACE, turn_of("resp_1"), 300),
    CONTENT: lambda owner: owner.seal_content(UPSTREAM, PLACE),
}


def opened(body: Any, **options: Any) -> OpenedRequest:
    return open_request(json.dumps(body).encode(), body.get("previous_response_id"), ANNA, **options)


def foreign(kind: str) -> Iterator[str]:
    """Ids that are not Anna's, or not of this kind."""
    own = SEALS[kind](ANNA)
    yield from (SEALS[kind](BEN), SEALS[kind](ANNA_ELSEWHERE), UPSTREAM, "client-made-1")
    yield from (seal(ANNA) for other, seal in SEALS.items() if other != kind)
    yield from (own[:-1], own + "A", own + "=", own[1:], own.swapcase(), f" {own}", own[:40] + "x" + own[41:])


@pytest.mark.parametrize("place", PLACES)
def test_an_own_id_becomes_the_upstreams(place: str) -> None:
    kind, _, build = PLACES[place]
    sealed = SEALS[kind](ANNA)
    if place == "list in a list":
        return
    request = opened(build(sealed))
    is_optional = place in {"message", "typed message", "function call", "output", "custom call"}
    if is_optional:
        assert (request.place, request.tokens) == (None, 0)
        assert json.loads(request.body) == json.loads(json.dumps(without(build(sealed), "id")))
    else:
        assert request.place == PLACE
        assert json.loads(request.body) == build(UPSTREAM)
    counted = {
        "previous response",
        "reference",
        "reference without a type",
        "reference, type null",
        "reasoning",
    }
    assert request.tokens == (300 if place in counted else 0)


@pytest.mark.parametrize("place", PLACES)
def test_an_id_of_anybody_else_never_reaches_the_upstream(place: str) -> None:
    kind, result, build = PLACES[place]
    for value in foreign(kind):
        body = build(value)
        if result == REFUSED:
            with pytest.raises(UnsupportedValue) as refusal:
                opened(body)
            assert refusal.value.param in body
            continue
        request = opened(body)
        assert (request.place, request.tokens) == (None, 0)
        assert value.encode() not in request.body
        expected = without(body, "id")
        if result == DROPPED:
            expected["input"].pop()
        assert json.loads(request.body) == expected


@pytest.mark.parametrize("place", PLACES)
def test_a_name_with_escapes_is_the_same_name(place: str) -> None:
    kind, result, build = PLACES[place]
    for value in foreign(kind):
        text = json.dumps(build(value))
        for name in ("id", "encrypted_content", "file_id", "container_id", "approval_request_id"):
            text = text.replace(f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:-1]}\\u{ord(name[-1]):04X}"')
        text = text.replace('"item_reference"', '"item\\u005freference"')
        try:
            request = open_request(text.encode(), build(value).get("previous_response_id"), ANNA)
        except UnsupportedValue:
            assert result == REFUSED
        else:
            assert result != REFUSED
            assert value.encode() not in request.body


def without(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [without(item, name) for item in value]
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items() if key != name}
    return value


def test_a_reasoning_item_keeps_what_is_the_attendees_own() -> None:
    own_id, own_content = SEALS[ITEM](ANNA), SEALS[CONTENT](ANNA)
    for identity, content, kept in [
        (own_id, own_content, {"id": UPSTREAM, "encrypted_content": UPSTREAM}),
        ("rs_foreign", own_content, {"encrypted_content": UPSTREAM}),
        (None, own_content, {"encrypted_content": UPSTREAM}),
        (own_id, "gAAAforeign", {"id": UPSTREAM}),
        (own_id, None, {"id": UPSTREAM}),
    ]:
        item: dict[str, Any] = {
            "type": "reasoning",
            "summary": [],
            "id": identity,
            "encrypted_content": content,
        }
        request = opened({"input": [item]})
        assert json.loads(request.body)["input"] == [{"type": "reasoning", "summary": [], **kept}]
        assert request.place == PLACE


def test_the_last_reasoning_item_that_can_be_served_chooses_the_place() -> None:
    def reasoning(content: str, place: bytes) -> dict[str, Any]:
        return {"type": "reasoning", "encrypted_content": ANNA.seal_content(content, place)}

    def message(text: str, place: bytes) -> dict[str, Any]:
        return {"role": "assistant", "content": text, "id": ANNA.seal_item(f"msg_{text}", place)}

    body = {
        "input": [
            reasoning("one", PLACE),
            message("one", PLACE),
            reasoning("two", OTHER_PLACE),
            message("two", OTHER_PLACE),
        ]
    }
    plain = {"role": "assistant", "content": "one"}
    request = opened(body)
    assert request.place == OTHER_PLACE
    assert json.loads(request.body)["input"] == [
        plain,
        {"type": "reasoning", "encrypted_content": "two"},
        {"role": "assistant", "content": "two", "id": "msg_two"},
    ]
    assert opened(body, serving={PLACE}).place == PLACE
    request = opened(body, serving=set())
    assert request.place is None
    assert json.loads(request.body)["input"] == [plain, {"role": "assistant", "content": "two"}]


def test_what_is_needed_must_be_at_one_place_that_serves() -> None:
    here, there = ANNA.seal("resp_1", PLACE), ANNA.seal_item("msg_1", OTHER_PLACE)
    body = {"previous_response_id": here, "input": [{"type": "item_reference", "id": there}]}
    with pytest.raises(UnsupportedValue, match="different places"):
        opened(body)
    with pytest.raises(UnsupportedValue, match="not available any more"):
        opened({"previous_response_id": here}, serving={OTHER_PLACE})
    assert opened({"previous_response_id": here}, serving={PLACE}).place == PLACE


def test_items_of_one_turn_count_once() -> None:
    one, two = turn_of("resp_1"), turn_of("resp_2")
    seals = [
        ANNA.seal_item("msg_1", PLACE, one, 100),
        ANNA.seal_item("fc_1", PLACE, one, 100),
        ANNA.seal_item("msg_2", PLACE, two, 50),
        ANNA.seal_item("msg_3", PLACE, tokens=7),
        ANNA.seal_item("msg_4", PLACE, tokens=7),
    ]
    references = [{"type": "item_reference", "id": sealed} for sealed in seals]
    body = {"previous_response_id": ANNA.seal("resp_3", PLACE, 1000), "input": references}
    assert opened(body).tokens == 1000 + 100 + 50 + 7 + 7


def test_a_body_without_ids_keeps_its_bytes() -> None:
    body = b'{ "model" : "gpt-4o", "input": [ {"role": "user", "content": "caf\xc3\xa9 \\u00e9 1.0"} ] , "x": 1.00}'
    assert open_request(body.replace(b"\\u00e9", b""), None, ANNA).body == body.replace(b"\\u00e9", b"")
    assert msgspec.json.decode(open_request(body, None, ANNA).body) == msgspec.json.decode(body)


def test_all_values_but_the_ids_keep_their_bytes() -> None:
    content = b'[{"type":"output_text","text":"\\u00e9 \\/ 1","n":1.00}]'
    body = b'{"input":[{"role":"assistant","id":"msg_foreign","content":%b}],"temperature":1.00}' % content
    sent = open_request(body, None, ANNA).body
    assert sent == b'{"temperature":1.00,"input":[{"role":"assistant","content":%b}]}' % content


@pytest.mark.parametrize(
    "body",
    [
        b'{"previous_response_id":"x_foreign","previous_response_id":null}',
        b'{"input":[{"role":"user","id":"x_foreign","id":null}]}',
        b'{"input":[{"role":"user","content":[{"file_id":"x_foreign","file_id":null}]}]}',
        b'{"input":[{"type":"item_reference","id":"x_foreign","type":"message","role":"user"}]}',
        b'{"input":[{"id":"x_foreign"}],"input":"hi"}',
    ],
)
def test_a_member_that_comes_twice_is_sent_once(body: bytes) -> None:
    assert b"x_foreign" not in open_request(body, None, ANNA).body


def test_free_members_of_the_client_are_not_searched() -> None:
    body = {
        "metadata": {"id": "1", "file_id": "2"},
        "tools": [{"type": "function", "name": "f", "parameters": {"properties": {"file_id": {"id": "x"}}}}],
        "text": {"format": {"schema": {"id": "x"}}},
        "input": [{"type": "function_call", "call_id": "call_1", "arguments": '{"file_id": "1"}'}],
    }
    assert json.loads(opened(body).body) == body


def test_an_empty_id_names_nothing() -> None:
    body = {
        "previous_response_id": None,
        "input": [{"role": "user", "content": [{"file_id": None}], "id": None}],
    }
    assert json.loads(opened(body).body) == {
        "previous_response_id": None,
        "input": [{"role": "user", "content": [{"file_id": None}]}],
    }


@pytest.mark.parametrize("name", ["container_id", "vector_store_ids", "thread_id", "conversation_id"])
def test_an_unknown_id_of_the_body_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedValue, match=name) as refusal:
        opened({"input": "hi", name: "x_1"})
    assert refusal.value.param == name


@pytest.mark.parametrize("store", [None, True, False])
def test_an_event_without_stored_responses_stores_none(store: bool | None) -> None:
    assert json.loads(opened({"input": "hi", "store": store}, store=False).body)["store"] is False
    assert json.loads(opened({"input": "hi", "store": store}).body)["store"] is store


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":' + b"[" * 900 + b'{"id":"x"}' + b"]" * 900 + b"}",
        b'{"input":[{"content":' + b'{"a":' * 100 + b'{"id":"x"}' + b"}" * 100 + b"}]}",
        b'{"input":[' + b"{}," * MOST_PARTS + b'{"id":"x"}]}',
        b'{"input":[{"role":"user","content":[' + b"1," * MOST_PARTS + b'{"id":"x"}]}]}',
    ],
)
def test_input_that_takes_too_long_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        open_request(body, None, ANNA)
    assert refusal.value.param == "input"


NAMES = st.sampled_from([*sorted(_HANDLES | FREE_MEMBERS), "type", "role", "content", "output", "items", "x"])
MARK = "foreign-id"
VALUES = st.one_of(
    st.just(MARK),
    st.sampled_from(["item_reference", "reasoning", "message", "compaction", "new"]),
    st.none(),
    st.integers(),
)
TREES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def named_marks(value: Any) -> Iterator[str]:
    """Every name of an id that holds a mark, outside of the members that are not searched."""
    if isinstance(value, list):
        for item in value:
            yield from named_marks(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in _HANDLES and MARK in (inner if isinstance(inner, list) else [inner]):
                yield name
            elif name not in FREE_MEMBERS:
                yield from named_marks(inner)


@given(st.lists(TREES, max_size=4))
def test_no_structure_lets_a_foreign_id_pass(given_items: list[Any]) -> None:
    try:
        request = opened({"input": given_items})
    except UnsupportedValue:
        return
    assert list(named_marks(json.loads(request.body))) == []
    assert request.place is None
