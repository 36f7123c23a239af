"""Requests of the Responses API: what is read and changed, and which tools an event allows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.apis.quirks import NO_QUIRKS
from shared.apis.response_tools import MOST_TOOLS
from shared.apis.responses import RESPONSES
from shared.core.errors import InvalidJson, InvalidRequest, ToolNotAllowed, UnsupportedValue
from shared.core.models import Deployment, Event, Usage

DEPLOYMENT = Deployment("gpt-4o", "1", "https://one.example", "own-name", api_version="2025-04-01-preview")
NOON = datetime(2026, 12, 3, 12, tzinfo=UTC)


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_the_members_that_policy_needs_are_read() -> None:
    body = {"model": "gpt-4o", "stream": True, "store": False, "max_output_tokens": 50, "input": "hi"}
    request = RESPONSES.parse(encoded({**body, "previous_response_id": "resp_1", "unknown": [1]}))
    assert (request.model, request.stream, request.store) == ("gpt-4o", True, False)
    assert (request.choices, request.output_tokens, request.previous_response_id) == (1, 50, "resp_1")


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ({"model": 1}, "'model' must be a string, not a whole number."),
        ({"stream": "true"}, "'stream' must be true or false, not a string."),
        ({"store": "no"}, "'store' must be true or false, not a string."),
        ({"background": 1}, "'background' must be true or false, not a whole number."),
        ({"max_output_tokens": 0}, "'max_output_tokens' must be at least 1."),
        ({"max_output_tokens": -5}, "'max_output_tokens' must be at least 1."),
        ({"max_output_tokens": "5"}, "'max_output_tokens' must be a whole number, not a string."),
        ({"max_output_tokens": 1.5}, "'max_output_tokens' must be a whole number, not a decimal number."),
        ({"previous_response_id": 5}, "'previous_response_id' must be a string, not a whole number."),
        ({"input": {"role": "user"}}, "'input' must be a string or a list."),
        ({"input": 5}, "'input' must be a string or a list."),
    ],
)
def test_a_wrong_type_is_refused(member: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        RESPONSES.parse(encoded({"input": "hi", **member}))
    assert (refusal.value.message, refusal.value.param) == (sentence, next(iter(member)))


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"input":' + b"[" * 100_000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises((InvalidJson, InvalidRequest)):
        RESPONSES.parse(body)


@pytest.mark.parametrize(
    "member",
    [
        {"background": True},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"conversation": ""},
        {"prompt": {"id": "pmpt_1"}},
    ],
)
def test_what_cannot_be_kept_apart_is_refused_with_the_way_round(member: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedValue, match="Send ") as refusal:
        RESPONSES.parse(encoded({"input": "hi", **member}))
    assert refusal.value.param in member


@pytest.mark.parametrize("name", ["background", "conversation", "prompt"])
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    RESPONSES.parse(encoded({"input": "hi", name: None}))


@pytest.mark.parametrize(
    ("asked", "limit", "sent"),
    [(None, None, None), (50, None, 50), (None, 20, 20), (50, 20, 20), (10, 20, 10)],
)
def test_the_upstream_gets_the_deployment_and_the_lower_limit(
    asked: int | None, limit: int | None, sent: int | None
) -> None:
    body = b'{"model":"gpt-4o","input":"caf\\u00e9","temperature":1.00'
    body += b"}" if asked is None else b',"max_output_tokens":%d}' % asked
    out = RESPONSES.upstream_body(body, RESPONSES.parse(body), DEPLOYMENT, limit, NO_QUIRKS)
    assert out.startswith(b'{"model":"own-name","input":"caf\\u00e9","temperature":1.00')
    assert json.loads(out).get("max_output_tokens") == sent


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"input_tokens": 7, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 1}},
            Usage(7, 5, 1),
        ),
        ({"input_tokens": 0, "output_tokens": 5}, None),
        ({"input_tokens": 7, "output_tokens": -1}, None),
        ({"input_tokens": 7}, None),
        ({"prompt_tokens": 7, "completion_tokens": 5}, None),
        ({"input_tokens": 7.5, "output_tokens": 5}, None),
        ({"input_tokens": 10**9, "output_tokens": 5}, None),
        (None, None),
    ],
)
def test_only_plausible_usage_is_read(usage: Any, expected: Usage | None) -> None:
    assert RESPONSES.usage_of(encoded({"id": "resp_1", "usage": usage})) == expected


def test_usage_of_no_object_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        RESPONSES.usage_of(b"[]")


def admit(body: Any, *tools: str) -> None:
    event = Event("hackathon", "Hackathon", NOON, NOON, tools=tools)
    RESPONSES.admit(RESPONSES.parse(encoded(body)), event)


FUNCTION = {"type": "function", "name": "f", "parameters": {"properties": {"file_id": {"type": "string"}}}}
CUSTOM = {"type": "custom", "name": "apply_patch"}
NAMESPACE = {"type": "namespace", "name": "n", "tools": [FUNCTION, CUSTOM]}
SEARCH = {"type": "web_search"}


@pytest.mark.parametrize(
    "body",
    [
        {"tools": None},
        {"tools": []},
        {"tools": [FUNCTION, CUSTOM, NAMESPACE]},
        *({"tool_choice": choice} for choice in (None, "auto", "none", "required")),
        {"tool_choice": {"type": "function", "name": "f"}},
        {
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            }
        },
        {"input": [{"type": "additional_tools", "tools": [FUNCTION]}]},
        {"input": [{"type": "mcp_list_tools", "tools": [{"name": "f", "input_schema": {}}]}]},
        {"input": [{"role": "user", "content": 'tools": [{"type": "web_search"}]'}]},
    ],
)
def test_own_tools_need_no_permission(body: Any) -> None:
    admit(body)


@pytest.mark.parametrize(
    "tool",
    [
        SEARCH,
        {"type": "web_search_preview"},
        {"type": "web_search_2025_08_26"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "image_generation"},
        {"type": "mcp", "server_url": "https://a.example"},
        {"type": "computer_use_preview"},
        {"type": "shell"},
        {"type": "something_new"},
        {"type": "Function"},
        {"type": "functions"},
        {"type": None},
        {"type": 1},
        {"type": ["function"]},
        {"name": "f"},
        {},
        {"type": "namespace", "tools": [FUNCTION, SEARCH]},
        {"type": "namespace", "tools": [NAMESPACE]},
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda tool: {"tools": [FUNCTION, tool]},
        lambda tool: {"input": [{"type": "additional_tools", "role": "developer", "tools": [tool]}]},
        lambda tool: {"input": [{"type": "tool_search_output", "tools": [tool]}]},
        lambda tool: {"tool_choice": {"type": "allowed_tools", "tools": [tool]}},
    ],
    ids=["tools", "additional", "search", "choice"],
)
def test_other_tools_need_the_permission_of_the_event(tool: Any, place: Any) -> None:
    body = place(tool)
    with pytest.raises(ToolNotAllowed, match="Leave the tool out") as refusal:
        admit(body)
    assert refusal.value.param in body


@pytest.mark.parametrize(
    "tools",
    [
        *({"a": 1}, "web_search", 1, True, ["web_search"], [None], [[FUNCTION]]),
        *([{"type": "namespace"}], [{"type": "namespace", "tools": None}]),
    ],
)
def test_tools_of_an_unknown_form_are_refused(tools: Any) -> None:
    choice = {"type": "allowed_tools", "tools": tools}
    for body in ({"tools": tools}, {"input": [{"tools": tools}]}, {"tool_choice": choice}):
        with pytest.raises(InvalidRequest, match="in a list"):
            admit(body)


def test_a_name_with_escapes_is_the_same_name() -> None:
    for body in (
        b'{"t\\u006fols": [{"type": "web_search"}]}',
        b'{"tools": [{"t\\u0079pe": "function", "type": "web\\u005fsearch"}]}',
        b'{"input": [{"type": "tool_search_output", "t\\u006fols": [{"type": "web_search"}]}]}',
    ):
        with pytest.raises(ToolNotAllowed):
            RESPONSES.admit(RESPONSES.parse(body), Event("hackathon", "Hackathon", NOON, NOON))


@pytest.mark.parametrize("choice", ["web_search", {"type": "web_search"}, {"type": "mcp"}, {}, "new"])
def test_a_choice_opens_no_side_door(choice: Any) -> None:
    with pytest.raises(ToolNotAllowed):
        admit({"tool_choice": choice})


@pytest.mark.parametrize("choice", [[], 5, True])
def test_a_choice_of_an_unknown_form_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest, match="must be a string"):
        admit({"tool_choice": choice})


def test_a_permission_covers_the_versions_of_a_tool_only() -> None:
    for kind in ("web_search", "web_search_preview", "web_search_2025_08_26"):
        admit({"tools": [{"type": kind}], "tool_choice": {"type": kind}}, "web_search")
    for kind in ("web_searching", "web", "file_search", "shell"):
        with pytest.raises(ToolNotAllowed, match="It allows: your own functions, web_search, mcp"):
            admit({"tools": [{"type": kind}]}, "web_search", "mcp")


def test_the_refusal_says_what_to_do_in_codex() -> None:
    with pytest.raises(ToolNotAllowed, match=r"'web_search'.*In Codex, set web_search = \"disabled\""):
        admit({"tools": [SEARCH]})


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "code_interpreter", "container": "cntr_1"},
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-1"]}},
        {"type": "image_generation", "input_image_mask": {"file_id": "file-1"}},
        {"type": "shell", "environment": {"type": "container_reference", "container_id": "cntr_1"}},
        {"type": "shell", "environment": {"type": "container_auto", "skills": [{"skill_id": "skill_1"}]}},
        {"type": "mcp", "tunnel_id": "tunnel_1"},
    ],
)
def test_an_allowed_tool_names_nothing_that_all_attendees_share(tool: Any) -> None:
    with pytest.raises(UnsupportedValue, match="share") as refusal:
        admit({"tools": [tool]}, tool["type"])
    assert refusal.value.param == "tools"


def test_an_allowed_tool_may_have_its_own_options() -> None:
    tools = [
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": []}},
        {"type": "mcp", "connector_id": "connector_gmail", "headers": {"x_id": "1"}},
        {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}},
    ]
    admit({"tools": tools}, "code_interpreter", "mcp", "web_search")


def test_too_many_tools_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than"):
        admit({"tools": [FUNCTION] * (MOST_TOOLS + 1)})
    with pytest.raises(InvalidRequest, match="more than"):
        admit({"input": [{"tools": []}] * (MOST_TOOLS + 1)})
    with pytest.raises(InvalidRequest, match="more than"):
        admit({"tools": [{"type": "web_search", "new": [{}] * MOST_TOOLS}]}, "web_search")
