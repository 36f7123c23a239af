"""The usage that an organiser sees: through the app, it is what the model reported and what the quota charged."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.core.models import Counts, UsageRow
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key
from shared.tables.service import open_service
from tests.conftest import EVENT, QUESTION, Answered, Stage, TableTap, answered, serve
from tests.quota.test_quota_processes import process
from tests.seeded_tables import Tables
from tests.wire import Peer, speaking
from tools.azurite import Azurite
from tools.simulator import (
    Answer,
    Behaviour,
    CutBody,
    CutStream,
    Failure,
    FilteredPrompt,
    Garbage,
    RateLimited,
    ResetBeforeHeaders,
    Simulator,
    StreamError,
    TooLong,
)

_log = logging.getLogger(__name__)

STREAM: dict[str, Any] = {"stream": True}
WORDS = Answer("One two three four five.")
LIMITS = {"requests_per_day": 1000, "tokens_per_day": 1_000_000}


@dataclass(frozen=True)
class Desk:
    """An event with a model of its own, its attendees, and the organiser who looks at the rows."""

    stage: Stage
    code: str
    model: str

    async def ask(self, user: str = "amy", *, url: str | None = None, **body: object) -> Answered:
        call = self.stage.http.post(
            f"{url or self.stage.url}/v1/chat/completions",
            headers={"api-key": f"{self.code}/{user}"},
            json=QUESTION | body,
        )
        return await answered(call)

    def behave(self, behaviour: Behaviour) -> None:
        self.stage.simulator.always(self.model, behaviour)

    @property
    def reported(self) -> Counts:
        """What the model told of its calls."""
        told = self.stage.simulator.total(self.model)
        return Counts(told.calls, told.prompt_tokens, told.completion_tokens)

    async def rows_when(self, true: Callable[[Counts], bool]) -> list[UsageRow]:
        """The rows, as soon as it is so of their sum: within a bounded number of looks."""
        for _ in range(400):
            rows = await self.stage.tables.usage(self.code)
            if true(total(rows)):
                return rows
            await asyncio.sleep(0.05)
        raise AssertionError(rows)

    async def agreed(self, requests: int) -> Counts:
        """The counts of so many requests of amy's, which are what her quota was charged."""
        counts = total(await self.rows_when(lambda counts: counts.requests == requests))
        charged = Amount(requests, counts.prompt_tokens + counts.completion_tokens)
        key = Key(self.code, f"amy:{datetime.now(UTC).date().isoformat()}")
        for _ in range(400):
            row = await self.stage.tables.read(key)
            if row.granted == row.used == charged:
                return counts
            await asyncio.sleep(0.05)
        raise AssertionError((counts, row))


async def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError


def total(rows: list[UsageRow]) -> Counts:
    return reduce(Counts.plus, (row.counts for row in rows), Counts())


@pytest.fixture(scope="module")
async def own(running: Stage, environment: dict[str, str]) -> AsyncIterator[Stage]:
    """An instance that gives back soon, so that the rows of the quota are what was used."""
    settings = environment | {"PROXY_QUOTA_IDLE_SECONDS": "0.1", "PROXY_UPSTREAM_TIMEOUT_SECONDS": "1"}
    async with serve(running.tables, running.simulator, settings) as stage:
        yield stage


async def open_desk(stage: Stage, **changes: object) -> Desk:
    model = await stage.add_deployment()
    fields: dict[str, object] = {"models": (model, "gpt-4o"), "default_model": model}
    return Desk(stage, await stage.add_event(**(fields | changes)), model)


@pytest.fixture
async def desk(own: Stage, stage: Stage) -> Desk:
    """`stage` leaves nothing of the test before in the simulator that all share."""
    return await open_desk(own, **LIMITS)


def names(value: object) -> str:
    return type(value).__name__


# ---- calls that were forwarded


async def test_plain_and_streamed_calls_count_as_the_model_reported(desk: Desk) -> None:
    bodies: list[dict[str, Any]] = [
        {},
        STREAM,
        STREAM | {"stream_options": {"include_usage": True}},
        {"n": 2},
    ]
    for body in bodies:
        assert (await desk.ask(**body)).status == 200
    assert await desk.agreed(4) == desk.reported
    assert min(desk.reported[:3]) > 0


async def test_each_user_and_model_has_a_row_of_its_own_for_the_hour(desk: Desk) -> None:
    begun = datetime.now(UTC)
    for user, model in (("amy", desk.model), ("amy", desk.model), ("amy", "gpt-4o"), ("bob", "gpt-4o")):
        assert (await desk.ask(user, model=model)).status == 200
    rows = await desk.rows_when(lambda counts: counts.requests == 4)
    hours = {at.replace(minute=0, second=0, microsecond=0) for at in (begun, datetime.now(UTC))}
    assert {row.hour for row in rows} <= hours
    requests: Counter[tuple[str, str]] = Counter()
    for row in rows:
        requests[row.user, row.model] += row.counts.requests
    assert requests == {("amy", desk.model): 2, ("amy", "gpt-4o"): 1, ("bob", "gpt-4o"): 1}


@pytest.mark.parametrize("behaviour", [CutStream(after=5), StreamError(after=5)], ids=names)
async def test_a_stream_that_was_cut_is_a_request_and_an_error(desk: Desk, behaviour: Behaviour) -> None:
    desk.behave(behaviour)
    assert (await desk.ask(**STREAM)).status == 200
    counts = await desk.agreed(1)
    assert min(counts.prompt_tokens, counts.completion_tokens) > 0
    assert (counts.refusals, counts.errors) == (0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_its_client_left_before_the_first_byte_counts_with_its_prompt(
    desk: Desk, stream: bool
) -> None:
    gate = desk.stage.simulator.gate(desk.model, WORDS)
    call = asyncio.create_task(desk.ask(stream=stream))
    await gate.arrived()
    call.cancel()
    await desk.stage.simulator.until(lambda calls: calls[-1].left)
    counts = await desk.agreed(1)
    assert counts.prompt_tokens > 0
    assert counts == Counts(1, counts.prompt_tokens)


@pytest.mark.parametrize(
    ("first", "requests"),
    [(RateLimited(), 0), (Failure(500), 0), (Failure(401), 0), (ResetBeforeHeaders(), 1), (Garbage(), 1)],
    ids=["busy", "failed", "refused", "reset", "garbage"],
)
async def test_a_call_that_its_client_left_between_two_tries_counts_where_the_first_may_have_worked_on_it(
    stage: Stage, first: Behaviour, requests: int
) -> None:
    desk = await open_desk(stage, **LIMITS)
    desk.behave(first)
    async with speaking(Peer.left) as silent:
        endpoint = f"https://127.0.0.1:{silent.port}"  # its handshake never ends
        await desk.stage.add_deployment(model=desk.model, priority=2, endpoint=endpoint)
        call = asyncio.create_task(desk.ask())
        await silent.until(lambda wire: wire.connections)
        call.cancel()
        await silent.all_closed()
    headers = {"api-key": f"{desk.code}/amy"}
    event = await answered(desk.stage.http.get(f"{desk.stage.url}/v1/event", headers=headers))
    assert json.loads(event.body)["requests"]["used"] == requests
    assert (json.loads(event.body)["tokens"]["used"] > 0) == bool(requests)


async def test_a_stream_that_its_client_left_counts_with_what_was_relayed(desk: Desk) -> None:
    gate = desk.stage.simulator.gate(desk.model, WORDS)
    gate.open(4)
    async with aiohttp.ClientSession() as http:
        response = await http.post(
            f"{desk.stage.url}/v1/chat/completions",
            headers={"api-key": f"{desk.code}/amy"},
            json=QUESTION | STREAM,
        )
        for _ in range(4):
            await response.content.readuntil(b"\n\n")
        response.close()
    await desk.stage.simulator.until(lambda calls: calls[-1].left)
    counts = await desk.agreed(1)
    assert counts.prompt_tokens > 0 and 1 <= counts.completion_tokens <= 4
    assert (counts.refusals, counts.errors) == (0, 0)


@pytest.mark.parametrize("behaviour", [FilteredPrompt(), TooLong()], ids=names)
async def test_what_the_model_refused_as_wrong_is_a_request_without_tokens(
    desk: Desk, behaviour: Behaviour
) -> None:
    desk.behave(behaviour)
    assert (await desk.ask()).status == 400
    assert await desk.agreed(1) == Counts(requests=1)


async def test_two_instances_write_rows_of_their_own_and_the_sum_is_the_models(
    desk: Desk, environment: dict[str, str]
) -> None:
    async with serve(desk.stage.tables, desk.stage.simulator, environment) as other:
        asked = [
            desk.ask(user, url=url, stream=stream)
            for url in (desk.stage.url, other.url)
            for user in ("amy", "bob")
            for stream in (False, True)
            for _ in range(5)
        ]
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
        rows = await desk.rows_when(lambda counts: counts.requests == 40)
    assert total(rows) == desk.reported
    assert Counter(row.user for row in rows)["amy"] >= 2


# ---- calls that got no answer


async def test_refusals_of_ours_count_with_their_user_and_with_the_model_where_it_is_known(
    own: Stage, stage: Stage
) -> None:
    desk = await open_desk(own, max_output_tokens=100)
    limited = await open_desk(own, requests_per_day=0)
    hasty = await open_desk(own, requests_per_minute=1)
    closed = await open_desk(own, active=False)
    over = await open_desk(own, ends_at=EVENT.starts_at)
    soon = await open_desk(own, starts_at=EVENT.ends_at, ends_at=EVENT.ends_at + timedelta(days=1))
    for one, body, status, model in (
        (desk, {"model": "no-such"}, 404, ""),
        (desk, {"stream": "yes"}, 400, ""),
        (desk, {"n": 101}, 400, ""),
        (limited, {}, 429, limited.model),
        (closed, {}, 403, ""),
        (over, {}, 403, ""),
        (soon, {}, 403, ""),
    ):
        before = total(await own.tables.usage(one.code)).refusals
        # The event is known from its first call on, also to what is refused before it is looked up.
        await answered(own.http.get(f"{own.url}/v1/event", headers={"api-key": f"{one.code}/amy"}))
        assert (await one.ask(**body)).status == status
        rows = await one.rows_when(lambda counts, now=before + 1: counts.refusals == now)  # type: ignore[misc]
        assert {(row.user, row.model) for row in rows} == {("amy", model)}
        assert total(rows) == Counts(refusals=before + 1)
    assert [(await hasty.ask()).status for _ in range(3)] == [200, 429, 429]
    counts = total(await hasty.rows_when(lambda counts: counts.refusals == 2))
    assert counts == hasty.reported._replace(refusals=2)


@pytest.mark.parametrize(("body", "status"), [(b"{not json", 400), (b" " * 8_000_000, 413)])
async def test_a_body_that_is_refused_counts_where_the_event_is_known(
    desk: Desk, body: bytes, status: int
) -> None:
    async def post(code: str) -> int:
        call = desk.stage.post(headers={"api-key": f"{code}/amy"}, data=BytesIO(body))
        return (await answered(call)).status

    unknown = f"no-{desk.code}"
    assert await post(unknown) == status
    assert (await desk.ask()).status == 200
    assert await post(desk.code) == status
    counts = total(await desk.rows_when(lambda counts: counts.refusals == 1))
    assert counts == desk.reported._replace(refusals=1)
    assert await desk.stage.tables.usage(unknown) == []


async def test_a_401_is_nobodys(desk: Desk) -> None:
    unknown = f"no-{desk.code}"
    for credential in (f"{unknown}/amy", desk.code, "/amy", ""):
        got = await answered(desk.stage.post(headers={"api-key": credential}))
        assert got.status == 401
    assert (await desk.ask()).status == 200
    await desk.rows_when(lambda counts: counts.requests == 1)  # by now those would be written too
    assert await desk.stage.tables.usage(unknown) == []
    assert total(await desk.stage.tables.usage(desk.code)) == desk.reported


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (Failure(500), 502),
        (Failure(401), 502),
        (RateLimited(retry_after=1), 429),
        (ResetBeforeHeaders(), 502),
        (CutBody(), 502),
        (Garbage(), 502),
    ],
    ids=names,
)
async def test_what_the_upstream_failed_at_is_an_error_and_no_request(
    desk: Desk, behaviour: Behaviour, status: int
) -> None:
    desk.behave(behaviour)
    assert (await desk.ask()).status == status
    (row,) = await desk.rows_when(lambda counts: counts.errors > 0)
    assert (row.user, row.model, row.counts) == ("amy", desk.model, Counts(errors=1))
    assert (await desk.stage.tables.read(_today(desk))).used == Amount()


def _today(desk: Desk) -> Key:
    return Key(desk.code, f"amy:{datetime.now(UTC).date().isoformat()}")


async def test_a_model_that_takes_too_long_is_an_error(desk: Desk) -> None:
    desk.stage.simulator.gate(desk.model, calls=None)
    assert (await desk.ask()).status == 504
    assert total(await desk.rows_when(lambda counts: counts.errors > 0)) == Counts(errors=1)


# ---- the tables


async def test_what_is_counted_while_the_tables_are_down_is_written_when_they_are_back(
    shared_simulator: Simulator,
    environment: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Azurite(tmp_path) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        await tables.create_tables()
        settings = environment | {"PROXY_TABLES": azurite.connection_string, "PROXY_CACHE_SECONDS": "600"}
        async with serve(tables, shared_simulator, settings) as stage:
            desk = await open_desk(stage)
            assert (await desk.ask()).status == 200
            await desk.rows_when(lambda counts: counts.requests == 1)
            azurite.stop()
            for number in range(10):
                answer = await desk.ask(f"user-{number}", stream=number % 2 == 0)
                assert answer.status == 200
            await until(lambda: "the usage could not be written yet" in caplog.text)
            azurite.start()
            rows = await desk.rows_when(lambda counts: counts.requests == 11)
        assert total(rows) == desk.reported
        await tables.close()


async def test_a_call_is_answered_while_a_write_of_usage_waits_for_the_tables(
    azurite: Azurite, stage: Stage, environment: dict[str, str]
) -> None:
    tap = TableTap(target=azurite.port)
    async with tap.open():
        settings = {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "600"}
        async with serve(stage.tables, stage.simulator, environment | settings) as instance:
            desk = await open_desk(instance)
            assert (await desk.ask()).status == 200
            tap.passing.clear()
            await until(lambda: tap.reads_of("$batch") > 0)
            answers = [(await desk.ask(stream=stream)).status for stream in (False, True)]
            assert answers == [200, 200] and not tap.passing.is_set()
            tap.passing.set()
            rows = await desk.rows_when(lambda counts: counts.requests == 3)
    assert total(rows) == desk.reported


async def test_what_is_counted_last_is_written_when_the_instance_closes(
    stage: Stage, environment: dict[str, str]
) -> None:
    settings = environment | {"PROXY_USAGE_FLUSH_SECONDS": "600"}
    async with serve(stage.tables, stage.simulator, settings) as instance:
        desk = await open_desk(instance)
        assert (await desk.ask()).status == 200
        assert await stage.tables.usage(desk.code) == []
    assert total(await stage.tables.usage(desk.code)) == desk.reported


async def test_a_process_that_is_killed_loses_what_it_had_not_written_at_most(
    stage: Stage, environment: dict[str, str]
) -> None:
    desk = await open_desk(stage)
    async with process(environment | {"PROXY_USAGE_FLUSH_SECONDS": "2"}, "the victim") as (child, url):
        for _ in range(5):
            assert (await desk.ask(url=url)).status == 200
        await desk.rows_when(lambda counts: counts.requests == 5)
        for _ in range(3):
            assert (await desk.ask(url=url)).status == 200
        child.kill()
    requests = total(await stage.tables.usage(desk.code)).requests
    assert 5 <= requests <= 8
    _log.info("a kill cost %s of 8 requests", 8 - requests)


async def test_a_steady_run_with_metering_costs_a_tenth_of_a_table_call_for_each_request(
    azurite: Azurite, stage: Stage, environment: dict[str, str]
) -> None:
    tap = TableTap(target=azurite.port)
    async with tap.open():
        settings = {
            "PROXY_TABLES": tap.connection_string,
            "PROXY_CACHE_SECONDS": "60",
            "PROXY_USAGE_FLUSH_SECONDS": "2",
        }
        async with serve(stage.tables, stage.simulator, environment | settings) as instance:
            desk = await open_desk(instance, requests_per_day=10_000, tokens_per_day=10_000_000)

            async def client(number: int) -> list[int]:
                return [(await desk.ask(f"user-{number}")).status for _ in range(100)]

            batches = await asyncio.gather(*map(client, range(8)))
            await desk.rows_when(lambda counts: counts.requests == 800)
            calls, written = len(tap.requests), tap.reads_of("$batch")
    assert Counter(status for batch in batches for status in batch) == {200: 800}
    assert 1 <= written <= calls <= 0.1 * 800
    _log.info("%.4f table calls for each request, %d of them for the usage", calls / 800, written)
