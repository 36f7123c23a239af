"""The tally: no call is lost or counted twice, and no call waits for the table."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from itertools import count, pairwise

import pytest

from shared.core import errors, quota_errors
from shared.core.counts import OTHERS, Counts, Minute, UsageRow
from shared.core.errors import ProxyError, StoreUnavailable
from shared.core.models import Credential, Usage
from shared.usage.tally import (
    AT_ONCE,
    DOUBT_SECONDS,
    KEPT,
    MOST_COUNTED,
    MOST_KEPT,
    MOST_TOKENS,
    PAUSE_SECONDS,
    Tally,
)
from tests.clock import NOON, Clock, until
from tests.error_classes import every_refusal
from tests.fake_ledger import Fault
from tests.seeded_tables import Tables
from tests.usage.fake_usage import FakeUsage

AMY, BOB = Credential("hackathon", "amy"), Credential("hackathon", "bob")
MODEL = "gpt-4o"
_events = count(1)


@pytest.fixture
def store() -> FakeUsage:
    return FakeUsage()


@pytest.fixture
async def tally(store: FakeUsage, clock: Clock) -> AsyncIterator[Tally]:
    """A tally that writes only when a test flushes it."""
    tally = Tally(store, 600, clock.now, clock)
    yield tally
    store.always, store.poison = Fault.NONE, None
    store.passing.set()
    await tally.close()


def call(tally: Tally, credential: Credential = AMY, at: datetime = NOON) -> None:
    tally.count_call(credential, MODEL, at, Usage(2, 3))


def call_as_users(tally: Tally, number_of_users: int) -> None:
    """One call of each user."""
    for number in range(number_of_users):
        call(tally, Credential("hackathon", f"user-{number}"))


# ---- the contract of the fake and the real store


@pytest.fixture(params=["fake", "real"])
async def either(request: pytest.FixtureRequest, store: FakeUsage, tables: Tables) -> FakeUsage | Tables:
    return store if request.param == "fake" else tables


async def test_a_row_replaces_only_the_same_writers_row(
    either: FakeUsage | Tables,
) -> None:
    event = f"tally-{next(_events)}"
    one, two = (UsageRow(event, NOON, "amy", MODEL, Counts(requests)) for requests in (1, 2))
    await either.write_usage([one], "a")
    await either.write_usage([two], "a")
    await either.write_usage([one], "b")
    assert sorted(await either.usage(event)) == [one, two]


async def test_each_part_of_the_key_makes_a_separate_row(either: FakeUsage | Tables) -> None:
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


# ---- counting


async def test_a_forwarded_call_counts_with_its_tokens(store: FakeUsage, tally: Tally) -> None:
    tally.count_call(AMY, MODEL, NOON, Usage(10, 20))
    tally.count_call(AMY, MODEL, NOON, Usage(1, 2), is_cut=True)
    await tally.flush()
    (row,) = store.rows.values()
    minutes = {0: Minute(2, 33, 0, 0, 1)}
    assert row == UsageRow("hackathon", NOON, "amy", MODEL, Counts(2, 11, 22, 0, 1), minutes)


async def test_a_row_has_what_began_in_each_minute_and_the_last_refusal(
    store: FakeUsage, tally: Tally
) -> None:
    for minute in (0, 59, 5, 59):
        tally.count_call(AMY, MODEL, NOON + timedelta(minutes=minute, seconds=59), Usage(2, 3), cost=7)
    for error in (quota_errors.RequestQuotaExceeded("No."), errors.StoreUnavailable()):
        tally.count_failure(AMY, MODEL, NOON + timedelta(minutes=5), error)
    await tally.flush()
    (row,) = store.rows.values()
    assert row.minutes == {0: Minute(1, 5, 7), 5: Minute(1, 5, 7, 1, 1), 59: Minute(2, 10, 14)}
    assert row.refused_for == "store_unavailable"


REFUSALS = {
    "attendee_blocked",
    "name_taken",
    "no_seats_left",
    "context_length_exceeded",
    "invalid_json",
    "invalid_request",
    "tool_not_allowed",
    "unsupported_encoding",
    "unsupported_value",
    "websocket_not_supported",
    "event_not_started",
    "event_ended",
    "event_inactive",
    "model_not_found",
    "request_too_large",
    "request_quota_exceeded",
    "token_quota_exceeded",
    "event_quota_exceeded",
    "budget_exceeded",
    "event_budget_exceeded",
    "rate_limited",
}
ERRORS = {
    "internal_error",
    "model_not_priced",
    "overloaded",
    "store_unavailable",
    "upstream_busy",
    "upstream_error",
    "upstream_timeout",
}
UNCOUNTED = {
    "invalid_event_token",
    "invalid_desk_key",
    "changed_meanwhile",
    "not_found",
    "method_not_allowed",
}


def test_each_error_code_has_one_kind() -> None:
    assert {kind.code for kind in every_refusal()} == REFUSALS | ERRORS | UNCOUNTED


@pytest.mark.parametrize("kind", list(every_refusal()), ids=lambda kind: kind.code)
async def test_refusals_and_errors_are_counted_separately(
    store: FakeUsage, tally: Tally, kind: type[ProxyError]
) -> None:
    if kind.code in UNCOUNTED:
        return
    tally.count_failure(AMY, MODEL, NOON, kind.__new__(kind))
    await tally.flush()
    expected = Counts(refusals=1) if kind.code in REFUSALS else Counts(errors=1)
    assert store.total() == expected


@pytest.mark.parametrize("minutes", [0, 1, 59, 60, 61, -1, -60])
async def test_a_call_counts_in_the_hour_of_its_beginning(
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


# ---- writing


async def test_counting_writes_nothing_and_starts_the_timer(store: FakeUsage, clock: Clock) -> None:
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


async def test_counts_are_written_in_the_background_and_then_the_task_ends(
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


async def test_only_changed_rows_are_written_again(store: FakeUsage, tally: Tally) -> None:
    call(tally, AMY)
    call(tally, BOB)
    await tally.flush()
    await tally.flush()
    assert len(store.writes) == 1
    call(tally, BOB)
    await tally.flush()
    ((row,), _) = store.writes[-1]
    assert (row.user, row.counts.requests) == ("bob", 2)


async def test_a_write_has_a_few_rows_of_one_event(store: FakeUsage, tally: Tally) -> None:
    for number in range(200):
        call(tally, Credential(f"event-{number % 3}", f"user-{number}"))
    await tally.flush()
    assert {len({row.event_code for row in rows}) for rows, _ in store.writes} == {1}
    assert max(len(rows) for rows, _ in store.writes) == AT_ONCE
    assert len(store.writes) == 3 * -(-67 // AT_ONCE)
    assert store.total().requests == 200


async def test_a_call_during_a_write_is_written_next(store: FakeUsage, tally: Tally) -> None:
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


async def test_writes_have_pauses_if_there_is_time(store: FakeUsage, tally: Tally) -> None:
    call_as_users(tally, 3 * AT_ONCE)
    await tally.flush(seconds=600)
    assert store.total().requests == 3 * AT_ONCE
    assert len(store.written_at) == 3
    pauses = [later - sooner for sooner, later in pairwise(store.written_at)]
    assert min(pauses) >= PAUSE_SECONDS * 0.9


async def test_all_pauses_together_fit_into_the_given_time(store: FakeUsage, tally: Tally) -> None:
    call_as_users(tally, 200 * AT_ONCE)
    await tally.flush(seconds=0.1)
    assert len(store.written_at) == 200
    assert store.written_at[-1] - store.written_at[0] < 200 * PAUSE_SECONDS / 2


async def test_the_timer_writes_with_pauses(store: FakeUsage, clock: Clock) -> None:
    tally = Tally(store, 0.5, clock.now, clock)
    call_as_users(tally, 3 * AT_ONCE)
    await until(lambda: len(store.written_at) == 3)
    assert min(later - sooner for sooner, later in pairwise(store.written_at)) >= PAUSE_SECONDS * 0.9
    await tally.close()


async def test_closing_during_a_pause_writes_the_rest(store: FakeUsage, clock: Clock) -> None:
    tally = Tally(store, 0.2, clock.now, clock)
    call_as_users(tally, 9 * AT_ONCE)
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


# ---- outages


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
async def test_a_failed_write_is_repeated_and_counts_once(
    store: FakeUsage, tally: Tally, fault: Fault
) -> None:
    store.faults.extend([fault] * 3)
    for turn in range(1, 5):
        call(tally)
        await tally.flush()
        assert len(store.writes) == turn
    assert store.total().requests == 4


async def test_during_an_outage_each_flush_tries_one_write(store: FakeUsage, tally: Tally) -> None:
    call_as_users(tally, 10 * AT_ONCE)
    store.always = Fault.BEFORE
    for turn in range(1, 4):
        await tally.flush()
        assert len(store.writes) == turn
    store.always = Fault.NONE
    await tally.flush()
    assert store.total().requests == 10 * AT_ONCE


async def test_a_row_that_a_late_write_replaced_is_written_again(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    call(tally)
    store.faults.append(Fault.LATE)
    await tally.flush()
    call(tally)
    await tally.flush()
    store.deliver()
    assert store.total().requests == 1, "the late write has replaced the row"
    clock.seconds += DOUBT_SECONDS
    await tally.flush()
    assert store.total().requests == 2
    writes = len(store.writes)
    clock.seconds += 10 * DOUBT_SECONDS
    await tally.flush()
    assert len(store.writes) == writes, "written again only once"


async def test_a_row_that_always_fails_does_not_stop_the_others(store: FakeUsage, tally: Tally) -> None:
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


class OddUsage(FakeUsage):
    """Raises an exception that no one expects for one user."""

    async def write_usage(self, rows: Sequence[UsageRow], writer: str) -> None:
        if any(row.user == "mallory" for row in rows):
            raise ValueError("odd")
        await super().write_usage(rows, writer)


async def test_writing_goes_on_after_an_unexpected_exception(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = OddUsage()
    tally = Tally(store, 0.01, clock.now, clock)
    call(tally, Credential("odd-event", "mallory"))
    await until(lambda: "some usage could not be written" in caplog.text)
    call(tally, AMY)
    await until(lambda: store.total("amy").requests == 1)
    await tally.close()


@pytest.mark.parametrize("tokens", [-5, 2**63, 10**30])
async def test_absurd_usage_does_not_spoil_the_counts(store: FakeUsage, tally: Tally, tokens: int) -> None:
    tally.count_call(AMY, MODEL, NOON, Usage(tokens, 3))
    tally.count_call(AMY, MODEL, NOON, Usage(2, tokens))
    await tally.flush()
    assert store.total("amy").requests == 2
    assert 2 <= store.total("amy").prompt_tokens <= MOST_TOKENS + 2
    assert 3 <= store.total("amy").completion_tokens <= MOST_TOKENS + 3


async def test_a_cancelled_flush_loses_nothing(store: FakeUsage, tally: Tally) -> None:
    call_as_users(tally, 3 * AT_ONCE)
    store.passing.clear()
    flush = asyncio.create_task(tally.flush())
    await until(lambda: bool(store.writes))
    flush.cancel()
    await asyncio.wait([flush])
    store.passing.set()
    await tally.flush()
    assert store.total().requests == 3 * AT_ONCE


async def test_closing_during_a_write_writes_the_rest(store: FakeUsage, clock: Clock) -> None:
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


async def test_closing_during_an_outage_logs_the_lost_rows(
    store: FakeUsage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tally = Tally(store, 600, clock.now, clock)
    call(tally, AMY)
    call(tally, BOB)
    store.always = Fault.BEFORE
    await tally.close()
    assert "2 rows of usage are lost" in caplog.text


# ---- memory


async def test_a_user_who_returns_gets_a_row_of_a_new_writer(
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


async def test_a_call_that_ends_in_the_next_hour_uses_the_same_row(
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


async def test_an_unwritten_row_stays_in_memory(store: FakeUsage, clock: Clock, tally: Tally) -> None:
    call(tally)
    store.faults.append(Fault.BEFORE)
    clock.seconds += 10 * KEPT.total_seconds()
    await tally.flush()
    await tally.flush()
    assert store.total().requests == 1


async def test_memory_is_limited_when_many_user_names_are_invented(
    store: FakeUsage, clock: Clock, tally: Tally
) -> None:
    call(tally, BOB)
    await tally.flush()
    call_as_users(tally, MOST_KEPT + 500)
    clock.seconds += 5
    call(tally, AMY)
    await tally.flush()
    assert len(tally._rows) == MOST_KEPT
    call(tally, AMY)
    call(tally, BOB)
    await tally.flush()
    assert (store.total("amy").requests, store.total("bob").requests) == (2, 2)
    assert store.total().requests == MOST_KEPT + 504


async def test_users_above_the_limit_share_a_row_during_an_outage(store: FakeUsage, tally: Tally) -> None:
    store.always = Fault.BEFORE
    call(tally, AMY)
    call_as_users(tally, MOST_COUNTED + 500)
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
async def test_the_rows_add_up_after_any_sequence_of_calls_and_faults(
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
                    store.late.clear()  # by then the service has ended them
            case 2:
                await tally.flush()
            case 3 if store.late:
                store.deliver(choose.randrange(len(store.late)))
            case 4:
                tally.count_failure(AMY, MODEL, clock.now(), StoreUnavailable())
                counted = counted.plus(Counts(errors=1))
            case _:
                user = Credential(f"event-{choose.randrange(2)}", f"user-{choose.randrange(30)}")
                began_at = clock.now() - timedelta(minutes=choose.randrange(30))
                usage = Usage(choose.randrange(100), choose.randrange(100))
                tally.count_call(user, choose.choice([MODEL, "other"]), began_at, usage)
                counted = counted.plus(Counts(1, usage.prompt_tokens, usage.completion_tokens))
    store.faults.clear()
    for tally in instances:
        await tally.flush()
    clock.seconds += DOUBT_SECONDS
    for tally in instances:
        await tally.close()
    assert store.total() == counted
