"""Finding the event of a credential. Unknown codes cost little, and never cost a known event its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from shared.core.errors import InvalidEventToken, RateLimited, StoreUnavailable
from shared.core.models import Event
from shared.events.guesses import MOST_KEPT, MOST_WAITING, READS_PER_SECOND, SCAN_SECONDS
from shared.events.lookup import LATEST_AT_ONCE, UNKNOWN_SHARE, Events
from tests.clock import Clock
from tests.conftest import EVENT

SECONDS = 30.0


class Table:
    """The table `events` in memory. `fault` is raised instead of every answer."""

    def __init__(self, *codes: str) -> None:
        self.events = {code: replace(EVENT, code=code) for code in codes}
        self.fault: Exception | None = None
        self.reads: list[str] = []
        self.scans = 0

    async def event(self, code: str) -> Event | None:
        self.reads.append(code)
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        return self.events.get(code)

    async def add_id_secret(self, code: str) -> str | None:
        return f"secret of {code}" if code in self.events else None

    async def event_codes(self) -> frozenset[str]:
        self.scans += 1
        await asyncio.sleep(0)
        if self.fault:
            raise self.fault
        return frozenset(self.events)


@pytest.fixture
def table() -> Table:
    return Table("hackathon")


@pytest.fixture
def events(table: Table, clock: Clock) -> Events:
    """The time between scans is not that of `clock`."""
    return Events(table, SECONDS, clock, scan_seconds=0.01)


async def code_of(finding: Awaitable[Event]) -> str:
    """The code of the event, or of the refusal."""
    try:
        return (await finding).code
    except (InvalidEventToken, RateLimited, StoreUnavailable) as error:
        return error.code


async def guess(events: Events, number: int, prefix: str = "guess") -> list[str]:
    return await asyncio.gather(*(code_of(events.find(f"{prefix}-{n}")) for n in range(number)))


async def test_closed_event_is_found(events: Events, table: Table) -> None:
    table.events["hackathon"] = replace(EVENT, active=False)
    assert (await events.find("hackathon")).active is False


async def test_many_calls_for_the_latest_event_cost_few_readings(events: Events, table: Table) -> None:
    changed = table.events["hackathon"] = replace(table.events["hackathon"], name="Changed")
    assert [await events.latest("hackathon") for _ in range(100)] == [changed] * 100
    assert len(table.reads) == LATEST_AT_ONCE


async def test_unknown_event_raises_the_error_for_a_wrong_credential(events: Events) -> None:
    with pytest.raises(InvalidEventToken):
        await events.find("unknown")


async def test_outage_does_not_raise_the_error_for_a_wrong_credential(events: Events, table: Table) -> None:
    table.fault = StoreUnavailable()
    with pytest.raises(StoreUnavailable):
        await events.find("hackathon")


async def test_each_caller_of_a_failing_read_gets_an_exception_of_its_own(
    events: Events, table: Table
) -> None:
    table.fault = StoreUnavailable()
    first, second = await asyncio.gather(
        *(events.find("hackathon") for _ in range(2)), return_exceptions=True
    )
    assert isinstance(first, StoreUnavailable) and isinstance(second, StoreUnavailable)
    assert first is not second


async def test_guesses_do_not_push_out_a_known_event(events: Events, table: Table, clock: Clock) -> None:
    await events.find("hackathon")
    for turn in range(11):
        assert set(await guess(events, 1000, f"turn-{turn}")) == {"invalid_event_token"}
        clock.seconds += 0.5
    table.fault = StoreUnavailable()
    clock.seconds += SECONDS
    assert (await events.find("hackathon")).code == "hackathon"


async def test_guesses_cost_fewer_than_five_table_reads_a_second(
    events: Events, table: Table, clock: Clock
) -> None:
    for turn in range(4):
        await guess(events, 500, f"turn-{turn}")
        clock.seconds += 1
    assert len(table.reads) == 4 * READS_PER_SECOND
    assert table.scans == 4, "all guesses that wait share one scan"


async def test_new_event_is_found_while_others_guess(events: Events, table: Table) -> None:
    await guess(events, 500)
    waiting = asyncio.create_task(guess(events, 500, "more"))
    await asyncio.sleep(0)
    table.events["new"] = replace(EVENT, code="new")
    assert (await events.find("new")).code == "new"
    assert set(await waiting) == {"invalid_event_token"}


async def test_attendees_of_a_new_event_share_one_read(events: Events, table: Table) -> None:
    found = await asyncio.gather(*(code_of(events.find("hackathon")) for _ in range(100)))
    assert set(found) == {"hackathon"}
    assert table.reads == ["hackathon"]
    assert table.scans == 0


async def test_any_number_of_new_events_is_found_without_a_scan(table: Table, clock: Clock) -> None:
    codes = [f"team-{number}" for number in range(100)]
    table.events = {code: replace(EVENT, code=code) for code in codes}
    events = Events(table, SECONDS, clock)
    assert [(await events.find(code)).code for code in codes] == codes
    assert table.scans == 0


async def test_known_event_is_refreshed_at_any_rate_while_others_guess(table: Table, clock: Clock) -> None:
    events = Events(table, 0, clock, scan_seconds=0.01)
    await events.find("hackathon")
    await guess(events, 50)
    before = table.scans
    for _ in range(50):
        await events.find("hackathon")
    assert table.scans == before
    assert table.reads.count("hackathon") == 51


async def test_wrong_code_is_read_again_after_a_while(events: Events, table: Table, clock: Clock) -> None:
    for _ in range(3):
        assert await code_of(events.find("late")) == "invalid_event_token"
    assert table.reads == ["late"]
    table.events["late"] = replace(EVENT, code="late")
    clock.seconds += SECONDS * UNKNOWN_SHARE
    assert await code_of(events.find("late")) == "late"


async def test_deleted_event_is_no_longer_known(events: Events, table: Table, clock: Clock) -> None:
    await events.find("hackathon")
    del table.events["hackathon"]
    clock.seconds += SECONDS
    assert await code_of(events.find("hackathon")) == "invalid_event_token"
    assert not events.knows("hackathon")


async def test_guesses_need_little_memory(events: Events, clock: Clock) -> None:
    for turn in range(4):
        await guess(events, 1000, f"turn-{turn}")
    assert len(events._guesses._unknown_until) == MOST_KEPT
    assert not events._events._entries and not events._events._loading


async def test_number_of_guesses_that_wait_is_limited(events: Events, table: Table) -> None:
    found = await guess(events, READS_PER_SECOND + MOST_WAITING + 10)
    assert found.count("rate_limited") == 10
    assert table.scans == 1


async def test_a_scan_waits_until_the_last_one_is_old_enough(table: Table, clock: Clock) -> None:
    events = Events(table, SECONDS, clock, scan_seconds=3600)
    await guess(events, READS_PER_SECOND + 1)
    waiting = asyncio.create_task(guess(events, 1, "more"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert table.scans == 1 and not waiting.done()
    waiting.cancel()


async def test_guesses_during_an_outage_end_in_503(events: Events, table: Table) -> None:
    table.fault = StoreUnavailable()
    assert set(await guess(events, 50)) == {"store_unavailable"}


async def test_guess_that_is_cancelled_does_not_cancel_the_scan_of_the_others(
    events: Events, table: Table
) -> None:
    await guess(events, READS_PER_SECOND)
    first = asyncio.create_task(events.find("first"))
    await asyncio.sleep(0)
    second = asyncio.create_task(events.find("hackathon"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).code == "hackathon"
    assert table.scans == 1


def test_reads_and_scans_together_are_fewer_than_five_a_second() -> None:
    assert READS_PER_SECOND + 1 / SCAN_SECONDS < 5
