"""The limit of new user names: a client with a valid code can invent any number of them."""

from __future__ import annotations

import pytest

from shared.core.errors import RateLimited
from shared.core.models import Credential
from shared.events.newcomers import AT_ONCE, MOST_KNOWN, PER_SECOND, Newcomers
from shared.events.rate_limit import MOST_EVENTS
from tests.clock import Clock


@pytest.fixture
def newcomers(clock: Clock) -> Newcomers:
    return Newcomers(clock)


def admitted(newcomers: Newcomers, number: int, event: str = "hackathon", prefix: str = "user") -> int:
    """How many of these new users are admitted."""
    count = 0
    for user in range(number):
        try:
            newcomers.admit(Credential(event, f"{prefix}-{user}"))
        except RateLimited:
            continue
        count += 1
    return count


def test_a_number_at_once_and_then_a_number_a_second_is_admitted(newcomers: Newcomers, clock: Clock) -> None:
    assert admitted(newcomers, 2000, prefix="a") == AT_ONCE
    clock.seconds += 1
    assert admitted(newcomers, 2000, prefix="b") == PER_SECOND
    clock.seconds += 3600
    assert admitted(newcomers, 2000, prefix="c") == AT_ONCE


def test_refusal_can_be_retried_in_a_second(newcomers: Newcomers) -> None:
    admitted(newcomers, AT_ONCE)
    with pytest.raises(RateLimited) as refused:
        newcomers.admit(Credential("hackathon", "late"))
    assert refused.value.headers[b"retry-after"] == b"1"


def test_known_user_is_never_refused(newcomers: Newcomers, clock: Clock) -> None:
    amy = Credential("hackathon", "amy")
    newcomers.admit(amy)
    admitted(newcomers, AT_ONCE)
    for second in range(2 * MOST_KNOWN // PER_SECOND):
        admitted(newcomers, PER_SECOND, prefix=f"at-{second}")
        if second % 60 == 0:
            newcomers.admit(amy)
        clock.seconds += 1
    assert admitted(newcomers, 1000, prefix="late") == PER_SECOND
    newcomers.admit(amy)


def test_names_at_one_event_do_not_slow_another(newcomers: Newcomers) -> None:
    admitted(newcomers, 2000)
    assert admitted(newcomers, AT_ONCE, event="other") == AT_ONCE


def test_memory_is_limited(newcomers: Newcomers, clock: Clock) -> None:
    for event in range(MOST_EVENTS + 10):
        admitted(newcomers, AT_ONCE, event=f"event-{event}")
    assert len(newcomers._recent) + len(newcomers._older) <= 2 * MOST_KNOWN
    assert len(newcomers._limits._limits) == MOST_EVENTS
