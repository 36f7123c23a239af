from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.quota.quota import Quota
from tests.clock import Clock
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import IDLE_SECONDS


@pytest.fixture
def store() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
async def quota(store: FakeLedger, clock: Clock) -> AsyncIterator[Quota]:
    quota = Quota(store, IDLE_SECONDS, clock)
    yield quota
    store.paused, store.always = False, Fault.NONE
    await quota.close()
