from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.quota.quota import Quota
from tests.fake_ledger import FakeLedger, Fault
from tests.quota.helpers import IDLE_SECONDS, Clock


@pytest.fixture
def store() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def quota(store: FakeLedger, clock: Clock) -> AsyncIterator[Quota]:
    quota = Quota(store, IDLE_SECONDS, clock)
    yield quota
    store.paused, store.always = False, Fault.NONE
    await quota.close()
