"""Usage through the whole app. It equals the usage that the model reports, and the charge of the quota."""

from __future__ import annotations

import asyncio
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

from shared.core.counts import Counts, UsageRow
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key
from shared.tables.service import open_service
from tests.clock import until
from tests.conftest import EVENT, QUESTION, Stage, serve
from tests.quota.test_quota_processes import process
from tests.responses import WireResponse, response_of
from tests.seeded_tables import Tables
from tests.wire import Peer, scripted_upstream
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
from tools.tap import TableTap

_log = logging.getLogger(__name__)

STREAM: dict[str, Any] = {"stream": True}
WORDS = Answer("One two three four five.")
LIMITS: dict[str, Any] = {"requests_per_day": 1000, "tokens_per_day": 1_000_000}


@dataclass(frozen=True)
class MeteredEvent:
    """An event with its own model, its attendees, and the rows that an organiser reads."""

    stage: Stage
    code: str
    model: str

    async def chat(self, user: str = "amy", *, url: str | None = None, **body: object) -> WireResponse:
        call = self.stage.http.post(
            f"{url or self.stage.url}/v1/chat/completions",
            headers={"api-key": f"{self.code}/{user}"},
            json=QUESTION | body,
        )
        return await response_of(call)

    def behave(self, behaviour: Behaviour) -> None:
        self.stage.simulator.always(self.model, behaviour)

    @property
    def reported(self) -> Counts:
        """The usage that the model reported."""
        total = self.stage.simulator.total(self.model)
        return Counts(total.calls, total.prompt_tokens, total.completion_tokens)

    @property
    def amys_quota(self) -> Key:
        """The key of her row of today."""
        return Key(self.code, f"amy:{datetime.now(UTC).date().isoformat()}")

    async def rows_when(self, is_reached: Callable[[Counts], bool]) -> list[UsageRow]:
        """The rows, as soon as their sum is reached. Fails after about 20 seconds."""
        for _ in range(400):
            rows = await self.stage.tables.usage(self.code)
            if is_reached(total(rows)):
                return rows
            await asyncio.sleep(0.05)
        raise AssertionError(rows)

    async def agreed(self, requests: int) -> Counts:
        """The counts of amy's requests, as soon as her quota was charged the same."""
        counts = total(await self.rows_when(lambda counts: counts.requests == requests))
        charged = Amount(requests, counts.prompt_tokens + counts.completion_tokens)
        for _ in range(400):
            row = await self.stage.tables.read_ledger(self.amys_quota)
            if row.granted == row.used == charged:
                return counts
            await asyncio.sleep(0.05)
        raise AssertionError((counts, row))


def total(rows: list[UsageRow]) -> Counts:
    return reduce(Counts.plus, (row.counts for row in rows), Counts())


@pytest.fixture(scope="module")
async def own(running: Stage) -> AsyncIterator[Stage]:
    """An instance that returns unused quota quickly, so that the quota's rows show the usage."""
    async with running.instance(PROXY_QUOTA_IDLE_SECONDS="0.1", PROXY_UPSTREAM_TIMEOUT_SECONDS="3") as stage:
        yield stage


async def open_event(stage: Stage, family: str = "gpt-4o", **changes: Any) -> MeteredEvent:
    model = await stage.add_deployment(family)
    fields: dict[str, object] = {"models": (model, "gpt-4o"), "default_model": model}
    return MeteredEvent(stage, await stage.add_event(**(fields | changes)), model)


@pytest.fixture
async def metered(own: Stage, stage: Stage) -> MeteredEvent:
    """`stage` resets the shared simulator."""
    return await open_event(own, **LIMITS)


def names(value: object) -> str:
    return type(value).__name__


# ---- forwarded calls


async def test_plain_and_streamed_calls_count_the_reported_usage(metered: MeteredEvent) -> None:
    bodies: list[dict[str, Any]] = [
        {},
        STREAM,
        STREAM | {"stream_options": {"include_usage": True}},
        {"n": 2},
    ]
    for body in bodies:
        assert (await metered.chat(**body)).status == 200
    assert await metered.agreed(4) == metered.reported
    assert min(metered.reported[:3]) > 0


async def test_each_user_and_model_has_a_row_for_the_hour(metered: MeteredEvent) -> None:
    started = datetime.now(UTC)
    for user, model in (("amy", metered.model), ("amy", metered.model), ("amy", "gpt-4o"), ("bob", "gpt-4o")):
        assert (await metered.chat(user, model=model)).status == 200
    rows = await metered.rows_when(lambda counts: counts.requests == 4)
    hours = {at.replace(minute=0, second=0, microsecond=0) for at in (started, datetime.now(UTC))}
    assert {row.hour for row in rows} <= hours
    requests: Counter[tuple[str, str]] = Counter()
    for row in rows:
        requests[row.user, row.model] += row.counts.requests
    assert requests == {("amy", metered.model): 2, ("amy", "gpt-4o"): 1, ("bob", "gpt-4o"): 1}


@pytest.mark.parametrize("behaviour", [CutStream(after=5), StreamError(after=5)], ids=names)
async def test_a_cut_stream_is_a_request_and_an_error(metered: MeteredEvent, behaviour: Behaviour) -> None:
    metered.behave(behaviour)
    assert (await metered.chat(**STREAM)).status == 200
    counts = await metered.agreed(1)
    assert min(counts.prompt_tokens, counts.completion_tokens) > 0
    assert (counts.refusals, counts.errors) == (0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_whose_client_disconnects_before_the_first_byte_counts_as_the_model_reports_it(
    metered: MeteredEvent, stream: bool
) -> None:
    gate = metered.stage.simulator.gate(metered.model, WORDS)
    call = asyncio.create_task(metered.chat(stream=stream))
    await gate.arrived()
    call.cancel()
    await asyncio.sleep(0.2)  # the proxy notices it
    gate.open_all()
    counts = await metered.agreed(1)
    assert counts == metered.reported


@pytest.mark.parametrize(
    ("first", "requests"),
    [(RateLimited(), 0), (Failure(500), 0), (Failure(401), 0), (ResetBeforeHeaders(), 1), (Garbage(), 1)],
    ids=["busy", "failed", "refused", "reset", "garbage"],
)
async def test_a_call_whose_client_disconnects_between_tries_counts_if_the_first_used_tokens(
    stage: Stage, first: Behaviour, requests: int
) -> None:
    metered = await open_event(stage, **LIMITS)
    metered.behave(first)
    async with scripted_upstream(Peer.until_closed) as silent:
        endpoint = f"https://127.0.0.1:{silent.port}"  # its handshake never ends
        await metered.stage.add_deployment(model=metered.model, priority=2, endpoint=endpoint)
        call = asyncio.create_task(metered.chat())
        await silent.until(lambda wire: wire.connections)
        call.cancel()
        await silent.all_closed()
    event = (await metered.stage.get("/v1/event", metered.code, "amy")).json
    assert event["requests"]["used"] == requests
    assert (event["tokens"]["used"] > 0) == bool(requests)


async def leave_stream(metered: MeteredEvent) -> Counts:
    """Read four events of a stream, then disconnect. Returns what is counted."""
    gate = metered.stage.simulator.gate(metered.model, WORDS)
    gate.open(4)
    async with aiohttp.ClientSession() as http:
        response = await http.post(
            f"{metered.stage.url}/v1/chat/completions",
            headers={"api-key": f"{metered.code}/amy"},
            json=QUESTION | STREAM,
        )
        for _ in range(4):
            await response.content.readuntil(b"\n\n")
        response.close()
    await metered.stage.simulator.until(lambda calls: calls[-1].left, seconds=20)
    return await metered.agreed(1)


async def test_a_stream_whose_client_disconnects_counts_what_was_relayed(metered: MeteredEvent) -> None:
    counts = await leave_stream(metered)
    assert counts.prompt_tokens > 0
    assert 4 <= counts.completion_tokens <= 60, "each byte of the output, and of the first chunk"
    assert (counts.refusals, counts.errors) == (0, 0)


async def test_a_stream_of_a_model_that_reasons_counts_its_whole_limit_if_its_client_disconnects(
    own: Stage, stage: Stage
) -> None:
    metered = await open_event(own, "o3", **LIMITS, max_output_tokens=500)
    assert (await leave_stream(metered)).completion_tokens == 500


async def test_a_stream_of_a_model_that_reasons_is_read_on_for_its_usage(own: Stage, stage: Stage) -> None:
    metered = await open_event(own, "o3", **LIMITS)
    gate = stage.simulator.gate(metered.model, WORDS)
    call = asyncio.create_task(metered.chat(**STREAM))
    gate.open(3)
    await gate.reached(3)
    call.cancel()
    await asyncio.sleep(0.2)  # the proxy notices it
    gate.open_all()
    assert await metered.agreed(1) == metered.reported


@pytest.mark.parametrize("behaviour", [FilteredPrompt(), TooLong()], ids=names)
async def test_a_request_that_the_model_rejects_counts_without_tokens(
    metered: MeteredEvent, behaviour: Behaviour
) -> None:
    metered.behave(behaviour)
    assert (await metered.chat()).status == 400
    assert await metered.agreed(1) == Counts(requests=1)


async def test_rows_of_two_instances_add_up_to_the_reported_usage(
    metered: MeteredEvent, stage: Stage
) -> None:
    async with stage.instance() as other:
        calls = [
            metered.chat(user, url=url, stream=stream)
            for url in (metered.stage.url, other.url)
            for user in ("amy", "bob")
            for stream in (False, True)
            for _ in range(5)
        ]
        assert {response.status for response in await asyncio.gather(*calls)} == {200}
        rows = await metered.rows_when(lambda counts: counts.requests == 40)
    assert total(rows) == metered.reported
    assert Counter(row.user for row in rows)["amy"] >= 2


# ---- failed calls


async def test_the_proxys_refusals_count_for_their_user_and_known_model(own: Stage, stage: Stage) -> None:
    metered = await open_event(own, max_output_tokens=100)
    limited = await open_event(own, requests_per_day=0)
    hasty = await open_event(own, requests_per_minute=1)
    closed = await open_event(own, active=False)
    over = await open_event(own, ends_at=EVENT.starts_at)
    soon = await open_event(own, starts_at=EVENT.ends_at, ends_at=EVENT.ends_at + timedelta(days=1))
    for one, body, status, model in (
        (metered, {"model": "no-such"}, 404, ""),
        (metered, {"stream": "yes"}, 400, ""),
        (metered, {"n": 101}, 400, ""),
        (limited, {}, 429, limited.model),
        (closed, {}, 403, ""),
        (over, {}, 403, ""),
        (soon, {}, 403, ""),
    ):
        before = total(await own.tables.usage(one.code)).refusals
        # After this call the instance knows the event, so refusals before the lookup count too.
        await own.get("/v1/event", one.code, "amy")
        assert (await one.chat(**body)).status == status
        rows = await one.rows_when(lambda counts, now=before + 1: counts.refusals == now)  # type: ignore[misc]
        assert {(row.user, row.model) for row in rows} == {("amy", model)}
        assert total(rows) == Counts(refusals=before + 1)
    assert [(await hasty.chat()).status for _ in range(3)] == [200, 429, 429]
    counts = total(await hasty.rows_when(lambda counts: counts.refusals == 2))
    assert counts == hasty.reported._replace(refusals=2)


@pytest.mark.parametrize(("body", "status"), [(b"{not json", 400), (b" " * 8_000_000, 413)])
async def test_a_refused_body_counts(metered: MeteredEvent, body: bytes, status: int) -> None:
    async def post(code: str) -> int:
        call = metered.stage.post(headers={"api-key": f"{code}/amy"}, data=BytesIO(body))
        return (await response_of(call)).status

    unknown = f"no-{metered.code}"
    assert await post(unknown) == 401
    assert (await metered.chat()).status == 200
    assert await post(metered.code) == status
    counts = total(await metered.rows_when(lambda counts: counts.refusals == 1))
    assert counts == metered.reported._replace(refusals=1)
    assert await metered.stage.tables.usage(unknown) == []


async def test_a_401_is_not_counted(metered: MeteredEvent) -> None:
    unknown = f"no-{metered.code}"
    for credential in (f"{unknown}/amy", metered.code, "/amy", ""):
        response = await response_of(metered.stage.post(headers={"api-key": credential}))
        assert response.status == 401
    assert (await metered.chat()).status == 200
    await metered.rows_when(lambda counts: counts.requests == 1)  # by now, the 401s would be written too
    assert await metered.stage.tables.usage(unknown) == []
    assert total(await metered.stage.tables.usage(metered.code)) == metered.reported


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
async def test_a_failure_of_the_upstream_is_an_error_and_not_a_request(
    metered: MeteredEvent, behaviour: Behaviour, status: int
) -> None:
    metered.behave(behaviour)
    assert (await metered.chat()).status == status
    (row,) = await metered.rows_when(lambda counts: counts.errors > 0)
    assert (row.user, row.model, row.counts) == ("amy", metered.model, Counts(errors=1))
    assert (await metered.stage.tables.read_ledger(metered.amys_quota)).used == Amount()


async def test_a_call_that_takes_the_model_too_long_is_charged_because_the_model_works_on_it(
    metered: MeteredEvent,
) -> None:
    """No other call shows whether the deployment works."""
    metered.stage.simulator.gate(metered.model, calls=None)
    for _ in range(2):
        assert (await metered.chat(max_tokens=50)).status == 504
    counts = total(await metered.rows_when(lambda counts: counts.errors == 2))
    assert (counts.requests, counts.errors, counts.completion_tokens) == (2, 2, 100)
    assert counts.prompt_tokens > 0


# ---- the tables


async def test_calls_during_an_outage_are_written_after_it(
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
            metered = await open_event(stage)
            assert (await metered.chat()).status == 200
            await metered.rows_when(lambda counts: counts.requests == 1)
            azurite.stop()
            for number in range(10):
                response = await metered.chat(f"user-{number}", stream=number % 2 == 0)
                assert response.status == 200
            await until(lambda: "usage will be written later" in caplog.text)
            azurite.start()
            rows = await metered.rows_when(lambda counts: counts.requests == 11)
        assert total(rows) == metered.reported
        await tables.close()


async def test_a_call_does_not_wait_for_a_write_of_usage(azurite: Azurite, stage: Stage) -> None:
    async with TableTap(target=azurite.port).open() as tap:
        settings = {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "600"}
        async with stage.instance(**settings) as instance:
            metered = await open_event(instance)
            assert (await metered.chat()).status == 200
            tap.passing.clear()
            await until(lambda: tap.reads_of("$batch") > 0)
            statuses = [(await metered.chat(stream=stream)).status for stream in (False, True)]
            assert statuses == [200, 200] and not tap.passing.is_set()
            tap.passing.set()
            rows = await metered.rows_when(lambda counts: counts.requests == 3)
    assert total(rows) == metered.reported


async def test_an_instance_that_closes_writes_its_last_counts(stage: Stage) -> None:
    async with stage.instance(PROXY_USAGE_FLUSH_SECONDS="600") as instance:
        metered = await open_event(instance)
        assert (await metered.chat()).status == 200
        assert await stage.tables.usage(metered.code) == []
    assert total(await stage.tables.usage(metered.code)) == metered.reported


async def test_a_killed_process_loses_only_unwritten_counts(
    stage: Stage, environment: dict[str, str]
) -> None:
    metered = await open_event(stage)
    async with process(environment | {"PROXY_USAGE_FLUSH_SECONDS": "2"}, "the victim") as (child, url):
        for _ in range(5):
            assert (await metered.chat(url=url)).status == 200
        await metered.rows_when(lambda counts: counts.requests == 5)
        for _ in range(3):
            assert (await metered.chat(url=url)).status == 200
        child.kill()
    requests = total(await stage.tables.usage(metered.code)).requests
    assert 5 <= requests <= 8
    _log.info("the kill lost %s of 8 requests", 8 - requests)


async def test_steady_load_needs_few_table_calls(azurite: Azurite, stage: Stage) -> None:
    async with TableTap(target=azurite.port).open() as tap:
        settings = {
            "PROXY_TABLES": tap.connection_string,
            "PROXY_CACHE_SECONDS": "60",
            "PROXY_USAGE_FLUSH_SECONDS": "2",
        }
        async with stage.instance(**settings) as instance:
            metered = await open_event(instance, requests_per_day=10_000, tokens_per_day=10_000_000)

            async def client(number: int) -> list[int]:
                return [(await metered.chat(f"user-{number}")).status for _ in range(100)]

            began = asyncio.get_running_loop().time()
            batches = await asyncio.gather(*map(client, range(8)))
            seconds = asyncio.get_running_loop().time() - began
            await metered.rows_when(lambda counts: counts.requests == 800)
            calls, written = len(tap.requests), tap.reads_of("$batch")
    assert Counter(status for batch in batches for status in batch) == {200: 800}
    # The longer it takes, the more grants and writes it needs: at most one for each client and second.
    assert 1 <= written <= calls <= 0.1 * 800 + 8 * seconds
    _log.info("%.4f table calls for each request; %d writes of usage in all", calls / 800, written)
