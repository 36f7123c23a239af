"""What waits for its turn of the loop: answers for the end of one, table calls for one of their own each."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, cast

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient

from shared.apis.chat import parse
from shared.app.proxy import Proxy
from shared.core.errors import InvalidEventToken, UpstreamError
from shared.core.models import Credential, Deployment, Event
from shared.core.turns import Turns
from shared.events.lookup import Events
from shared.functions.http import Receive, Request, Response, Send
from shared.quota.ledger_row import Key
from shared.tables.stores import Tables
from shared.upstream.candidate import Candidate
from shared.upstream.client import Answer, Body, Timeouts, Upstream
from shared.upstream.forwarding import Forwarding
from shared.upstream.routing import Routes
from tests.conftest import EVENT
from tests.tools.sample_apps import call, host_of


async def test_responses_that_are_ready_together_are_sent_after_all_of_them() -> None:
    seen, together = list[str](), asyncio.Barrier(3)

    class Seen(Response):
        async def send_to(self, receive: Receive, send: Send) -> None:
            seen.append("sent")
            await super().send_to(receive, send)

    async def handler(req: Request) -> Response:
        await together.wait()
        seen.append("ready")
        return Seen(200, {}, b"")

    async with host_of(handler) as host:
        await asyncio.gather(*(call(host.url, "/x") for _ in range(3)))
    assert seen == ["ready"] * 3 + ["sent"] * 3


class Noted:
    """In which turn of the loop something was done, and what."""

    def __init__(self) -> None:
        self.turn = 0
        self.done: list[tuple[int, str]] = []
        self.counting = asyncio.create_task(self.count())

    async def count(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def note(self, what: str) -> None:
        self.done.append((self.turn, what))

    def turns(self, *expected: str) -> int:
        """In how many turns these were done, in this order."""
        self.counting.cancel()
        assert [what for _, what in self.done] == [*expected]
        return len({turn for turn, _ in self.done})


async def test_those_that_come_together_get_one_turn_each_in_their_order() -> None:
    async def call(name: str) -> None:
        await turns.wait()
        noted.note(name)

    turns, noted = Turns(), Noted()
    await asyncio.gather(*map(call, "abcd"))
    assert noted.turns(*"abcd") == 4


async def test_who_comes_alone_does_not_wait() -> None:
    turns = Turns()
    for _ in range(3):
        with pytest.raises(StopIteration):
            turns.wait().send(None)
        await asyncio.sleep(0)


async def test_who_leaves_while_he_waits_takes_no_turn_from_others() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.wait()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[1:4]:
        task.cancel()
    async with asyncio.timeout(5):
        await waiting[0]
        await waiting[4]
        await turns.wait()


class Noting:
    """Stands for the upstream, which cannot be reached. Notes whether a request may wait for its turn."""

    def __init__(self) -> None:
        self.urgent: list[bool] = []

    async def send(self, _: Deployment, body: Body, *__: object) -> Answer:
        self.urgent.append(body.is_urgent)
        raise UpstreamError("noted")


@pytest.mark.parametrize(
    ("body", "is_urgent"), [(b'{"stream":true}', True), (b'{"stream":false}', False), (b"{}", False)]
)
async def test_the_request_of_a_stream_is_urgent(body: bytes, is_urgent: bool) -> None:
    upstream = Noting()
    forwarding = Forwarding(cast(Upstream, upstream), Timeouts(10, 20), monotonic)
    deployment = Deployment("gpt-4o", "east", "http://127.0.0.1:1", "gpt-4o")
    routes = Routes([Candidate(deployment, monotonic, lambda *_: None)])
    asked, now, ann = parse(body), datetime.now(UTC), Credential("hackathon", "ann")
    call = forwarding.begin("id", now, ann, EVENT, "gpt-4o", asked, {}, body, 1, routes, monotonic())
    with pytest.raises(UpstreamError):
        await forwarding.send(call, None)
    assert upstream.urgent == [is_urgent]


class Strangers:
    """Stands for the events. Notes who asks for one; there are none."""

    def __init__(self, noted: Noted) -> None:
        self.noted = noted

    async def find(self, code: str) -> Event:
        self.noted.note(code)
        raise InvalidEventToken


@pytest.mark.parametrize(("body", "turns"), [(b'{"stream":true}', 3), (b"{}", 1)], ids=["streams", "plain"])
async def test_only_streams_that_are_asked_for_together_begin_in_turns_of_their_own(
    body: bytes, turns: int
) -> None:
    """Else the chunks of those under way would wait for all of them."""

    async def call(code: str) -> None:
        with pytest.raises(InvalidEventToken):
            await proxy.chat({b"api-key": f"{code}/ann".encode()}, body, None, 0.0)

    noted, never = Noted(), cast(Any, None)
    events = cast(Events, Strangers(noted))
    proxy = Proxy(events, never, never, never, never, never, never, 1, partial(datetime.now, UTC))
    await asyncio.gather(*map(call, "abc"))
    assert noted.turns(*"abc") == turns


class Account:
    """Stands for azure-data-tables' clients. Notes the rows that are asked for; there are none."""

    def __init__(self, noted: Noted) -> None:
        self.noted = noted

    def get_table_client(self, _: str) -> "Account":
        return self

    async def get_entity(self, _: str, row: str) -> None:
        self.noted.note(row)
        raise ResourceNotFoundError


async def test_table_calls_that_come_together_begin_in_turns_of_their_own() -> None:
    """Each takes azure-data-tables some tenths of a millisecond, in which no stream goes on."""
    noted = Noted()
    tables = Tables(cast(TableServiceClient, Account(noted)))
    await asyncio.gather(*(tables.read(Key("hackathon", row)) for row in "abc"))
    assert noted.turns(*"abc") == 3
