"""Tables that accept requests and never answer: new attendees get a quick 503, known ones are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from shared.events.guesses import READS_PER_SECOND
from shared.quota.amounts import Amount
from shared.quota.ledger_row import LedgerRow
from shared.tables.service import open_service
from tests.conftest import EVENT, MODEL, Stage, serve
from tests.quota.helpers import row_key
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.tap import TableTap

pytestmark = pytest.mark.one_python

LONGEST_WAIT_SECONDS = 5.0


@asynccontextmanager
async def stage_with_tap(stage: Stage, azurite: Azurite) -> AsyncIterator[tuple[Stage, TableTap]]:
    """An instance whose cached rows are always stale."""
    tap = TableTap(target=azurite.port)
    async with tap.open(), stage.instance(PROXY_TABLES=tap.connection_string) as own:
        yield own, tap
        tap.passing.set()


async def test_only_what_needs_the_tables_waits_for_them_and_never_long(
    stage: Stage, azurite: Azurite
) -> None:
    code = await stage.add_event(requests_per_day=1000)
    paths = ("/v1/event", "/v1/models", f"/v1/models/{MODEL}")
    async with stage_with_tap(stage, azurite) as (own, tap):
        assert (await own.chat(code, "amy")).status == 200
        tap.passing.clear()
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            served, refused, *others = await asyncio.gather(
                own.chat(code, "amy"), own.chat(code, "bob"), *(own.get(path, code, "bob") for path in paths)
            )
    assert served.status == 200, "served from what this instance has in hand"
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert [response.status for response in others] == [503, 200, 200]


async def test_attendee_of_an_event_that_is_new_to_the_instance_waits_no_longer(
    stage: Stage, azurite: Azurite
) -> None:
    """Even among guesses, which wait for a scan."""
    code = await stage.add_event()
    async with stage_with_tap(stage, azurite) as (own, tap):
        tap.passing.clear()
        async with asyncio.timeout(LONGEST_WAIT_SECONDS):
            guesses = [own.chat(f"guess-{number}") for number in range(2 * READS_PER_SECOND)]
            responses = await asyncio.gather(*guesses, own.chat(code))
        assert {response.status for response in responses} == {503}


async def test_new_attendee_waits_for_a_grant_while_the_cached_rows_are_fresh(
    stage: Stage, azurite: Azurite
) -> None:
    code = await stage.add_event(requests_per_day=1000, requests_total=1000)
    async with TableTap(target=azurite.port).open() as tap:
        settings = {"PROXY_TABLES": tap.connection_string, "PROXY_CACHE_SECONDS": "600"}
        async with stage.instance(**settings) as own:
            assert (await own.chat(code, "amy")).status == 200
            tap.passing.clear()
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                assert (await own.chat(code, "bob")).status == 503
                assert (await own.chat(code, "amy")).status == 200
            tap.passing.set()


async def test_attendees_who_wait_for_the_same_failing_read_get_their_own_figures(stage: Stage) -> None:
    with Azurite(None) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        await tables.create_tables()
        await tables.put_event(replace(EVENT, requests_per_day=10))
        for user, used in (("amy", 3), ("bob", 7)):
            row = LedgerRow(Amount(used, 0), Amount(used, 0))
            await tables.write_ledger(row_key(EVENT.code, user), row)
        await tables._service.delete_table("deployments")
        environment = stage.environment | {"PROXY_TABLES": azurite.connection_string}
        async with serve(tables, stage.simulator, environment) as own:
            users = ["amy", "bob"] * 5
            responses = await asyncio.gather(*(own.get("/v1/models", user=user) for user in users))
        await tables.close()
    assert {response.status for response in responses} == {503}
    remaining = [response.headers["x-ratelimit-remaining-requests"] for response in responses]
    assert remaining == ["7", "3"] * 5
