"""A refusal stays only when a limit is used: until then, other instances may return what they hold."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from shared.core.errors import ProxyError
from shared.core.models import Event, Usage
from shared.core.money import FREE, Prices
from shared.core.quota_errors import QuotaExceeded
from shared.quota.account import REMEMBERED_SECONDS
from shared.quota.amounts import NOTHING, Amount
from shared.quota.hold import Hold, Need
from shared.quota.quota import Quota
from tests.clock import Clock
from tests.fake_ledger import FakeLedger
from tests.quota.helpers import AMY, KEY, TOTAL, event_with, hold_for

IDLE_SECONDS = 15.0
"""The app's default."""
SWEEP_SECONDS = IDLE_SECONDS / 6
PRICES = Prices(1_000_000, 1_000_000, 1_000_000)
"""A token costs a millionth."""


def need_of(prompt_tokens: int) -> Need:
    return Need(prompt_tokens, 50, 1, prices=PRICES)


async def refused(quota: Quota, event: Event, need: Need) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as refusal:
        await hold_for(quota, AMY, event, need)
    return refusal.value


async def use(quota: Quota, event: Event, need: Need) -> None:
    """Make a call that uses all that it holds."""
    hold = await hold_for(quota, AMY, event, need)
    hold.settle(Usage(hold.need.prompt_tokens, hold.need.output_limit), PRICES)


@asynccontextmanager
async def instances(number: int, store: FakeLedger, clock: Clock) -> AsyncIterator[list[Quota]]:
    quotas = [Quota(store, IDLE_SECONDS, clock) for _ in range(number)]
    yield quotas
    for quota in quotas:
        await quota.close()


@pytest.fixture
async def pair(store: FakeLedger, clock: Clock) -> AsyncIterator[list[Quota]]:
    async with instances(2, store, clock) as pair:
        yield pair


LIMITS = [
    ("requests_per_day", 2, "request_quota_exceeded", "your requests"),
    ("tokens_per_day", 200, "token_quota_exceeded", "your tokens"),
    ("cost_per_day", 200, "budget_exceeded", "your budget"),
    ("requests_total", 2, "event_quota_exceeded", "this event's requests"),
    ("tokens_total", 200, "event_quota_exceeded", "this event's tokens"),
    ("cost_total", 200, "event_budget_exceeded", "this event's budget"),
]


@pytest.mark.parametrize(("limit", "allowed", "code", "rest"), LIMITS)
async def test_rest_that_another_instance_holds_is_worth_a_retry(
    store: FakeLedger, clock: Clock, pair: list[Quota], limit: str, allowed: int, code: str, rest: str
) -> None:
    (one, other), event, need = pair, event_with(**{limit: allowed}), need_of(50)
    await use(one, event, need)
    hold = await hold_for(other, AMY, event, need)
    error = await refused(one, event, need)
    assert (error.code, error.headers) == (code, {b"x-should-retry": b"true", b"retry-after": b"4"})
    assert error.message == f"Other servers hold the rest of {rest}. Try again in a few seconds."
    hold.release()
    clock.seconds += IDLE_SECONDS
    await other.sweep()
    await use(one, event, need)
    error = await refused(one, event, need)
    assert error.headers[b"x-should-retry"] == b"false", "all is used"
    await one.sweep()
    row = store.row(KEY if limit.endswith("day") else TOTAL)
    assert row.granted == row.used


@pytest.mark.parametrize(("limit", "allowed"), [row[:2] for row in LIMITS])
async def test_rest_of_a_killed_instance_is_refused_for_good_after_half_a_minute(
    store: FakeLedger, clock: Clock, pair: list[Quota], limit: str, allowed: int
) -> None:
    (one, killed), event, need = pair, event_with(**{limit: allowed}), need_of(50)
    await use(one, event, need)
    await hold_for(killed, AMY, event, need)
    kept = list[bytes]()
    for _ in range(40):
        store.calls.clear()
        kept += [(await refused(one, event, need)).headers[b"x-should-retry"] for _ in range(5)]
        assert store.total_calls <= 1 or len(kept) == 5, "one table call in a second"
        clock.seconds += REMEMBERED_SECONDS
        await one.sweep()
    assert kept == [b"true"] * 5 * 30 + [b"false"] * 5 * 10


@pytest.mark.parametrize("limit", ["tokens_per_day", "cost_total"])
async def test_instance_that_refuses_returns_its_part_of_the_rest(
    clock: Clock, pair: list[Quota], limit: str
) -> None:
    """Each has 90 left, a call needs 116, and clients call all the time."""
    event, large = event_with(**{limit: 400}), need_of(100)
    for quota in pair:
        hold = await hold_for(quota, AMY, event, need_of(150))
        hold.settle(Usage(110, 0), PRICES)
    one, other = pair
    for quota in (one, other, one):
        assert (await refused(quota, event, large)).headers[b"x-should-retry"] == b"true"
        clock.seconds += REMEMBERED_SECONDS / 2
    await use(other, event, large)


@dataclass
class Crowd:
    """64 clients and 8 instances in virtual time. A client gives up when three refusals in a row are for good."""

    event: Event
    clock: Clock
    quotas: list[Quota]
    random: Random = field(default_factory=lambda: Random(7))
    admitted: Amount = NOTHING
    reached: list[Amount] = field(default_factory=list)
    """What was admitted when a client that gave up was refused for the first time."""
    steps: list[tuple[float, int, Callable[[], Awaitable[None]]]] = field(default_factory=list)
    order: count[int] = field(default_factory=count)

    def after(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self.steps, (self.clock.seconds + seconds, next(self.order), step))

    async def run(self) -> None:
        for number in range(64):
            self.client(number, number)
        swept_at = 0.0
        while self.steps:
            self.clock.seconds, _, step = heapq.heappop(self.steps)
            await step()
            while self.clock.seconds - swept_at >= SWEEP_SECONDS:
                swept_at += SWEEP_SECONDS
                for quota in self.quotas:
                    await quota.sweep()

    def client(self, number: int, turn: int, refused_at: tuple[Amount, ...] = ()) -> None:
        """The next call. Half of the clients have long prompts."""
        quota, need = self.quotas[turn % len(self.quotas)], need_of(1000 if number % 4 > 1 else 300)

        async def step() -> None:
            try:
                hold = await hold_for(quota, AMY, self.event, need)
            except ProxyError as error:
                lasts = error.headers[b"x-should-retry"] == b"false"
                again = (*refused_at, self.admitted) if lasts else ()
                if len(again) == 3:
                    self.reached.append(again[0])
                else:
                    self.after(1.0, lambda: self.next_turn(number, turn, again))
                return
            self.admitted = self.admitted.plus(Amount(1, need.prompt_tokens + 17))
            self.after(2.0 + self.random.random() / 2, lambda: self.end(hold, number, turn))

        self.after(self.random.random() / 20, step)

    async def next_turn(self, number: int, turn: int, refused_at: tuple[Amount, ...]) -> None:
        self.client(number, turn + 1, refused_at)

    async def end(self, hold: Hold, number: int, turn: int) -> None:
        hold.settle(Usage(hold.need.prompt_tokens, 17), FREE)
        self.client(number, turn + 1)


@pytest.mark.parametrize(("limit", "allowed"), [("requests_per_day", 200), ("tokens_per_day", 150_000)])
async def test_no_refusal_is_for_good_before_a_limit_is_nearly_used(
    store: FakeLedger, clock: Clock, limit: str, allowed: int
) -> None:
    async with instances(8, store, clock) as quotas:
        crowd = Crowd(event_with(**{limit: allowed}), clock, quotas)
        await crowd.run()
    unit = limit.partition("_")[0]
    reached = min(getattr(amount, unit) for amount in crowd.reached)
    # What is left is too little for a call.
    assert allowed - (1 if unit == "requests" else 1066) < reached <= getattr(crowd.admitted, unit) <= allowed
