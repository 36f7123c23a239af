"""The deletion of old rows, on a real table service."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from azure.data.tables.aio import TableServiceClient

from function_app import create_app
from shared.app.web import Web
from shared.core.counts import Counts, UsageRow
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key, LedgerRow
from shared.quota.standing import TOTAL_ROW
from shared.tables.retention import Retention
from shared.tables.service import open_service
from tests.conftest import EVENT
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.functions_host import FunctionsHost
from tools.tap import TableTap

pytestmark = pytest.mark.one_python

NOW = datetime.now(UTC)
USAGE_DAYS, QUOTA_DAYS = 90, 30
_codes = count(1)


@pytest.fixture(scope="module")
def own() -> Iterator[Azurite]:
    """A separate table service, because other tests' old rows would be deleted too."""
    with Azurite(None) as azurite:
        yield azurite


@pytest.fixture
async def service(own: Azurite) -> AsyncIterator[TableServiceClient]:
    async with open_service(own.connection_string, None) as service:
        yield service


@pytest.fixture
async def tables(service: TableServiceClient) -> Tables:
    tables = Tables(service)
    await tables.create_tables()
    return tables


def retention(tables: Tables, now: datetime = NOW, longest_seconds: float = 60) -> Retention:
    return Retention(tables, USAGE_DAYS, QUOTA_DAYS, lambda: now, longest_seconds)


def code() -> str:
    return f"old-{next(_codes)}"


async def add_usage(tables: Tables, event_code: str, at: datetime, users: int = 1) -> None:
    hour = at.replace(minute=0, second=0, microsecond=0)
    rows = [UsageRow(event_code, hour, f"user-{number}", "gpt-4o", Counts(1)) for number in range(users)]
    await tables.write_usage(rows, "writer")


async def add_quota(tables: Tables, event_code: str, *names: str) -> None:
    for name in names:
        await tables.write_ledger(Key(event_code, name), LedgerRow(Amount(1, 1), Amount(1, 1), "writer"))


async def quota_rows(tables: Tables, event_code: str) -> list[str]:
    return [row.key async for page in tables.row_keys.pages("quotas", event_code) for row in page]


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


async def test_usage_rows_are_deleted_after_their_days(tables: Tables) -> None:
    one, other = code(), code()
    hours = [days_ago(0), days_ago(1), days_ago(USAGE_DAYS), days_ago(USAGE_DAYS + 1 / 24), days_ago(400)]
    for hour in hours:
        await add_usage(tables, one, hour)
    await add_usage(tables, other, days_ago(USAGE_DAYS + 1))
    await retention(tables).remove_old_rows()
    assert {row.hour for row in await tables.usage(one)} == {
        hour.replace(minute=0, second=0, microsecond=0) for hour in hours[:3]
    }
    assert await tables.usage(other) == []


async def test_a_users_quota_rows_are_deleted_after_their_days(tables: Tables) -> None:
    event_code = code()
    names = [f"amy:{days_ago(days).date()}" for days in (0, 1, QUOTA_DAYS, QUOTA_DAYS + 1, 400)]
    await add_quota(tables, event_code, *names)
    await retention(tables).remove_old_rows()
    assert set(await quota_rows(tables, event_code)) == set(names[:3])


async def test_a_new_quota_row_without_a_valid_day_is_kept(tables: Tables) -> None:
    event_code = code()
    names = ["amy", "amy:2020-13-40", "2020-01-01x"]
    await add_quota(tables, event_code, *names)
    await retention(tables).remove_old_rows()
    assert set(await quota_rows(tables, event_code)) == set(names)


@pytest.mark.parametrize(
    ("ends_after_days", "runs_after_days", "stays"),
    [
        (400, 399, True),  # open, although the last call was long ago
        (1, QUOTA_DAYS - 1, True),
        (1, QUOTA_DAYS + 0.9, True),
        (1, QUOTA_DAYS + 1.1, False),
        (-400, QUOTA_DAYS - 1, True),  # ended long ago, but reopened: its row is new
        (None, QUOTA_DAYS - 1, True),  # the event was deleted, and may be created again
        (None, QUOTA_DAYS + 1, False),
    ],
)
async def test_an_events_total_is_kept_while_the_event_may_be_open(
    tables: Tables, ends_after_days: float | None, runs_after_days: float, stays: bool
) -> None:
    event_code = code()
    await add_quota(tables, event_code, TOTAL_ROW)
    if ends_after_days is not None:
        ends_at = NOW + timedelta(days=ends_after_days)
        starts_at = ends_at - timedelta(days=1)
        await tables.put_event(replace(EVENT, code=event_code, starts_at=starts_at, ends_at=ends_at))
    await retention(tables, NOW + timedelta(days=runs_after_days)).remove_old_rows()
    assert await quota_rows(tables, event_code) == ([TOTAL_ROW] if stays else [])


async def test_the_total_of_a_renamed_event_is_kept_while_the_event_may_be_open(tables: Tables) -> None:
    """It stands under the code that the event had first."""
    first, ends_at = code(), NOW + timedelta(days=200)
    await add_quota(tables, first, TOTAL_ROW)
    await tables.put_event(replace(EVENT, code=code(), first_code=first, ends_at=ends_at))
    await retention(tables, NOW + timedelta(days=199)).remove_old_rows()
    assert await quota_rows(tables, first) == [TOTAL_ROW]
    await retention(tables, NOW + timedelta(days=200 + QUOTA_DAYS + 1)).remove_old_rows()
    assert await quota_rows(tables, first) == []


async def test_the_total_of_an_unreadable_event_is_kept(tables: Tables, service: TableServiceClient) -> None:
    unreadable, other = code(), code()
    for event_code in (unreadable, other):
        await add_quota(tables, event_code, TOTAL_ROW)
    await service.get_table_client("events").upsert_entity({"PartitionKey": unreadable, "RowKey": "event"})
    await retention(tables, NOW + timedelta(days=400)).remove_old_rows()
    assert await quota_rows(tables, unreadable) == [TOTAL_ROW]
    assert await quota_rows(tables, other) == []


async def test_two_instances_can_delete_many_rows_at_once(
    tables: Tables, own: Azurite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event_code = code()
    await add_usage(tables, event_code, days_ago(100), users=1250)
    await add_usage(tables, event_code, NOW, users=3)
    await add_quota(tables, event_code, *(f"user-{n}:{days_ago(100).date()}" for n in range(30)))
    async with open_service(own.connection_string, None) as other:
        await asyncio.gather(retention(tables).remove_old_rows(), retention(Tables(other)).remove_old_rows())
    assert len(await tables.usage(event_code)) == 3
    assert await quota_rows(tables, event_code) == []
    messages = [record.message for record in caplog.records if record.message.startswith("deleted")]
    assert len(messages) == 2
    assert all(message.endswith("no old rows are left") for message in messages)


async def test_one_log_line_has_the_numbers_of_deleted_rows(
    tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await retention(tables).remove_old_rows()
    caplog.clear()
    event_code = code()
    await add_usage(tables, event_code, days_ago(100), users=7)
    await add_quota(tables, event_code, f"amy:{days_ago(100).date()}", f"bob:{days_ago(0).date()}")
    await retention(tables).remove_old_rows()
    own_lines = [record.message for record in caplog.records if record.name == "shared.tables.retention"]
    assert own_lines == ["deleted 7 usage rows and 1 quota rows: no old rows are left"]


async def test_deletion_stops_at_its_time_limit_while_the_tables_hang(
    tables: Tables, own: Azurite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    event_code = code()
    await add_usage(tables, event_code, days_ago(100))
    tap = TableTap(target=own.port)
    async with tap.open(), open_service(tap.connection_string, None) as hanging:
        tap.passing.clear()
        await retention(Tables(hanging), longest_seconds=0.2).remove_old_rows()
        tap.passing.set()
    assert "deleted 0 usage rows and 0 quota rows: out of time, the next run continues" in caplog.text
    await retention(tables).remove_old_rows()
    assert await tables.usage(event_code) == []


async def test_an_outage_during_deletion_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with TableTap().open() as tap, open_service(tap.connection_string, None) as service:
        await retention(Tables(service)).remove_old_rows()
    assert "the tables are unavailable, the next run continues" in caplog.text


async def test_the_apps_only_timer_deletes_old_rows_once_a_night(tables: Tables, own: Azurite) -> None:
    event_code = code()
    await add_usage(tables, event_code, days_ago(91))
    await add_usage(tables, event_code, days_ago(89))
    web = Web({"PROXY_TABLES": own.connection_string})
    triggers = [function.get_trigger() for function in create_app(web).get_functions()]
    (timer,) = [one.get_dict_repr() for one in triggers if one and one.type == "timerTrigger"]
    assert re.fullmatch(r"\d+ \d+ \d+ \* \* \*", timer["schedule"])  # second, minute and hour of each day
    assert not timer["runOnStartup"]
    async with FunctionsHost(create_app(web)) as host:
        await host.run_timer("remove_old_rows")
    await web.close()
    assert len(await tables.usage(event_code)) == 1


async def test_the_days_can_be_configured(tables: Tables, own: Azurite) -> None:
    event_code = code()
    await add_usage(tables, event_code, days_ago(3))
    await add_quota(tables, event_code, f"amy:{days_ago(4).date()}")
    settings = {"PROXY_KEEP_USAGE_DAYS": "2", "PROXY_KEEP_QUOTA_DAYS": "3"}
    web = Web({"PROXY_TABLES": own.connection_string, **settings})
    await web.remove_old_rows()
    await web.close()
    assert await tables.usage(event_code) == []
    assert await quota_rows(tables, event_code) == []


async def test_a_cancelled_deletion_ends_normally(tables: Tables, environment: dict[str, str]) -> None:
    """If a timer raises `CancelledError`, the Functions host waits for its end forever."""
    async with TableTap().open() as tap:
        tap.target = int(environment["PROXY_TABLES"].split("127.0.0.1:")[1].split("/")[0])
        tap.passing.clear()
        web = Web(environment | {"PROXY_TABLES": tap.connection_string})
        removing = asyncio.create_task(web.remove_old_rows())
        await tap.request_arrived.wait()
        removing.cancel()
        await asyncio.wait({removing})
        assert not removing.cancelled()
        tap.passing.set()
        await web.close()


async def test_odd_keys_do_not_stop_the_deletion(tables: Tables, service: TableServiceClient) -> None:
    """Rows that were written by hand."""
    day = days_ago(100).date().isoformat()
    partitions = ["it's", "a b", "%41", "$x", "x' or 1 eq 1", "日本", "\U0001f600", "\ufb00", "zz-last"]
    for name in partitions:
        for table, key in (
            ("usage", f"{day}T00:b'c:m:w"),
            ("usage", "0%2"),
            ("quotas", f"b'c 日本:{day}"),
            ("quotas", f"%41:{day}"),
        ):
            await service.get_table_client(table).upsert_entity({"PartitionKey": name, "RowKey": key})
    await retention(tables).remove_old_rows()
    for table in ("usage", "quotas"):
        left = {row["PartitionKey"] async for row in service.get_table_client(table).list_entities()}
        assert not left & set(partitions)
