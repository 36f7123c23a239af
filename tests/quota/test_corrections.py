"""Corrections: after an estimate that was too low, the next ones are higher."""

from __future__ import annotations

import pytest

from shared.core.errors import TokenQuotaExceeded
from shared.core.models import Usage
from shared.quota.quota import Quota
from tests.fake_ledger import FakeLedger
from tests.quota.helpers import AMY, BOB, KEY, NEED, NOW, event_with


async def test_estimate_that_was_too_low_is_not_repeated(store: FakeLedger, quota: Quota) -> None:
    event = event_with(tokens_per_day=2000)
    (await quota.hold(AMY, event, NEED, NOW)).settle(Usage(200, 100))
    holds = [await quota.hold(AMY, event, NEED, NOW) for _ in range(5)]
    assert [hold.output_limit for hold in holds] == [100] * 5, "each holds 300 tokens now"
    with pytest.raises(TokenQuotaExceeded):
        await quota.hold(AMY, event, NEED, NOW)
    for hold in holds:
        hold.settle(Usage(200, 100))
    await quota.sweep(everything=True)
    assert store.row(KEY).used.tokens == 1800 <= 2000


async def test_event_learns_from_every_user_and_a_user_from_their_own_calls(
    store: FakeLedger, quota: Quota
) -> None:
    event = event_with(tokens_per_day=1000, tokens_total=450)
    (await quota.hold(AMY, event, NEED, NOW)).settle(Usage(200, 0))
    hold = await quota.hold(BOB, event, NEED, NOW)
    assert hold.output_limit == 50, "the event has 250 left, and the prompt is estimated at 200"
    hold.settle(Usage(19, 51))
    again = await quota.hold(BOB, event, NEED, NOW)
    assert again.output_limit == 80, (
        "a good estimate halves the correction: 180 are left, and the prompt is estimated at 100"
    )
    again.release()


async def test_call_without_reported_usage_does_not_change_the_estimate(
    store: FakeLedger, quota: Quota
) -> None:
    event = event_with(tokens_per_day=2000)
    (await quota.hold(AMY, event, NEED, NOW)).settle(Usage(200, 100))
    for unreported in (Usage(), Usage(NEED.prompt_tokens, 3)):
        (await quota.hold(AMY, event, NEED, NOW)).settle(unreported)
    holds = [await quota.hold(AMY, event, NEED, NOW) for _ in range(5)]
    with pytest.raises(TokenQuotaExceeded):
        await quota.hold(AMY, event, NEED, NOW)  # each still holds 300 of 1,677
    for hold in holds:
        hold.release()
