"""The sweep: grants that lie idle go back, debts and lost responses are cleared up, and users are forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from shared.core.models import Credential, Usage
from shared.core.money import FREE
from shared.quota.accounts import KEPT_SECONDS, MAX_KEPT, URGENT_DIVISOR
from shared.quota.amounts import Amount
from shared.quota.exchange import MAX_TRIES
from shared.quota.hold import Need
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.minutes import MINUTE
from shared.quota.pace import SHARE
from shared.quota.quota import Quota
from shared.tables.columns import LARGEST
from tests.clock import Clock, until
from tests.conftest import EVENT
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import AMY, BOB, IDLE_SECONDS, KEY, NOW, TOTAL, call, event_with, hold_for
from tests.seeded_tables import Tables


async def test_block_is_kept_until_it_was_idle_for_long(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    await call(quota, event_with(requests_per_day=10_000, tokens_per_day=10_000_000))
    clock.seconds += IDLE_SECONDS * 0.99
    await quota.sweep()
    assert store.calls == {"write": 1}
    clock.seconds += IDLE_SECONDS * 0.01
    await quota.sweep()
    assert store.row(KEY).granted == store.row(KEY).used


@pytest.mark.parametrize("tokens_per_day", [4_000, 10_000])
async def test_grant_that_is_large_compared_to_the_rest_goes_back_sooner(
    store: FakeLedger, quota: Quota, clock: Clock, tokens_per_day: int
) -> None:
    """A call that names no cap holds much, and uses little of it."""
    event = event_with(tokens_per_day=tokens_per_day)
    need = Need(prompt_tokens=50, output_limit=4_096, choices=1)
    others = [Quota(store, IDLE_SECONDS, clock) for _ in range(3)]
    for used, instance in enumerate([quota, *others]):
        hold = await hold_for(instance, AMY, event, need)
        assert hold.need.output_limit == min(4_096, tokens_per_day - used * 90 - 50)
        hold.settle(Usage(50, 40), FREE)
        clock.seconds += IDLE_SECONDS / URGENT_DIVISOR
        await instance.sweep()


async def test_grant_that_is_not_yet_large_compared_to_the_rest_is_kept(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    """86 tokens of 16,000 are less than a sixteenth; 1,216 are more."""
    event = event_with(tokens_per_day=16_000)
    await call(quota, event)
    (await hold_for(quota, BOB, event, Need(200, 1000, 1))).release()
    clock.seconds += IDLE_SECONDS / URGENT_DIVISOR * 0.99
    await quota.sweep()
    assert store.calls == {"write": 2}
    clock.seconds += IDLE_SECONDS / URGENT_DIVISOR * 0.01
    await quota.sweep()
    granted = {key.row: row.granted.tokens for key, row in store.rows.items()}
    assert granted == {"amy:2026-01-31": 136, "bob:2026-01-31": 0}


async def test_requests_that_are_many_compared_to_the_rest_go_back_sooner(
    store: FakeLedger, quota: Quota, clock: Clock
) -> None:
    event = event_with(requests_per_day=20)
    for hold in await asyncio.gather(*(hold_for(quota, AMY, event) for _ in range(8))):
        hold.release()
    assert store.row(KEY).granted.requests == 8
    clock.seconds += IDLE_SECONDS / URGENT_DIVISOR
    await quota.sweep()
    assert store.row(KEY).granted.requests == 0


@pytest.mark.parametrize("scarce", ["tokens", "requests"])
async def test_unit_that_does_not_run_out_does_not_pile_up(
    store: FakeLedger, quota: Quota, clock: Clock, scarce: str
) -> None:
    """A busy instance takes many blocks for the scarce unit. The other unit must stay available to others."""
    event = event_with(requests_total=5_000, tokens_total=50_000_000 if scarce == "tokens" else 5_000_000)
    used = Usage(60, 6_000 if scarce == "tokens" else 10)
    for _ in range(2_000):
        need = Need(used.prompt_tokens, used.completion_tokens, 1)
        (await hold_for(quota, AMY, event, need)).settle(used, FREE)
        clock.seconds += 0.5
    in_hand = store.row(TOTAL).granted.minus(Amount(2_000, 2_000 * used.total_tokens))
    assert in_hand.requests <= 5_000 / SHARE
    assert in_hand.tokens <= event.tokens_total / SHARE  # type: ignore[operator]
    other = Quota(store, IDLE_SECONDS, clock)
    served = 0
    while await call(other, event, BOB) == "ok":
        served += 1
        clock.seconds += 0.01
    assert served >= 3_000 - 5_000 / SHARE


@pytest.mark.parametrize(("fault", "tries"), [(Fault.BEFORE, 1), (Fault.CONFLICT, MAX_TRIES)])
async def test_debt_that_could_not_be_reported_is_reported_before_idle_grants(
    store: FakeLedger, quota: Quota, clock: Clock, fault: Fault, tries: int
) -> None:
    hold = await hold_for(quota, AMY, event_with(tokens_per_day=100_000))
    store.always = fault
    hold.settle(Usage(50, 20_000), FREE)
    await until(lambda: store.calls["write"] == 1 + tries)
    store.always = Fault.NONE
    assert store.row(KEY).used.tokens == 0
    clock.seconds += IDLE_SECONDS / URGENT_DIVISOR
    await quota.sweep()
    assert store.row(KEY).used.tokens == 20_050


async def test_lost_response_is_cleared_up_by_the_sweep(store: FakeLedger, quota: Quota) -> None:
    await call(quota, event_with(requests_per_day=100))
    store.faults.extend([Fault.AFTER, Fault.BEFORE])
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted == store.row(KEY).used == Amount(1, 50)


async def test_lost_response_is_cleared_up_while_a_long_call_runs(store: FakeLedger, quota: Quota) -> None:
    hold = await hold_for(quota, AMY, event_with(requests_per_day=100))
    store.faults.append(Fault.AFTER)
    await quota.sweep(everything=True)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.requests == 1
    hold.settle(Usage(20, 30), FREE)
    await quota.sweep(everything=True)
    assert store.row(KEY).used.requests == 1


async def test_account_with_a_waiting_call_is_not_forgotten(
    store: FakeLedger, clock: Clock, quota: Quota
) -> None:
    event = event_with(requests_per_day=100, requests_total=1000)
    (await hold_for(quota, BOB, event)).release()
    await quota.sweep(everything=True)
    store.paused = True
    waiting = asyncio.create_task(hold_for(quota, AMY, event))
    await asyncio.sleep(0.01)
    clock.seconds += 10_000
    sweeping = asyncio.create_task(quota.sweep())  # the event's account has been idle for long
    await asyncio.sleep(0.01)
    store.resume()
    await sweeping
    (await waiting).settle(Usage(20, 30), FREE)
    await quota.sweep(everything=True)
    assert store.row(KEY).granted.requests == store.row(KEY).used.requests == 1
    assert store.row(TOTAL).granted.requests == store.row(TOTAL).used.requests == 1


async def test_invented_users_do_not_stay_in_memory(store: FakeLedger, clock: Clock) -> None:
    quota = Quota(store, 0.02, clock)
    for number in range(MAX_KEPT + 50):
        event = event_with(requests_per_day=5 if number % 2 else None, requests_per_minute=5)
        await call(quota, event, Credential("hackathon", f"user-{number}"))
    for _ in range(100):
        clock.seconds += MINUTE * 20
        await asyncio.sleep(0.02)
        if not quota._accounts and not len(quota._minutes):
            break
    assert not quota._accounts and not len(quota._minutes)
    assert await call(quota, event_with(requests_per_day=5)) == "ok"
    clock.seconds += 1
    await asyncio.sleep(0.1)
    assert store.row(KEY).granted.requests == 1, "the timer runs again"
    await quota.close()


async def test_row_that_cannot_be_written_does_not_stop_other_rows_from_being_written(
    store: FakeLedger, quota: Quota
) -> None:
    for credential in (AMY, BOB):
        await call(quota, event_with(requests_per_day=100), credential)
    store.faults.append(Fault.BEFORE)
    await quota.sweep(everything=True)
    is_written = [row.granted == row.used for row in store.rows.values()]
    assert sorted(is_written) == [False, True]


class OddLedger(FakeLedger):
    """Raises an exception that no one expects for one row."""

    async def write_ledger(self, key: Key, row: LedgerRow) -> LedgerRow:
        if key == KEY and row.version is not None:
            raise ValueError("odd")
        return await super().write_ledger(key, row)


async def test_account_that_raises_an_unexpected_exception_does_not_stop_the_others(clock: Clock) -> None:
    store = OddLedger()
    quota = Quota(store, IDLE_SECONDS, clock)
    for credential in (AMY, BOB):
        await call(quota, event_with(requests_per_day=100), credential)
    await quota.sweep(everything=True)
    bob = store.row(Key("hackathon", "bob:2026-01-31"))
    assert bob.granted == bob.used == Amount(1, 50)
    await quota.close()


async def test_sweeping_goes_on_after_an_unexpected_exception(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = OddLedger()
    quota = Quota(store, 0.02, clock)
    await call(quota, event_with(requests_per_day=100))
    clock.seconds += 1
    await until(lambda: "an account" in caplog.text)
    await call(quota, event_with(requests_per_day=100), BOB)
    clock.seconds += 1
    await until(lambda: store.row(Key("hackathon", "bob:2026-01-31")).granted == Amount(1, 50))
    await quota.close()


async def test_usage_that_fits_into_no_column_does_not_stop_the_sweeping(
    tables: Tables, clock: Clock
) -> None:
    """With the real table, which stores 64 bits."""
    event = replace(EVENT, code="absurd-usage", tokens_per_day=10_000)
    amy, bob = (Credential(event.code, user) for user in ("amy", "bob"))
    quota = Quota(tables, IDLE_SECONDS, clock)
    (await hold_for(quota, amy, event)).settle(Usage(2**63, 30), FREE)
    (await hold_for(quota, bob, event)).settle(Usage(20, 30), FREE)
    await quota.sweep(everything=True)
    rows = [await tables.read_ledger(Key(event.code, f"{user}:2026-01-31")) for user in ("amy", "bob")]
    assert [row.used.tokens for row in rows] == [LARGEST, 50]
    assert rows[1].granted == rows[1].used
    assert await call(quota, event, amy) == "token_quota_exceeded"
    await quota.close()


@pytest.mark.parametrize("limit", ["tokens_total", "tokens_per_day"])
async def test_account_is_not_forgotten_while_the_prompt_of_a_call_is_counted(
    store: FakeLedger, quota: Quota, clock: Clock, limit: str
) -> None:
    """Nothing would give back what the call then takes."""
    event, counting, counted = event_with(**{limit: 100_000}), asyncio.Event(), asyncio.Event()

    async def count() -> int:
        counting.set()
        await counted.wait()
        return 40_000

    await call(quota, event)
    clock.seconds += KEPT_SECONDS - 1
    await quota.sweep()
    waiting = asyncio.create_task(quota.hold(AMY, event, Need(60_000, 100, 1), count, NOW))
    await counting.wait()
    clock.seconds += KEPT_SECONDS
    await quota.sweep()
    counted.set()
    (await waiting).settle(Usage(40_000, 50), FREE)
    await quota.sweep(everything=True)
    (row,) = store.rows.values()
    assert row.granted == row.used == Amount(2, 40_100)
