"""Turns of the event loop: responses wait for the end of one, and each table call gets its own."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, cast

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient

from shared.apis.api import Api
from shared.apis.chat import CHAT
from shared.app.bodies import Bodies
from shared.app.calls import Calls
from shared.app.incoming import Incoming
from shared.app.proxy import Proxy
from shared.core.errors import StoreUnavailable, UpstreamError
from shared.core.models import Credential, Deployment, Event
from shared.core.turns import Turns
from shared.events.lookup import Events
from shared.functions.http import Message, Receive, Request, Response, Send
from shared.quota.ledger_row import Key
from shared.quota.quota import Quota
from shared.tables.tables import Tables
from shared.tokens.families import family_of
from shared.tokens.prompt import Prompt
from shared.upstream.call import Call, Progress
from shared.upstream.candidate import Candidate
from shared.upstream.client import Upstream
from shared.upstream.connections import UpstreamBody
from shared.upstream.forwarding import Forwarding, Timeouts
from shared.upstream.relay import StreamLimits
from shared.upstream.response import UpstreamResponse
from shared.upstream.routing import Routes
from tests.conftest import EVENT
from tests.fake_ledger import FakeLedger
from tests.tools.sample_apps import call, host_of


async def test_responses_that_are_ready_in_the_same_turn_are_sent_after_it() -> None:
    actions, together = list[str](), asyncio.Barrier(3)

    class RecordedResponse(Response):
        async def send_to(self, receive: Receive, send: Send) -> None:
            actions.append("sent")
            await super().send_to(receive, send)

    async def handler(req: Request) -> Response:
        await together.wait()
        actions.append("ready")
        return RecordedResponse(200, {}, b"")

    async with host_of(handler) as host:
        await asyncio.gather(*(call(host.url, "/x") for _ in range(3)))
    assert actions == ["ready"] * 3 + ["sent"] * 3


class Recorder:
    """Records actions, and the turn of the loop in which each happened."""

    def __init__(self) -> None:
        self.turn = 0
        self.actions: list[tuple[int, str]] = []
        self.counting = asyncio.create_task(self.count())

    async def count(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def record(self, action: str) -> None:
        self.actions.append((self.turn, action))

    def turns(self, *expected: str) -> int:
        """The number of turns in which the expected actions happened, in this order."""
        self.counting.cancel()
        assert [action for _, action in self.actions] == [*expected]
        return len({turn for turn, _ in self.actions})


async def test_simultaneous_callers_get_one_turn_each_in_order() -> None:
    async def call(name: str) -> None:
        await turns.wait()
        recorder.record(name)

    turns, recorder = Turns(), Recorder()
    await asyncio.gather(*map(call, "abcd"))
    assert recorder.turns("a", "b", "c", "d") == 4


async def test_a_single_caller_does_not_wait() -> None:
    turns = Turns()
    for _ in range(3):
        with pytest.raises(StopIteration):
            turns.wait().send(None)
        await asyncio.sleep(0)


async def test_waiting_caller_that_is_cancelled_frees_its_turn() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.wait()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[1:4]:
        task.cancel()
    async with asyncio.timeout(5):
        await waiting[0]
        await waiting[4]
        await turns.wait()


class UnreachableUpstream:
    """Records whether each request is urgent, then fails."""

    def __init__(self) -> None:
        self.urgent: list[bool] = []

    async def send(self, _: Api, __: Deployment, body: UpstreamBody, *___: object) -> UpstreamResponse:
        self.urgent.append(body.is_urgent)
        raise UpstreamError("unreachable")


@pytest.mark.parametrize(
    ("body", "is_urgent"), [(b'{"stream":true}', True), (b'{"stream":false}', False), (b"{}", False)]
)
async def test_only_the_request_for_a_stream_is_urgent(body: bytes, is_urgent: bool) -> None:
    upstream = UnreachableUpstream()
    forwarding = Forwarding(cast(Upstream, upstream), Timeouts(10, 20), monotonic, Turns())
    deployment = Deployment("gpt-4o", "east", "http://127.0.0.1:1", "gpt-4o")
    routes = Routes([Candidate(deployment, monotonic, lambda *_: None)])
    call = Call(
        id="id",
        arrived_at=datetime.now(UTC),
        clock_at_arrival=monotonic(),
        credential=Credential("hackathon", "ann"),
        event=EVENT,
        model="gpt-4o",
        api=CHAT,
        request=CHAT.parse(body),
        headers={},
        received=body,
        body=body,
        family=family_of("gpt-4o"),
        prompt=Prompt(body, family_of("gpt-4o")),
        trace={},
    )
    with pytest.raises(UpstreamError):
        await forwarding.send(call, routes, None, Progress(monotonic()))
    assert upstream.urgent == [is_urgent]


class NoRoutes:
    """Records who looks up the deployments. The tables do not respond."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def routes(self) -> Routes:
        self.recorder.record(str(len(self.recorder.actions)))
        raise StoreUnavailable


class OneEvent:
    async def find_for(self, credential: Credential) -> tuple[Credential, Event]:
        return credential, EVENT


@pytest.mark.parametrize(("body", "turns"), [(b'{"stream":true}', 3), (b"{}", 1)], ids=["streams", "plain"])
async def test_simultaneous_streams_begin_in_separate_turns(body: bytes, turns: int) -> None:
    """Otherwise the chunks of running streams would wait for all new ones."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def call(user: str) -> None:
        headers = [(b"api-key", f"{EVENT.code}/{user}".encode())]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        with pytest.raises(StoreUnavailable):
            await proxy.serve(CHAT, Incoming(request, bodies, 0.0))

    recorder, never = Recorder(), cast(Any, None)
    bodies = Bodies(1000, 1000, 1)
    quota = Quota(FakeLedger(), 600, monotonic)
    now = partial(datetime.now, UTC)
    events, routing = cast(Events, OneEvent()), cast(Any, NoRoutes(recorder))
    calls = Calls(events, routing, never, 1)
    proxy = Proxy(calls, quota, never, never, StreamLimits(1, 1, 1), now)
    await asyncio.gather(*map(call, "abc"))
    assert recorder.turns("0", "1", "2") == turns


class EmptyTables:
    """Records the rows that are read. It replaces the clients of azure-data-tables, and has no rows."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def get_table_client(self, _: str) -> "EmptyTables":
        return self

    async def get_entity(self, _: str, row: str) -> None:
        self.recorder.record(row)
        error = ResourceNotFoundError()
        error.error_code = "ResourceNotFound"  # type: ignore[attr-defined] # as azure-data-tables does
        raise error


async def test_simultaneous_table_calls_begin_in_separate_turns() -> None:
    """azure-data-tables takes some tenths of a millisecond for each, which blocks the streams."""
    recorder = Recorder()
    tables = Tables(cast(TableServiceClient, EmptyTables(recorder)))
    await asyncio.gather(*(tables.read_ledger(Key("hackathon", row)) for row in "abc"))
    assert recorder.turns("a", "b", "c") == 3
