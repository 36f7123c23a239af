"""Whole bodies of the Responses API: no id of the upstream reaches a client, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apis.response_ids import Owner, turn_of
from shared.apis.response_opening import open_request
from shared.apis.response_sealing import FREE_MEMBERS, ITEM_MEMBERS, RESPONSE_MEMBERS, Sealer, hide_ids
from shared.core.models import Credential

PLACE = b"12345678"
ANNA = Owner(b"a secret of an event", Credential("hackathon", "anna"))
HEX = "05500b38c2cd9bfc00691c7c9d222481"
RESPONSE: dict[str, Any] = {
    "id": f"resp_{HEX}",
    "object": "response",
    "previous_response_id": f"resp_{HEX[::-1]}",
    "error": None,
    "instructions": f"Say item_id and resp_{HEX}",
    "metadata": {"id": "own", "response_id": "own"},
    "tools": [{"type": "function", "name": "f", "parameters": {"properties": {"id": {"default": "own"}}}}],
    "output": [
        {"id": f"rs_{HEX}", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
        {"id": f"fc_{HEX}", "type": "function_call", "call_id": "call_1", "arguments": '{"id": "own"}'},
        {"id": f"mcpr_{HEX}", "type": "mcp_approval_request", "arguments": "{}"},
        {"id": f"mcp_{HEX}", "type": "mcp_call", "approval_request_id": f"mcpr_{HEX}"},
        {"id": f"cu_{HEX}", "type": "computer_call", "pending_safety_checks": [{"id": f"cu_sc_{HEX}"}]},
        {"id": f"ci_{HEX}", "type": "code_interpreter_call", "container_id": f"cntr_{HEX}"},
        {
            "id": f"msg_{HEX}",
            "type": "message",
            "role": "assistant",
            "content": [
                {
                    "type": "output_text",
                    "text": "café",
                    "annotations": [{"type": "file_path", "file_id": f"file-{HEX}", "index": 1}],
                }
            ],
        },
    ],
    "usage": {"input_tokens": 7, "output_tokens": 5},
    "temperature": 1.0,
}


def sealed(body: Any) -> Any:
    return json.loads(Sealer(ANNA, PLACE, 300, 100).body(json.dumps(body).encode()))


def test_every_id_of_a_response_is_sealed_and_all_else_is_the_same() -> None:
    body = sealed(RESPONSE)
    text = json.dumps({**body, "instructions": ""})
    assert HEX not in text
    assert HEX[::-1] not in text
    assert ANNA.open(body["id"]) == (RESPONSE["id"], PLACE, 300, bytes(4))
    assert ANNA.open(body["previous_response_id"]) == (RESPONSE["previous_response_id"], PLACE, 300, bytes(4))
    for own, upstream in zip(body["output"], RESPONSE["output"], strict=True):
        assert ANNA.open_item(own["id"]) == (upstream["id"], PLACE, 100, turn_of(f"resp_{HEX}"))
    for name in ("instructions", "metadata", "tools", "usage", "temperature", "error"):
        assert body[name] == RESPONSE[name]


def test_what_a_client_got_it_can_send_back() -> None:
    body = sealed(RESPONSE)
    sent = {"input": body["output"], "previous_response_id": body["id"]}
    request = open_request(json.dumps(sent).encode(), body["id"], ANNA)
    opened = json.loads(request.body)
    assert opened == {"input": RESPONSE["output"], "previous_response_id": RESPONSE["id"]}
    assert (request.place, request.tokens) == (PLACE, 300)


def test_values_keep_their_bytes() -> None:
    body = b'{"id":"resp_1","x": 1.00,"text":"\\u00e9 \\/","output":[],"metadata":{"a" : 1e3}}'
    out = Sealer(ANNA, PLACE, 1).body(body)
    rest = out.partition(b",")[2]
    assert rest == b'"x":1.00,"text":"\\u00e9 \\/","output":[],"metadata":{"a" : 1e3}}'
    assert Sealer(ANNA, PLACE, 1).body(b'{ "x" : 1.00 }') == b'{ "x" : 1.00 }'


def test_a_list_of_items_is_sealed() -> None:
    page = {"object": "list", "data": RESPONSE["output"], "first_id": f"rs_{HEX}", "last_id": f"msg_{HEX}"}
    body = sealed(page)
    assert HEX not in json.dumps(body)
    assert ANNA.open_item(body["first_id"]) == ANNA.open_item(body["data"][0]["id"])
    assert ANNA.open_item(body["last_id"]) == ANNA.open_item(body["data"][-1]["id"])


def test_a_deletion_names_the_id_that_the_client_knows() -> None:
    body = sealed({"id": f"resp_{HEX}", "object": "response.deleted", "deleted": True})
    assert body["id"] == sealed(RESPONSE)["id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[1]",
        b'"resp_1"',
        b'{"id":"resp_1"',
        b'{"id":"resp_\xff"}',
        '{"id":"resp_é"}'.encode(),
        b'{"id":"resp_' + b"a" * 2000 + b'"}',
        b'{"output":' + b"[" * 100 + b'{"id":"x"}' + b"]" * 100 + b"}",
    ],
)
def test_a_body_whose_ids_cannot_be_found_is_not_passed_on(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|nested|id"):
        Sealer(ANNA, PLACE, 1).body(body)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            f"Previous response with id 'resp_{HEX}' not found.",
            "Previous response with id 'resp_...' not found.",
        ),
        (f"Item 'rs_{HEX}' and msg_abc123DEF, fc_0123456789ab.", "Item 'rs_...' and msg_..., fc_...."),
        (
            f"No tool output found for function call call_{HEX}.",
            f"No tool output found for function call call_{HEX}.",
        ),
        (
            "Invalid 'max_output_tokens': integer below minimum.",
            "Invalid 'max_output_tokens': integer below minimum.",
        ),
        ("input[3].item_reference file_search_call", "input[3].item_reference file_search_call"),
    ],
)
def test_an_error_names_no_id_of_the_upstream(text: str, shown: str) -> None:
    body = json.dumps({"error": {"message": text, "param": None}})
    assert json.loads(hide_ids(body.encode())) == {"error": {"message": shown, "param": None}}


NAMES = st.sampled_from(
    [*sorted(ITEM_MEMBERS | RESPONSE_MEMBERS), "output", "item", "response", "content", "x"]
)
TREES = st.recursive(
    st.sampled_from([f"resp_{HEX}", f"msg_{HEX}"]) | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def leaked(value: Any) -> bool:
    if isinstance(value, list):
        return any(leaked(item) for item in value)
    if not isinstance(value, dict):
        return False
    names = ITEM_MEMBERS | RESPONSE_MEMBERS
    return any(
        leaked(inner) or (name in names and isinstance(inner, str) and HEX in inner)
        for name, inner in value.items()
        if name not in FREE_MEMBERS
    )


@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_no_structure_lets_an_id_through(body: dict[str, Any]) -> None:
    assert not leaked(sealed(body))
