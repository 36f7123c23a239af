"""The contract of a ledger store, for the fake one and for the real one on Azurite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables.aio import TableClient

from shared.core.errors import StoreUnavailable
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Conflict, Key, LedgerRow, LedgerStore
from shared.tables.quota_rows import ledger_to_row
from shared.tables.service import open_service
from shared.tables.tables import Tables
from tests.fake_ledger import FakeLedger, Fault
from tools.azurite import Azurite
from tools.tap import TableTap

_numbers = count(1)
FULL = LedgerRow(Amount(7, 2**40, 2**41), Amount(3, 2**33, 2**34), "instance-1")


@pytest.fixture(params=["fake", "tables"])
def store(request: pytest.FixtureRequest, tables: Tables) -> LedgerStore:
    return FakeLedger() if request.param == "fake" else tables


@pytest.fixture
def key() -> Key:
    return Key("store", f"amy-{next(_numbers)}:2026-01-31")


async def test_missing_row_reads_as_an_empty_one(store: LedgerStore, key: Key) -> None:
    assert await store.read_ledger(key) == LedgerRow()


async def test_row_reads_as_it_was_written(store: LedgerStore, key: Key) -> None:
    written = await store.write_ledger(key, FULL)
    assert written.version and written._replace(version=None) == FULL
    assert await store.read_ledger(key) == written


async def test_every_write_has_its_own_version(store: LedgerStore, key: Key) -> None:
    first = await store.write_ledger(key, FULL)
    second = await store.write_ledger(key, first._replace(writer="instance-2"))
    assert second.version not in {first.version, None}
    assert await store.read_ledger(key) == second


async def test_second_insert_is_a_conflict(store: LedgerStore, key: Key) -> None:
    written = await store.write_ledger(key, FULL)
    with pytest.raises(Conflict):
        await store.write_ledger(key, FULL._replace(writer="instance-2"))
    assert await store.read_ledger(key) == written


async def test_write_over_a_stale_version_is_a_conflict(store: LedgerStore, key: Key) -> None:
    first = await store.write_ledger(key, FULL)
    second = await store.write_ledger(key, first._replace(writer="instance-2"))
    with pytest.raises(Conflict):
        await store.write_ledger(key, first._replace(writer="instance-3"))
    assert await store.read_ledger(key) == second


async def test_update_of_a_deleted_row_is_a_conflict(store: LedgerStore, key: Key) -> None:
    other = await store.write_ledger(Key(key.event_code, key.row + "-other"), FULL)
    with pytest.raises(Conflict):
        await store.write_ledger(key, other)
    assert await store.read_ledger(key) == LedgerRow()


async def test_exactly_one_of_many_simultaneous_writers_wins(store: LedgerStore, key: Key) -> None:
    before = await store.write_ledger(key, FULL)

    async def write(number: int) -> LedgerRow | None:
        try:
            return await store.write_ledger(key, before._replace(writer=f"instance-{number}"))
        except Conflict:
            return None

    won = [row for row in await asyncio.gather(*map(write, range(16))) if row is not None]
    assert won == [await store.read_ledger(key)]


async def test_accounts_do_not_share_a_row(store: LedgerStore, key: Key) -> None:
    await store.write_ledger(key, FULL)
    assert await store.read_ledger(Key("store-2", key.row)) == LedgerRow()
    assert await store.read_ledger(Key(key.event_code, key.row + "-2")) == LedgerRow()


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER, Fault.LATE])
async def test_failed_write_of_the_fake_hides_its_outcome_as_the_tables_do(fault: Fault, key: Key) -> None:
    fake = FakeLedger(always=fault)
    with pytest.raises(StoreUnavailable):
        await fake.write_ledger(key, FULL)
    assert (fake.row(key) != LedgerRow()) == (fault is Fault.AFTER)
    for _ in list(fake.late):
        fake.deliver()
    assert (fake.row(key) != LedgerRow()) == (fault is not Fault.BEFORE)


async def test_tables_that_do_not_respond_are_unavailable(key: Key) -> None:
    async with TableTap(target=None).open() as tap:
        unavailable = Tables(open_service(tap.connection_string, None))
        with pytest.raises(StoreUnavailable):
            await unavailable.read_ledger(key)
        with pytest.raises(StoreUnavailable):
            await unavailable.write_ledger(key, FULL)
        await unavailable.close()


@pytest.mark.parametrize("version", ["insert", "update"])
async def test_write_is_sent_once_even_if_its_connection_is_closed(
    azurite: Azurite, tables: Tables, key: Key, version: str
) -> None:
    before = FULL if version == "insert" else await tables.write_ledger(key, FULL)
    async with TableTap(azurite.port).open() as tap:
        through = Tables(open_service(tap.connection_string, None))
        await through.read_ledger(key)  # so that the write uses an open connection
        tap.loses_responses = True
        before_write = len(tap.requests)
        with pytest.raises(StoreUnavailable):
            await through.write_ledger(key, before._replace(writer="instance-9"))
        assert len(tap.requests) - before_write == 1
        await through.close()
    assert (await tables.read_ledger(key)).writer == "instance-9"


@pytest.fixture
async def quotas(azurite: Azurite, tables: Tables) -> AsyncIterator[TableClient]:
    service = open_service(azurite.connection_string, None)
    yield service.get_table_client("quotas")
    await service.close()


@pytest.mark.parametrize(
    "invalid",
    [
        {"requests_granted": "many"},
        {"requests_granted": ""},
        {"requests_granted": True},
        {"requests_used": 1.5},
        {"tokens_granted": EntityProperty(-1, EdmType.INT64)},
        {"tokens_used": "12"},
        {"tokens_used": None},
        {"cost_used": "12"},
        {"cost_granted": EntityProperty(-1, EdmType.INT64)},
    ],
)
async def test_invalid_row_is_never_read_as_an_empty_one(
    tables: Tables,
    quotas: TableClient,
    key: Key,
    invalid: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    entity = ledger_to_row(key, FULL) | invalid
    await quotas.upsert_entity({name: value for name, value in entity.items() if value is not None})
    with pytest.raises(StoreUnavailable):
        await tables.read_ledger(key)
    assert "quotas" in caplog.text and "event store" in caplog.text and "2026-01-31" in caplog.text
    assert "amy" not in caplog.text


async def test_rows_of_this_version_and_the_earlier_one_that_has_no_money_fit_together(
    tables: Tables, quotas: TableClient, key: Key
) -> None:
    earlier = {name: value for name, value in ledger_to_row(key, FULL).items() if "cost" not in name}
    await quotas.upsert_entity(earlier)
    row = await tables.read_ledger(key)
    assert (row.granted, row.used) == (Amount(7, 2**40), Amount(3, 2**33))
    await tables.write_ledger(key, row._replace(granted=FULL.granted))
    await quotas.update_entity(earlier)  # a merge, as the earlier version writes
    assert (await tables.read_ledger(key)).granted == FULL.granted
