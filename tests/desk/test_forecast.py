"""The rate of an event, and when its limits run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.core.counts import Minute
from shared.desk.forecast import Rate, rate_of, runs_out_at
from shared.desk.sums import minute_of

NOW = datetime(2026, 12, 1, 15, 0, 30, tzinfo=UTC)
THIS = minute_of(NOW)


def steady(minutes: int, tokens: int = 600) -> dict[int, Minute]:
    """So many tokens in each of the last whole minutes, and half of it in this one."""
    found = {THIS - ago: Minute(6, tokens, 12) for ago in range(1, minutes + 1)}
    return found | {THIS: Minute(3, tokens // 2, 6)}


@pytest.mark.parametrize("minutes", [2, 5, 9, 10, 11, 300])
def test_a_steady_use_has_its_own_rate_whenever_it_began(minutes: int) -> None:
    rate = rate_of(steady(minutes), NOW)
    assert (rate.requests, rate.tokens, rate.cost) == pytest.approx((6, 600, 12))
    assert rate.minutes <= 10.5


def test_what_was_used_before_the_last_ten_minutes_does_not_count() -> None:
    assert rate_of({THIS - 11: Minute(100, 10_000)} | steady(10), NOW).tokens == pytest.approx(600)


def test_a_pause_lowers_the_rate() -> None:
    busy = {THIS - ago: Minute(1, 1000) for ago in range(6, 60)}
    assert rate_of(busy, NOW).tokens == pytest.approx(5 * 1000 / 10.5)
    assert rate_of({THIS - 60: Minute(1, 1000)}, NOW) == pytest.approx((0, 0, 0, 10.5))


def test_the_first_seconds_and_no_use_at_all_have_a_rate() -> None:
    assert rate_of({}, NOW) == Rate()
    assert rate_of({THIS: Minute(1, 300)}, NOW) == pytest.approx((2, 600, 0, 0.5))
    assert rate_of({THIS + 5: Minute(1, 300)}, NOW) == Rate()  # another instance's clock is ahead


def test_what_is_left_runs_out_at_this_rate() -> None:
    assert runs_out_at(6000, 600, NOW) == NOW + timedelta(minutes=10)


@pytest.mark.parametrize(("left", "rate"), [(0, 600), (-5, 600), (600, 0), (2**62, 1e-9)])
def test_nothing_runs_out_that_is_used_up_or_not_used(left: int, rate: float) -> None:
    assert runs_out_at(left, rate, NOW) is None
