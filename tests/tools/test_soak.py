"""A soak of some seconds passes. It fails once a row says that something is lost, or was given out twice."""

import re
from datetime import UTC, datetime

import pytest

from shared.quota.amounts import NOTHING, Amount
from shared.quota.ledger_row import Key
from tools.soak.__main__ import report
from tools.soak.run import opened

pytestmark = pytest.mark.one_python


@pytest.mark.timeout(300)  # it starts four instances
async def test_planted_loss_or_overspend_fails_a_soak(capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(seconds=8, seed=1) as soak:
        assert [line async for line in soak.run()] == []
        assert report(soak) == 0
        passed = capsys.readouterr().out
        assert " x 200" in passed and " x kills" in passed and " tables" in passed

        account = next(iter(soak.accounts))
        key = Key(account.code, f"{account.user}:{datetime.now(UTC).date()}")
        lost = account.counted.plus(account.may_be_lost).plus(Amount(1, 1))
        for granted, reason in ((lost, "may be lost"), (NOTHING, "but charged only 0")):
            row = await soak.stage.tables.read_ledger(key)
            await soak.stage.tables.write_ledger(key, row._replace(granted=granted, used=NOTHING))
            await soak.accounts.read(soak.stage)
            assert report(soak) == 1
            assert re.search(
                rf"FAILED: {account.code}/{account.user}, tokens: .*{reason}", capsys.readouterr().out
            )
