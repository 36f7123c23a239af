"""Members that a deployment refuses: what one call may teach, and how it is forgotten."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.apis.quirks import NO_QUIRKS, Quirks
from shared.core.models import Credential
from shared.upstream.quirks import EXPIRES_SECONDS, LearnedQuirks
from tests.clock import Clock
from tests.conftest import Stage
from tests.wire import Peer, scripted_upstream

OLD, NEW = Quirks("max_tokens"), Quirks("max_completion_tokens")
ANN, BOB = Credential("event", "ann"), Credential("event", "bob")
LIMIT: Any = 5
ANSWER = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


class Model:
    """An upstream that refuses requests with the member that `refused` names for them."""

    def __init__(self, refused: Callable[[dict[str, Any]], str | None]) -> None:
        self.refused = refused
        self.requests: list[dict[str, Any]] = []

    async def serve(self, peer: Peer) -> None:
        while body := await peer.request():
            fields = json.loads(body)
            self.requests.append(fields)
            param = self.refused(fields)
            if param in fields:
                error = {"code": "unsupported_parameter", "param": param, "message": "..."}
                await peer.send(_response(400, json.dumps({"error": error}).encode()))
            else:
                await peer.send(_response(200, ANSWER))

    def tries(self) -> int:
        """The requests since the last time."""
        count = len(self.requests)
        self.requests.clear()
        return count


def _response(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def event_with(stage: Stage, model: Model) -> AsyncIterator[str]:
    """An event whose only deployment is this model."""
    async with scripted_upstream(model.serve) as wire:
        name = await stage.add_deployment(endpoint=f"http://127.0.0.1:{wire.port}")
        yield await stage.add_event(models=(name,), default_model=name)


async def test_an_upgraded_deployment_that_refuses_the_learned_field_gets_the_other_one(stage: Stage) -> None:
    model = Model(lambda _: "max_completion_tokens")
    async with event_with(stage, model) as event:
        for tries in (2, 1):
            assert (await stage.chat(event, max_completion_tokens=5)).status == 200
            assert model.tries() == tries
        model.refused = lambda _: "max_tokens"
        for field, tries in (("max_completion_tokens", 2), ("max_completion_tokens", 1), ("max_tokens", 1)):
            assert (await stage.chat(event, **{field: LIMIT})).status == 200
            assert model.tries() == tries


async def test_a_deployment_that_refuses_both_fields_names_the_one_that_the_client_sent(stage: Stage) -> None:
    fields = ("max_tokens", "max_completion_tokens")
    model = Model(lambda sent: next((field for field in fields if field in sent), None))
    async with event_with(stage, model) as event:
        for field in fields * 2:
            response = await stage.chat(event, **{field: LIMIT})
            assert (response.status, response.error["param"]) == (400, field)


async def test_a_deployment_that_refuses_two_members_is_served_without_both(stage: Stage) -> None:
    model = Model(lambda sent: "stream_options" if "stream_options" in sent else "max_completion_tokens")
    async with event_with(stage, model) as event:
        for tries in (3, 1):
            response = await stage.chat(event, max_completion_tokens=5, stream=True)
            assert response.status == 200
            assert model.tries() == tries


@pytest.mark.parametrize(
    "odd",
    [
        {"prediction": {"type": "content", "content": "x"}},
        {"n": 2},
        {"data_sources": [{"type": "azure_search"}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"a_future_member": 1},
        {"stream_options": {"include_usage": True}},
    ],
    ids=lambda odd: next(iter(odd)),
)
async def test_a_refusal_that_the_call_itself_can_cause_teaches_nothing(
    stage: Stage, odd: dict[str, Any]
) -> None:
    member = next(iter(odd))
    model = Model(lambda sent: "max_completion_tokens" if member in sent else None)
    async with event_with(stage, model) as event:
        for _ in range(2):
            assert (await stage.chat(event, "eve", max_completion_tokens=5, **odd)).status == 200
            assert model.tries() == 2
        assert (await stage.chat(event, "ann", max_completion_tokens=5)).status == 200
        assert "max_completion_tokens" in model.requests[-1]


async def test_a_refusal_that_two_attendees_meet_is_learned_whatever_they_send(stage: Stage) -> None:
    model = Model(lambda _: "max_tokens")
    async with event_with(stage, model) as event:
        for user, tries in (("ann", 2), ("ann", 2), ("bob", 2), ("cat", 1), ("ann", 1)):
            assert (await stage.chat(event, user, max_tokens=5, tools=[{"type": "function"}])).status == 200
            assert model.tries() == tries


async def test_a_refusal_that_no_retry_solves_is_not_learned(stage: Stage) -> None:
    model = Model(lambda _: None)
    async with event_with(stage, model) as event:

        def refuse(sent: dict[str, Any]) -> str | None:
            return "max_completion_tokens" if "max_completion_tokens" in sent else "messages"

        model.refused = refuse
        assert (await stage.chat(event, max_completion_tokens=5)).status == 400
        model.refused = lambda _: None
        assert (await stage.chat(event, max_completion_tokens=5)).status == 200
        assert "max_completion_tokens" in model.requests[-1]


def test_what_was_learned_expires() -> None:
    clock = Clock()
    quirks = LearnedQuirks(clock)
    quirks.learn(OLD, ANN, is_plain=True)
    clock.seconds = EXPIRES_SECONDS - 1
    assert quirks.current == OLD
    quirks.learn(OLD._replace(stream_options=False), ANN, is_plain=True)  # does not extend the time
    clock.seconds = EXPIRES_SECONDS
    assert quirks.current == NO_QUIRKS
    quirks.learn(NEW, ANN, is_plain=True)
    clock.seconds += EXPIRES_SECONDS - 1
    assert quirks.current == NEW


def test_calls_that_are_not_plain_teach_only_what_another_attendee_has_shown() -> None:
    quirks = LearnedQuirks(Clock())
    for shown, attendee in ((OLD, ANN), (NEW, BOB), (OLD, ANN), (OLD, ANN)):
        quirks.learn(shown, attendee, is_plain=False)
        assert quirks.current == NO_QUIRKS
    quirks.learn(OLD, BOB, is_plain=False)
    assert quirks.current == OLD
