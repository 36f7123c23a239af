"""Stored responses belong to one attendee of one event, wherever an id stands.

All attendees share one upstream, and the simulator serves any id to any caller. So a foreign or raw id
that gets there is a theft. The ids that could be stolen are those of a turn of "ann" in the first event.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import Any

import pytest

from tests.apis.test_responses_opening import CONTENT, DROPPED, ITEM, PLACES, REFUSED, RESPONSE
from tests.conftest import MODEL, Stage
from tests.responses import WireResponse, response_of
from tools.simulator import Answer, CutStream, Failure, StreamError

FORMS = ("/v1/responses", "/api/v1/openai/responses", "/openai/v1/responses")
SECRET = "the glove box holds marmalade"
WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
KEEP: Any = {"include": ["reasoning.encrypted_content"]}

upstream_ids = re.compile(rb"(?i)[a-z]+_[0-9a-f]{50}|(?<!enc1\.[\w-]{32})gAAAAAB[0-9a-f]{64}[\w=-]+").findall
"""Every id and encrypted content that the simulator makes, and nothing that the proxy has sealed."""


@dataclass(frozen=True)
class Attendee:
    stage: Stage
    event: str
    user: str
    model: str

    async def send(self, method: str, path: str, data: bytes | None = None) -> WireResponse:
        headers = {"api-key": f"{self.event}/{self.user}"}
        return await response_of(
            self.stage.http.request(method, self.stage.url + path, headers=headers, data=data)
        )

    async def ask(self, path: str = FORMS[0], **body: Any) -> WireResponse:
        return await self.send("POST", path, self.body(**body))

    def body(self, **members: Any) -> bytes:
        return json.dumps({"model": self.model, "input": "hello"} | members).encode()


@dataclass(frozen=True)
class Turn:
    """A stored turn: the ids that its owner got, and the upstream's, by what they name."""

    owner: Attendee
    sealed: dict[str, str]
    raw: dict[str, str]


async def new_turn(owner: Attendee, said: str) -> Turn:
    """A turn with encrypted reasoning."""
    stored = owner.stage.simulator._turns._turns
    before = set(stored)
    response = await owner.ask(input=said, **KEEP)
    (new,) = set(stored) - before
    return Turn(owner, _handles(response.json), _handles(stored[new].response))


def _handles(response: Any) -> dict[str, str]:
    reasoning, message = response["output"]
    return {RESPONSE: response["id"], ITEM: message["id"], CONTENT: reasoning["encrypted_content"]}


@pytest.fixture
async def ann(stage: Stage) -> Attendee:
    model = await stage.add_deployment("o4-mini")
    event = await stage.add_event(models=(), default_model=None)
    return Attendee(stage, event, "ann", model)


@pytest.fixture
async def turn(ann: Attendee) -> Turn:
    turn = await new_turn(ann, SECRET)
    ann.stage.simulator.reset()
    return turn


@pytest.fixture(params=["another user", "another event"])
async def thief(request: pytest.FixtureRequest, ann: Attendee) -> Attendee:
    if request.param == "another user":
        return replace(ann, user="bob")
    return replace(ann, event=await ann.stage.add_event(models=(), default_model=None))


def forged(sealed: str, raw: str) -> Iterator[str]:
    """What an attendee may try in place of an id."""
    yield from (sealed, raw, raw.upper(), f" {raw}", f"{raw}=")
    if sealed.startswith("enc1."):
        yield from (sealed.removeprefix("enc1."), sealed[: -len(raw)] + raw)
        return
    yield from ("resp_" + raw.partition("_")[2], "msg_" + sealed.partition("_")[2], raw[:-1])


def altered(sealed: str) -> Iterator[str]:
    """An own id that is not exactly as the attendee got it."""
    yield from (sealed.upper(), sealed + "=", sealed + " ", " " + sealed, sealed[:-1], sealed + "A")
    yield "conv_" + sealed.partition("_")[2]


def went_upstream(stage: Stage) -> set[bytes]:
    """The upstream's ids in the requests that the simulator has got."""
    seen = [call.path.encode() + call.query.encode() + call.body for call in stage.simulator.calls]
    return {found for one in seen for found in upstream_ids(one)}


def assert_nothing_crossed(stage: Stage, responses: list[WireResponse]) -> None:
    assert not went_upstream(stage)
    sent = b"".join(call.body + call.path.encode() + call.query.encode() for call in stage.simulator.calls)
    assert b"enc1." not in sent
    for response in responses:
        assert SECRET.encode() not in response.body
        assert_shows_no_upstream_id(response)


def assert_shows_no_upstream_id(response: WireResponse) -> None:
    assert not upstream_ids(response.body + repr(response.headers).encode())


def forget_refusals(stage: Stage) -> None:
    """The simulator refuses some of these bodies, more than an attendee may have refused in a minute."""
    assert stage.web._wiring is not None
    stage.web._wiring.quota._slowdown._refused.clear()


def is_refused(response: WireResponse) -> bool:
    """The proxy has refused an id, in a way that shows nothing about it."""
    return response.status in {400, 404} and response.error["code"] in {"unsupported_value", "not_found"}


# ---- the simulator would serve a stolen id


async def test_the_upstream_would_serve_a_stolen_id(turn: Turn) -> None:
    """Without this, the tests below would show nothing."""
    stage, headers = turn.owner.stage, {"api-key": "sim-key-7f3a9c"}
    url = f"{stage.simulator.url}/openai/v1/responses"
    read = await response_of(stage.http.get(f"{url}/{turn.raw[RESPONSE]}", headers=headers))
    items = await response_of(stage.http.get(f"{url}/{turn.raw[RESPONSE]}/input_items", headers=headers))
    assert read.status == 200 and SECRET in items.body.decode()
    for build in (PLACES["previous response"], PLACES["reference"]):
        stolen = build[2](turn.raw[build[0]])
        body = {"model": turn.owner.model, "input": "go on"} | stolen
        assert (await response_of(stage.http.post(url, headers=headers, json=body))).status == 200


async def test_the_owner_can_use_each_id(turn: Turn) -> None:
    served = ("previous response", "reference", "reasoning", "encrypted reasoning", "message")
    for path, name in product(FORMS, served):
        kind, _, build = PLACES[name]
        # The simulator knows a reasoning item by its own id, and the turn keeps that of the message.
        response = await turn.owner.ask(path, **build(turn.sealed[kind]))
        assert response.status == 200, (name, response.body)
        assert_shows_no_upstream_id(response)
    sent = went_upstream(turn.owner.stage)
    assert sent == {value.encode() for value in turn.raw.values()}


# ---- in the body of a call


@pytest.mark.parametrize("stream", [False, True])
async def test_no_place_in_a_body_takes_a_foreign_or_raw_id(
    turn: Turn, thief: Attendee, stream: bool
) -> None:
    forms, responses = cycle(FORMS), []
    for kind, outcome, build in PLACES.values():
        tries = [(thief, build(value)) for value in forged(turn.sealed[kind], turn.raw[kind])]
        tries += [(turn.owner, build(value)) for value in _own(turn, kind)]
        calls = (attendee.ask(next(forms), stream=stream, **body) for attendee, body in tries)
        got = await asyncio.gather(*calls)
        for (_, body), response in zip(tries, got, strict=True):
            assert response.status != 429
            assert outcome != REFUSED or is_refused(response), (body, response.body)
            assert outcome != DROPPED or response.status == 200, (body, response.body)
        responses += got
        forget_refusals(turn.owner.stage)
    assert_nothing_crossed(turn.owner.stage, responses)


def _own(turn: Turn, kind: str) -> Iterator[str]:
    yield turn.raw[kind]
    yield from altered(turn.sealed[kind])


BYTES: dict[str, str] = {
    "escaped name": r'"\u0070revious_response_id": "ID"',
    "escaped end of a name": r'"previous_response_i\u0064": "ID"',
    "escaped id": r'"previous_response_id": "ESCAPED"',
    "twice, the last one foreign": '"previous_response_id": null, "previous_response_id": "ID"',
    "twice, in two spellings": r'"previous_response_id": null, "previous_response_\u0069d": "ID"',
    "items, twice": '"input": "hi", "input": [{"type": "item_reference", "id": "ITEM"}]',
    "id of an item, twice": '"input": [{"type": "item_reference", "id": null, "id": "ITEM"}]',
    "type of an item, twice": '"input": [{"type": "message", "id": "ITEM", "type": "item_reference"}]',
    "upper case": '"PREVIOUS_RESPONSE_ID": "ID"',
    "mixed case": '"Previous_Response_Id": "ID"',
    "other case in an item": '"input": [{"type": "item_reference", "Id": "ITEM"}]',
    "conversation": '"conversation": "ID"',
    "conversation object": '"conversation": {"id": "ID"}',
    "conversation id": '"conversation_id": "ID"',
    "response id": '"response_id": "ID"',
    "prompt": '"prompt": {"id": "ID"}',
    "metadata of the response": '"metadata": {"previous_response_id": "x"}, "prompt_id": "ID"',
    "other case in a part": '"input": [{"role": "user", "content": [{"File_Id": "ITEM"}]}]',
    "files of an item": '"input": [{"type": "new_call", "vector_store_ids": ["ITEM"]}]',
    "list": '"previous_response_id": ["ID"]',
    "object": '"previous_response_id": {"id": "ID"}',
}
"""Members, byte by byte. ID and ITEM stand for ids."""


def _spelled(members: str, ids: dict[str, str], model: str, stream: str) -> bytes:
    escaped = "\\u0072" + ids[RESPONSE][1:]
    for mark, value in (("ITEM", ids[ITEM]), ("ESCAPED", escaped), ('"ID"', f'"{ids[RESPONSE]}"')):
        members = members.replace(mark, value)
    return f'{{"model": "{model}", "stream": {stream}, "input": "hi", {members}}}'.encode()


async def test_no_spelling_of_a_body_takes_a_foreign_or_raw_id(turn: Turn, thief: Attendee) -> None:
    tries = product(BYTES.values(), (turn.sealed, turn.raw), ("false", "true"))
    bodies = [_spelled(members, ids, thief.model, stream) for members, ids, stream in tries]
    responses = await asyncio.gather(*(thief.send("POST", FORMS[0], body) for body in bodies))
    for body, response in zip(bodies, responses, strict=True):
        assert response.status == 400, body
    assert_nothing_crossed(turn.owner.stage, responses)


# ---- in a path and in a query


ROUTES = (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"))


@pytest.mark.parametrize("path", FORMS)
async def test_no_path_takes_a_foreign_or_raw_id(turn: Turn, thief: Attendee, path: str) -> None:
    foreign = [*forged(turn.sealed[RESPONSE], turn.raw[RESPONSE]), turn.sealed[ITEM], turn.raw[ITEM]]
    own = [turn.raw[RESPONSE], *altered(turn.sealed[RESPONSE]), turn.sealed[ITEM]]
    tries = [(thief, value) for value in foreign] + [(turn.owner, value) for value in own]
    responses = []
    for (attendee, value), (method, part) in product(tries, ROUTES):
        for written in (value, value.replace("_", "%5F")):
            responses.append(await attendee.send(method, f"{path}/{written.replace(' ', '%20')}{part}"))
    assert {(response.status, response.error["code"]) for response in responses} == {(404, "not_found")}
    assert not turn.owner.stage.simulator.calls
    assert_nothing_crossed(turn.owner.stage, responses)
    assert (await turn.owner.send("GET", f"{path}/{turn.sealed[RESPONSE]}")).status == 200


async def test_no_query_takes_a_foreign_or_raw_id(turn: Turn, thief: Attendee) -> None:
    own = await new_turn(thief, "hello")
    thief.stage.simulator.reset()
    path = f"{FORMS[0]}/{own.sealed[RESPONSE]}"
    tries = [*forged(turn.sealed[ITEM], turn.raw[ITEM]), own.raw[ITEM], *altered(own.sealed[ITEM])]
    responses = [
        await thief.send("GET", f"{path}{part}?{name}={value.replace(' ', '%20')}")
        for value in tries
        for part in ("", "/input_items")
        for name in ("after", "before", "%61fter")
    ]
    assert {response.status for response in responses} == {404}
    assert not thief.stage.simulator.calls
    for name in ("conversation", "response_id", "starting_after", "After", "item_id"):
        response = await thief.send("GET", f"{path}/input_items?{name}={turn.raw[ITEM]}")
        assert response.status == 200 and SECRET.encode() not in response.body
        assert_shows_no_upstream_id(response)
    sent = went_upstream(thief.stage)
    assert sent == {own.raw[RESPONSE].encode()}


# ---- when deployments change


async def test_an_id_is_of_no_use_when_its_deployment_is_gone(turn: Turn) -> None:
    stage, owner = turn.owner.stage, turn.owner
    row = next(row for row in await stage.tables.deployments() if row.model == owner.model)
    for target in (replace(row, deployment_name="other"), replace(row, active=False), None):
        await stage.tables.delete_deployment(row.model, row.id)
        if target is not None:
            await stage.tables.put_deployment(target)
        other = replace(owner, model=await stage.add_deployment("o4-mini"))
        for attendee, stream in product((owner, other), (False, True)):
            for name in ("previous response", "reference"):
                kind, _, build = PLACES[name]
                response = await attendee.ask(stream=stream, **build(turn.sealed[kind]))
                assert (response.status // 100, response.error["type"]) == (4, "invalid_request_error")
        for method, part in ROUTES:
            assert (await owner.send(method, f"{FORMS[0]}/{turn.sealed[RESPONSE]}{part}")).status == 404
    assert not stage.simulator.calls


async def test_a_turn_is_continued_where_it_is_stored(turn: Turn) -> None:
    stage, owner = turn.owner.stage, turn.owner
    (row,) = [row for row in await stage.tables.deployments() if row.model == owner.model]
    better = replace(row, id="better", deployment_name=f"{row.deployment_name}-better", priority=0)
    await stage.tables.put_deployment(better)
    for name in ("previous response", "reference", "reasoning", "encrypted reasoning"):
        kind, _, build = PLACES[name]
        assert (await owner.ask(**build(turn.sealed[kind]))).status == 200
    assert (await owner.ask()).status == 200
    *before, last = [call.deployment for call in stage.simulator.calls]
    assert (set(before), last) == ({row.deployment_name}, better.deployment_name)


async def test_a_conversation_goes_on_without_the_thoughts_of_another_model(turn: Turn) -> None:
    stage = turn.owner.stage
    other = replace(turn.owner, model=await stage.add_deployment("o4-mini"))
    for name in ("encrypted reasoning", "reasoning", "message"):
        kind, _, build = PLACES[name]
        assert (await other.ask(**build(turn.sealed[kind]))).status == 200
    assert not went_upstream(stage)


# ---- nothing that a client receives has an id of the upstream


BEHAVIOURS = (
    Answer(),
    StreamError(),
    StreamError(failed=True),
    *(CutStream(after) for after in range(9)),
)


async def test_no_response_has_an_id_of_the_upstream(turn: Turn) -> None:
    owner, calls = turn.owner, []
    chosen: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required"}
    for stream, tools, behaviour in product((False, True), ({}, chosen), BEHAVIOURS):
        owner.stage.simulator.behave(owner.model, behaviour)
        calls.append(owner.ask(stream=stream, previous_response_id=turn.sealed[RESPONSE], **tools, **KEEP))
    responses = await asyncio.gather(*calls)
    assert 200 in {response.status for response in responses}
    for response in responses:
        assert_shows_no_upstream_id(response)


@pytest.mark.parametrize("stream", [False, True])
async def test_no_error_has_an_id_of_the_upstream(turn: Turn, stream: bool) -> None:
    named = turn.raw[ITEM].encode()
    error = Failure(404, b'{"error":{"message":"Item with id \'%b\' not found."}}' % named)
    turn.owner.stage.simulator.behave(turn.owner.model, error)
    response = await turn.owner.ask(stream=stream)
    assert response.status == 404 and b"Item with id 'msg_...' not found." in response.body
    assert_shows_no_upstream_id(response)


@pytest.mark.parametrize("failed", [False, True])
async def test_no_error_event_has_an_id_of_the_upstream(turn: Turn, failed: bool) -> None:
    text = f"Item with id '{turn.raw[ITEM]}' not found."
    turn.owner.stage.simulator.behave(turn.owner.model, StreamError(message=text, failed=failed))
    response = await turn.owner.ask(stream=True)
    assert b"Item with id 'msg_...' not found." in response.body
    assert_shows_no_upstream_id(response)


async def test_no_stored_response_shows_an_id_of_the_upstream(turn: Turn) -> None:
    owner = turn.owner
    called = (await owner.ask(tools=[WEATHER], tool_choice="required", **KEEP)).json
    call_id = called["output"][-1]["call_id"]
    output = [{"type": "function_call_output", "call_id": call_id, "output": "mild"}]
    second = (await owner.ask(previous_response_id=called["id"], input=output, tools=[WEATHER])).json
    assert second["previous_response_id"] == called["id"]
    path = f"{FORMS[0]}/{second['id']}"
    listed = await owner.send("GET", f"{path}/input_items?limit=2")
    after = await owner.send("GET", f"{path}/input_items?after={listed.json['last_id']}&order=desc")
    assert listed.json["has_more"] and after.json["data"]
    responses = [listed, after, await owner.send("GET", path), await owner.send("POST", f"{path}/cancel")]
    responses += [await owner.send("GET", f"{path}/input_items?limit=0")]
    responses += [await owner.send("DELETE", path), await owner.send("GET", path)]
    assert [response.status for response in responses] == [200, 200, 200, 400, 400, 200, 404]
    assert responses[5].json["id"] == second["id"]
    responses.append(await owner.ask(previous_response_id=second["id"]))
    assert responses[-1].status == 400
    for response in responses:
        assert response.headers["x-request-id"]
        assert_shows_no_upstream_id(response)


# ---- what outlives a call or an event


@pytest.mark.parametrize("stores", [True, False])
@pytest.mark.parametrize("member", ['"store": true', '"st\\u006fre": true', '"store": null, "store": true'])
async def test_a_chat_completion_is_stored_only_if_the_event_allows_it(
    stage: Stage, member: str, stores: bool
) -> None:
    event = await stage.add_event(store_responses=stores)
    ann = Attendee(stage, event, "ann", MODEL)
    body = f'{{"messages": [{{"role": "user", "content": "hello"}}], {member}}}'
    response = await ann.send("POST", "/v1/chat/completions", body.encode())
    (call,) = stage.simulator.calls
    assert (response.status, call.json["store"]) == (200, stores)


async def test_a_repeated_call_gets_nothing_of_another_attendee(ann: Attendee, thief: Attendee) -> None:
    """Ann's call runs on without her, and its response waits for her to repeat it."""
    stage = ann.stage
    gate = stage.simulator.gate(ann.model, Answer(SECRET))
    left = asyncio.ensure_future(ann.ask())
    await stage.simulator.until(lambda calls: any(call.behaviour for call in calls))
    await asyncio.sleep(0.3)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    again = asyncio.ensure_future(ann.ask())
    await asyncio.sleep(0.3)
    other = await thief.ask()
    gate.open_all()
    mine = await again
    assert (other.status, other.headers.get("x-event-replayed")) == (200, None)
    assert SECRET.encode() not in other.body
    assert mine.headers["x-event-replayed"] == "true" and SECRET.encode() in mine.body
    for attendee, response, status in ((ann, mine, 200), (thief, mine, 404), (ann, other, 404)):
        assert (await attendee.send("GET", f"{FORMS[0]}/{response.json['id']}")).status == status


async def test_an_event_that_is_created_again_takes_no_id_of_the_old_one(turn: Turn) -> None:
    stage, owner = turn.owner.stage, turn.owner
    event = await stage.tables.event(owner.event)
    assert event is not None and event.id_secret
    await stage.tables.put_event(replace(event, id_secret=""))
    path = f"{FORMS[0]}/{turn.sealed[RESPONSE]}"
    responses = [await owner.send(method, path + part) for method, part in ROUTES]
    responses.append(await owner.ask(previous_response_id=turn.sealed[RESPONSE]))
    assert all(is_refused(response) for response in responses)
    assert not stage.simulator.calls
