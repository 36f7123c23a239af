"""The tally of the usage: nothing is lost, nothing counts twice, and a call never waits for the table."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

import pytest

from tests.seeded_tables import Tables
from shared.core import errors
from shared.core.errors import ProxyError, StoreUnavailable
from shared.core.models import Counts, Credential, Usage, UsageRow
from shared.usage.tally import (
    AT_ONCE,
    DOUBT_SECONDS,
    KEPT,
    MOST_COUNTED,
    MOST_KEPT,
    OTHERS,
    PAUSE_SECONDS,
    Tally,
)
from tests.fake_ledger import Fault
from tests.usage.fake_usage import FakeUsage

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
AMY, BOB = Credential("hackathon", "amy"), Credential("hackathon", "bob")
MODEL = "gpt-4o"
_events = count(1)


class Clock:
    """Moved by hand; gives both the time and the seconds."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


@pytest.fixture
def store() -> FakeUsage:
    return FakeUsage()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tally(store: FakeUsage, clock: Clock) -> AsyncIterator[Tally]:
    """One that only writes when it is told to."""
    tally = Tally(store, 600, clock.now, clock)
    yield tally
    store.always, store.poison = Fault.NONE, None
    store.passing.set()
    await tally.close()


def call(tally: Tally, who: Credential = AMY, at: datetime = NOON, tokens: tuple[int, int] = (2, 3)) -> None:
    tally.forwarded(who, MODEL, at, Usage(*tokens))


# ---- the contract of the store, which the fake and the real one keep


@pytest.fixture(params=["fake", "real"])
async def either(request: pytest.FixtureRequest, store: FakeUsage, tables: Tables) -> FakeUsage | Tables:
    return store if request.param == "fake" else tables


async def test_a_row_written_again_takes_the_place_of_the_same_writers_only(
    either: FakeUsage | Tables,
) -> None:
    event = f"tally-{next(_events)}"
    one, two = (UsageRow(event, NOON, "amy", MODEL, Counts(requests)) for requests in (1, 2))
    await either.write_usage([one], "a")
    await either.write_usage([two], "a")
    await either.write_usage([one], "b")
    assert sorted(await either.usage(event)) == [one, two]


async def test_rows_differ_by_each_part_of_their_key(either: FakeUsage | Tables) -> None:
    event, other = f"tally-{next(_events)}", f"tally-{next(_events)}"
    base = UsageRow(event, NOON, "amy", MODEL, Counts(1))
    rows = [
        base,
        base._replace(hour=NOON + timedelta(hours=1)),
        base._replace(user="bob"),
        base._replace(user=OTHERS),
        base._replace(model=""),
        base._replace(event_code=other),
    ]
    await either.write_usage(rows, "a")
    assert sorted(await either.usage(event) + await either.usage(other)) == sorted(rows)


# ---- what is counted


async def test_a_forwarded_call_counts_with_its_tokens(store: FakeUsage, tally: Tally) -> None:
    tally.forwarded(AMY, MODEL, NOON, Usage(10, 20))
    tally.forwarded(AMY, MODEL, NOON, Usage(1, 2), is_cut=True)
    await tally.flush()
    (row,) = store.rows.values()
    assert row == UsageRow("hackathon", NOON, "amy", MODEL, Counts(2, 11, 22, 0, 1))


REFUSALS = {
    "invalid_json",
    "invalid_request",
    "event_not_started",
    "event_ended",
    "event_inactive",
    "model_not_found",
    "request_too_large",
    "request_quota_exceeded",
    "token_quota_exceeded",
    "event_quota_exceeded",
    "rate_limited",
}
ERRORS = {"upstream_busy", "upstream_error", "upstream_timeout", "internal_error", "store_unavailable"}
UNCOUNTED = {"invalid_event_token", "not_found", "method_not_allowed"}


def test_each_refusal_is_counted_as_one_kind() -> None:
    assert {kind.code for kind in errors.every_refusal()} == REFUSALS | ERRORS | UNCOUNTED


@pytest.mark.parametrize("kind", list(errors.every_refusal()), ids=lambda kind: kind.code)
async def test_a_refusal_of_ours_and_a_failure_are_told_apart(
    store: FakeUsage, tally: Tally, kind: type[ProxyError]
) -> None:
    if kind.code in UNCOUNTED:
        return
    tally.failed(AMY, MODEL, NOON, kind.__new__(kind))
    await tally.flush()
    expected = Counts(refusals=1) if kind.code in REFUSALS else Counts(errors=1)
    assert store.total() == expected


@pytest.mark.parametrize("minutes", [0, 1, 59, 60, 61, -1, -60])
async def test_a_call_counts_in_the_hour_in_which_it_began(
    store: FakeUsage, tally: Tally, minutes: int
) -> None:
    began_at = NOON + timedelta(minutes=minutes, microseconds=999_999)
    call(tally)
    call(tally, at=began_at)
    call(tally)
    await tally.flush()
    hours = {row.hour: row.counts.requests for row in store.rows.values()}
    own = began_at.replace(minute=0, second=0, microsecond=0)
    assert hours == ({NOON: 3} if own == NOON else {NOON: 2, own: 1})


# ---- when it is written


async def test_counting_alone_writes_nothing_and_starts_the_timer(store: FakeUsage, clock: Clock) -> None:
    tally = Tally(store, 600, clock.now, clock)
    assert not has_task(tally)
    for number in range(1000):
        call(tally, Credential("hackathon", f"user-{number % 10}"))
    await asyncio.sleep(0.01)
    assert store.writes == []
    assert has_task(tally)
    await tally.close()
    assert store.total().requests == 1000
    assert not has_task(tally)


async def test_what_was_counted_is_written_by_itself_and_then_no_task_is_left(
    store: FakeUsage, clock: Clock
) -> None:
    tally = Tally(store, 0.01, clock.now, clock)
    for turn in range(1, 4):
        call(tally)
        await until(lambda turn=turn: store.total().requests == turn)  # type: ignore[misc]
        await until(lambda: not has_task(tally))
    await tally.close()


def has_task(tally: Tally) -> bool:
    return tally._flushing is not None and not tally._flushing.done()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


async def test_only_rows_that_have_changed_are_written_again(store: FakeUsage, tally: Tally) -> None:
    call(tally, AMY)
    call(tally, BOB)
    await tally.flush()
    await tally.flush()
    assert len(store.writes) == 1
    call(tally, BOB)
    await tally.flush()
    ((row,), _) = store.writes[-1]
    assert (row.user, row.counts.requests) == ("bob", 2)


async def test_a_write_has_rows_of_one_event_and_no_more_than_a_few(store: FakeUsage, tally: Tally) -> None:
    for number in range(200):
        call(tally, Credential(f"event-{number % 3}", f"user-{number}"))
    await tally.flush()
    assert {len({row.event_code for row in rows}) for rows, _ in store.writes} == {1}
    assert max(len(rows) for rows, _ in store.writes) == AT_ONCE
    assert len(store.writes) == 3 * -(-67 // AT_ONCE)
    assert store.total().requests == 200


async def test_a_call_that_is_counted_while_its_row_is_written_is_written_next(
    store: FakeUsage, tally: Tally
) -> None:
    call(tally)
    store.passing.clear()
    writing = asyncio.create_task(tally.flush())
    await until(lambda: bool(store.writes))
    call(tally)
    store.passing.set()
    await writing
    assert store.total().requests == 1
    await tally.flush()
    assert store.total().requests == 2


async def test_writes_stand_apart_where_there_is_time(store: FakeUsage, tally: Tally) -> None:
    for number in range(3 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    await tally.flush(seconds=600)
    assert store.total().requests == 3 * AT_ONCE
    assert len(store.written_at) == 3
    pauses = [later - sooner for sooner, later in pairwise(store.written_at)]
    assert min(pauses) >= PAUSE_SECONDS * 0.9


async def test_the_pauses_end_in_the_time_that_there_is(store: FakeUsage, tally: Tally) -> None:
    for number in range(200 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    await tally.flush(seconds=0.1)
    assert len(store.written_at) == 200
    assert store.written_at[-1] - store.written_at[0] < 200 * PAUSE_SECONDS / 2


async def test_the_timer_writes_with_pauses(store: FakeUsage, clock: Clock) -> None:
    tally = Tally(store, 0.5, clock.now, clock)
    for number in range(3 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    await until(lambda: len(store.written_at) == 3)
    assert min(later - sooner for sooner, later in pairwise(store.written_at)) >= PAUSE_SECONDS * 0.9
    await tally.close()


async def test_what_waits_between_two_writes_is_written_on_closing(store: FakeUsage, clock: Clock) -> None:
    tally = Tally(store, 0.2, clock.now, clock)
    for number in range(9 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    await until(lambda: len(store.writes) > 1)
    await tally.close()
    assert store.total().requests == 9 * AT_ONCE


async def test_one_flush_runs_at_a_time(store: FakeUsage, tally: Tally) -> None:
    call(tally)
    store.passing.clear()
    first = asyncio.create_task(tally.flush())
    await until(lambda: len(store.writes) == 1)
    call(tally)
    second = asyncio.create_task(tally.flush())
    await asyncio.sleep(0.05)
    assert len(store.writes) == 1
    store.passing.set()
    await asyncio.gather(first, second)
    assert [rows[0].counts.requests for rows, _ in store.writes] == [1, 2]


# ---- the table in trouble


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_a_write_that_failed_is_tried_again_and_counts_once(
    store: FakeUsage, tally: Tally, fault: Fault
) -> None:
    store.faults.extend([fault] * 3)
    for turn in range(1, 5):
        call(tally)
        await tally.flush()
        assert len(store.writes) == turn
    assert store.total().requests == 4


async def test_an_outage_is_asked_about_once_for_each_flush(store: FakeUsage, tally: Tally) -> None:
    for number in range(10 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    store.always = Fault.BEFORE
    for turn in range(1, 4):
        await tally.flush()
        assert len(store.writes) == turn
    store.always = Fault.NONE
    await tally.flush()
    assert store.total().requests == 10 * AT_ONCE


async def test_a_write_that_arrives_late_does_not_undo_a_newer_one_for_long(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    call(tally)
    store.faults.append(Fault.LATE)
    await tally.flush()
    call(tally)
    await tally.flush()
    store.deliver()
    assert store.total().requests == 1, "so it is, for a while"
    clock.seconds += DOUBT_SECONDS
    await tally.flush()
    assert store.total().requests == 2
    writes = len(store.writes)
    clock.seconds += 10 * DOUBT_SECONDS
    await tally.flush()
    assert len(store.writes) == writes, "once is enough"


async def test_a_row_that_is_never_taken_does_not_keep_the_others_from_being_written(
    store: FakeUsage, tally: Tally
) -> None:
    store.poison = "mallory"
    for event in range(5):
        for name in ("mallory", "amy") if event == 0 else ("amy",):
            call(tally, Credential(f"event-{event}", name))
    for _ in range(2):
        await tally.flush()
    assert store.total("amy").requests == 4
    store.poison = None
    await tally.flush()
    assert store.total().requests == 6


async def test_a_flush_that_is_broken_off_loses_nothing(store: FakeUsage, tally: Tally) -> None:
    for number in range(3 * AT_ONCE):
        call(tally, Credential("hackathon", f"user-{number}"))
    store.passing.clear()
    flush = asyncio.create_task(tally.flush())
    await until(lambda: bool(store.writes))
    flush.cancel()
    await asyncio.wait([flush])
    store.passing.set()
    await tally.flush()
    assert store.total().requests == 3 * AT_ONCE


async def test_closing_writes_what_is_left_also_in_the_middle_of_a_write(
    store: FakeUsage, clock: Clock
) -> None:
    tally = Tally(store, 0.01, clock.now, clock)
    call(tally, AMY)
    store.passing.clear()
    await until(lambda: bool(store.writes))
    call(tally, BOB)
    closing = asyncio.create_task(tally.close())
    await asyncio.sleep(0.01)
    store.passing.set()
    await closing
    assert store.total().requests == 2


async def test_closing_without_tables_ends_and_says_what_is_lost(
    store: FakeUsage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tally = Tally(store, 600, clock.now, clock)
    call(tally, AMY)
    call(tally, BOB)
    store.always = Fault.BEFORE
    await tally.close()
    assert "the usage in 2 rows is lost" in caplog.text


# ---- memory


async def test_a_row_that_was_forgotten_and_is_counted_again_is_not_overwritten(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    for _ in range(5):
        call(tally)
    await tally.flush()
    clock.seconds += KEPT.total_seconds() + 1
    await tally.flush()
    assert not tally._rows
    call(tally)
    await tally.flush()
    assert store.total().requests == 6
    assert len({writer for _, writer in store.writes}) == 2


async def test_a_call_that_ends_in_the_next_hour_finds_its_row(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    call(tally, at=NOON + timedelta(minutes=59))
    await tally.flush()
    clock.seconds += 60 * (59 + 26)
    call(tally, BOB, at=clock.now())
    await tally.flush()
    call(tally, at=NOON + timedelta(minutes=59))
    await tally.flush()
    assert {row.counts.requests for row in store.rows.values() if row.user == "amy"} == {2}


async def test_what_was_not_written_is_not_forgotten(store: FakeUsage, clock: Clock, tally: Tally) -> None:
    call(tally)
    store.faults.append(Fault.BEFORE)
    clock.seconds += 10 * KEPT.total_seconds()
    await tally.flush()
    await tally.flush()
    assert store.total().requests == 1


async def test_names_that_somebody_makes_up_do_not_stay_in_memory(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    call(tally, BOB)
    await tally.flush()
    for number in range(MOST_KEPT + 500):
        call(tally, Credential("hackathon", f"nobody-{number}"))
    clock.seconds += 5
    call(tally, AMY)
    await tally.flush()
    assert len(tally._rows) == MOST_KEPT
    call(tally, AMY)
    call(tally, BOB)
    await tally.flush()
    assert (store.total("amy").requests, store.total("bob").requests) == (2, 2)
    assert store.total().requests == MOST_KEPT + 504


async def test_names_made_up_while_the_tables_are_down_are_counted_together(
    store: FakeUsage, tally: Tally
) -> None:
    store.always = Fault.BEFORE
    call(tally, AMY)
    for number in range(MOST_COUNTED + 500):
        call(tally, Credential("hackathon", f"nobody-{number}"))
    call(tally, AMY)
    await tally.flush()
    assert len(tally._rows) == MOST_COUNTED + 1
    store.always = Fault.NONE
    await tally.flush()
    assert store.total("amy").requests == 2
    assert store.total(OTHERS).requests == 501
    assert store.total().requests == MOST_COUNTED + 502


# ---- everything at once


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_the_sum_of_the_rows_is_what_was_counted(
    store: FakeUsage, clock: Clock, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    choose = random.Random(seed)
    instances = [Tally(store, 600, clock.now, clock) for _ in range(2)]
    counted = Counts()
    for _ in range(400):
        tally = choose.choice(instances)
        match choose.randrange(10):
            case 0:
                store.faults.append(choose.choice([Fault.BEFORE, Fault.AFTER, Fault.LATE]))
            case 1:
                step = choose.choice([1.0, 30.0, 1800.0, 7200.0])
                clock.seconds += step
                if step >= DOUBT_SECONDS / 2:
                    store.late.clear()  # the service has given them up by then
            case 2:
                await tally.flush()
            case 3 if store.late:
                store.deliver(choose.randrange(len(store.late)))
            case 4:
                tally.failed(AMY, MODEL, clock.now(), StoreUnavailable())
                counted = counted.plus(Counts(errors=1))
            case _:
                who = Credential(f"event-{choose.randrange(2)}", f"user-{choose.randrange(30)}")
                began_at = clock.now() - timedelta(minutes=choose.randrange(30))
                usage = Usage(choose.randrange(100), choose.randrange(100))
                tally.forwarded(who, choose.choice([MODEL, "other"]), began_at, usage)
                counted = counted.plus(Counts(1, *usage))
    store.faults.clear()
    for tally in instances:
        await tally.flush()
    clock.seconds += DOUBT_SECONDS
    for tally in instances:
        await tally.close()
    assert store.total() == counted
