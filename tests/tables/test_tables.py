"""The stores on a real table service: reading and writing, rows damaged by hand, and outages."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables.aio import TableServiceClient

from shared.core.counts import Counts, Minute, UsageRow
from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Event, Health, LongPrices
from shared.quota.amounts import Amount
from shared.quota.ledger_row import Key, LedgerRow
from shared.tables.columns import LARGEST
from shared.tables.deployment_rows import deployment_from_row, deployment_to_row
from shared.tables.event_rows import EVENT_ROW, event_to_row
from shared.tables.service import DEPLOYMENTS, EVENTS, LARGEST_BATCH, open_service
from shared.tables.usage_rows import usage_from_row, usage_to_row
from tests.seeded_tables import Tables
from tests.tables.stored import (
    END,
    HOUR,
    START,
    code,
    full_deployment,
    full_event,
    own_deployment,
    plain_deployment,
    plain_event,
)
from tools.azurite import Azurite

pytestmark = pytest.mark.one_python

WriteRow = Callable[[dict[str, Any]], Awaitable[None]]


@pytest.mark.parametrize("event", [full_event(), plain_event()], ids=["full", "plain"])
async def test_an_event_is_read_as_it_was_written(tables: Tables, event: Event) -> None:
    await tables.add_event(event)
    read = await tables.event(event.code)
    assert read == event
    assert read is not None
    assert type(read.starts_at) is datetime


@pytest.mark.parametrize("deployment", [full_deployment(), plain_deployment()], ids=["full", "plain"])
async def test_a_deployment_is_read_as_it_was_written(
    tables: Tables, service: TableServiceClient, deployment: Deployment
) -> None:
    await tables.add_deployment(deployment)
    assert await own_deployment(tables, deployment.id) == deployment
    await service.get_table_client(DEPLOYMENTS).delete_entity(deployment.model, deployment.id)


@pytest.mark.parametrize("code", ["unknown", ".", "..", "-", "_", "a" * 64])
async def test_a_missing_event_is_none(tables: Tables, code: str) -> None:
    assert await tables.event(code) is None


VALID_EDITS: list[tuple[str, Any, str, object]] = [
    ("starts_at", "2026-03-28T22:30:00Z", "starts_at", START),
    ("starts_at", "2026-03-28T23:30:00+01:00", "starts_at", START),
    ("starts_at", "2026-03-28 22:30", "starts_at", START),
    ("models", " gpt-4o , ,o3,", "models", ("gpt-4o", "o3")),
    ("requests_per_day", 5, "requests_per_day", 5),
    ("requests_per_day", "5", "requests_per_day", 5),
    ("requests_per_day", 5.0, "requests_per_day", 5),
    ("requests_per_day", "", "requests_per_day", None),
    ("time_zone", "", "time_zone", ZoneInfo("UTC")),
    ("default_model", "", "default_model", None),
    ("tools", " web_search , mcp", "tools", ("web_search", "mcp")),
    ("colour", "blue", "name", ""),
]


@pytest.mark.parametrize(("column", "value", "name", "expected"), VALID_EDITS)
async def test_a_valid_edit_by_hand_is_accepted(
    tables: Tables, service: TableServiceClient, column: str, value: object, name: str, expected: object
) -> None:
    event = plain_event()
    await service.get_table_client(EVENTS).upsert_entity({**event_to_row(event), column: value})
    assert await tables.event(event.code) == replace(event, **{name: expected})  # type: ignore[arg-type]


async def test_a_deployment_row_of_an_earlier_version_serves_chat_and_responses() -> None:
    row = deployment_to_row(full_deployment())
    del row["apis"]
    assert deployment_from_row(row).apis == ("chat", "responses")


async def test_an_event_row_needs_only_its_times(tables: Tables, service: TableServiceClient) -> None:
    event = plain_event()
    row = {"PartitionKey": event.code, "RowKey": EVENT_ROW, "starts_at": START, "ends_at": END}
    await service.get_table_client(EVENTS).upsert_entity(row)
    assert await tables.event(event.code) == event


INVALID_EDITS: list[tuple[str, Any]] = [
    ("pass_secret", ""),  # although its access is not open
    ("access", "Open"),
    ("seats", -1),
    ("exceptions", "{"),
    ("exceptions", '{"amy": 5}'),
    ("exceptions", '{"amy": {"blocked": "yes"}}'),
    ("exceptions", '{"amy": {"tokens_per_day": -1}}'),
    ("exceptions", '{"amy": {"pass_number": true}}'),
    ("exceptions", '{"amy": {"tokens_per_day": 5000000000000000000}}'),
    ("exceptions", '{"amy": {"note": ' + "[" * 9000 + "]" * 9000 + "}}"),
    ("starts_at", "soon"),
    ("starts_at", 5),
    ("starts_at", True),
    ("starts_at", ""),
    ("ends_at", "0001-01-01T00:00:00+14:00"),
    ("active", "true"),
    ("active", 1),
    ("name", 5),
    ("organizer", 5),
    ("models", 5),
    ("models", True),
    ("default_model", 5),
    ("time_zone", 5),
    ("time_zone", "Mars/Olympus"),
    ("time_zone", "Europe"),
    ("time_zone", "localtime"),
    ("time_zone", "Factory"),
    ("time_zone", "posix/Europe/Berlin"),
    ("time_zone", "right/UTC"),
    ("time_zone", "../etc/passwd"),
    ("time_zone", "x" * 5_000),
    ("requests_per_day", -1),
    ("requests_per_day", "many"),
    ("requests_per_day", True),
    ("requests_per_day", float("inf")),
    ("requests_per_day", float("nan")),
    ("requests_per_day", 0.5),
    ("requests_per_day", UUID(int=5)),
    ("tokens_total", 1e300),
    ("tokens_total", "9" * 20),
    ("tokens_total", EntityProperty(-(2**40), EdmType.INT64)),
    ("max_output_tokens", START),
    ("parallel", 0),
    ("parallel", 1001),
    ("parallel", "a few"),
    ("store_responses", "no"),
    ("id_secret", 5),
    ("starts_at", "9999-12-31T23:59:00Z"),  # the next day, and so the year 10000, in the event's time zone
]


@pytest.fixture
async def write_row(service: TableServiceClient) -> AsyncIterator[WriteRow]:
    """Writes an event's row, and deletes it after the test. One unreadable row makes listing events fail."""
    client = service.get_table_client(EVENTS)
    written = []

    async def write(row: dict[str, Any]) -> None:
        await client.upsert_entity(row)
        written.append(row["PartitionKey"])

    yield write
    for name in written:
        await client.delete_entity(name, EVENT_ROW)


@pytest.mark.parametrize(("column", "value"), INVALID_EDITS)
async def test_an_unreadable_event_is_unavailable_and_not_missing(
    tables: Tables, write_row: WriteRow, column: str, value: object
) -> None:
    event = full_event()
    await write_row({**event_to_row(event), column: value})
    with pytest.raises(StoreUnavailable) as caught:
        await tables.event(event.code)
    assert caught.value.message == "This event is not set up correctly. Ask your organiser to fix it."


@pytest.mark.parametrize("missing", ["starts_at", "ends_at"])
async def test_an_event_without_its_times_is_unavailable(
    tables: Tables, write_row: WriteRow, missing: str
) -> None:
    row = event_to_row(full_event())
    del row[missing]
    await write_row(row)
    with pytest.raises(StoreUnavailable):
        await tables.event(row["PartitionKey"])


@pytest.mark.parametrize(
    ("column", "value", "name", "expected"),
    [
        ("priority", EntityProperty(7, EdmType.INT64), "priority", 7),
        ("weight", "7", "weight", 7),
        ("prompt_price", 3, "prompt_price", 3.0),
        ("prompt_price", EntityProperty(3, EdmType.INT64), "prompt_price", 3.0),
        ("prompt_price", "", "prompt_price", None),
        ("prompt_price", 0.1, "prompt_price", Decimal("0.1")),
        ("prompt_price", "0.12345601", "prompt_price", Decimal("0.123457")),
        ("currency", "", "currency", "USD"),
        ("long_prices", "1:5/0.5/2", "long_prices", LongPrices(1, Decimal(5), Decimal("0.5"), Decimal(2))),
        ("endpoint", "https://two.openai.azure.com/", "endpoint", "https://two.openai.azure.com"),
        ("api_version", "", "api_version", "v1"),
        ("auth", "", "auth", "managed-identity"),
        ("output_field", "", "output_field", "max_completion_tokens"),
        ("apis", "", "apis", ("chat", "responses")),
        ("apis", " Images, chat,", "apis", ("chat", "images")),
    ],
)
async def test_a_valid_edit_of_a_deployment_is_accepted(
    tables: Tables, service: TableServiceClient, column: str, value: object, name: str, expected: object
) -> None:
    deployment = plain_deployment()
    client = service.get_table_client(DEPLOYMENTS)
    await client.upsert_entity({**deployment_to_row(deployment), column: value})
    read = await own_deployment(tables, deployment.id)
    await client.delete_entity(deployment.model, deployment.id)
    assert read == replace(deployment, **{name: expected})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("endpoint", "one.openai.azure.com"),
        ("endpoint", "https://"),
        ("endpoint", "https://["),
        ("endpoint", "https://one.openai.azure.com:99999"),
        ("endpoint", "ftp://one.openai.azure.com"),
        ("endpoint", 5),
        ("endpoint", ""),
        ("deployment_name", ""),
        ("deployment_name", 5),
        ("api_version", 20241021),
        ("auth", True),
        ("priority", "first"),
        ("priority", float("inf")),
        ("weight", 1.5),
        ("weight", ""),
        ("prompt_price", "dear"),
        ("prompt_price", "1,5"),
        ("prompt_price", "nan"),
        ("prompt_price", -1),
        ("completion_price", float("inf")),
        ("cached_prompt_price", "1000001"),
        ("cached_prompt_price", True),
        ("long_prices", "272000:5/22.5"),
        ("long_prices", "5/0.5/22.5"),
        ("long_prices", "0:5/0.5/22.5"),
        ("long_prices", "1:5//22.5"),
        ("currency", "euro"),
        ("output_field", "max_words"),
        ("apis", "chat,speech"),
        ("active", "yes"),
    ],
)
async def test_an_unreadable_deployment_is_left_out_and_the_others_stay(
    tables: Tables, service: TableServiceClient, column: str, value: object
) -> None:
    unreadable, valid = full_deployment(), full_deployment()
    client = service.get_table_client(DEPLOYMENTS)
    await client.upsert_entity({**deployment_to_row(unreadable), column: value})
    await client.upsert_entity(deployment_to_row(valid))
    read = {one.id for one in await tables.deployments()}
    for one in (unreadable, valid):
        await client.delete_entity(one.model, one.id)
    assert valid.id in read
    assert unreadable.id not in read


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[tuple[Azurite, Tables]]:
    """A separate table service, which the tests stop and kill."""
    with Azurite(None) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        yield azurite, tables
        await tables.close()


@pytest.fixture(scope="module")
async def bare() -> AsyncIterator[Tables]:
    """A table service without tables."""
    with Azurite(None) as azurite:
        tables = Tables(open_service(azurite.connection_string, None))
        yield tables
        await tables.close()


async def test_reading_a_missing_table_is_an_outage(bare: Tables) -> None:
    for read in (bare.event("demo"), bare.deployments(), bare.check()):
        with pytest.raises(StoreUnavailable):
            await read


def test_a_deployment_row_whose_key_is_no_text_cannot_be_read() -> None:
    with pytest.raises(TypeError, match="PartitionKey"):
        deployment_from_row({**deployment_to_row(full_deployment()), "PartitionKey": 5})


@pytest.mark.parametrize("setting", ["PROXY_TABLES", "AzureWebJobsStorage", "AZURE_CLIENT_SECRET"])
def test_a_deployment_cannot_use_the_apps_own_settings_as_its_key(setting: str) -> None:
    row = deployment_to_row(replace(full_deployment(), auth=setting))
    with pytest.raises(ValueError, match="own"):
        deployment_from_row(row)


async def test_writing_to_a_missing_table_is_an_outage(bare: Tables) -> None:
    for write in (bare.add_event(full_event()), bare.add_deployment(full_deployment())):
        with pytest.raises(StoreUnavailable):
            await write


async def test_a_wrong_account_key_is_an_outage(own: tuple[Azurite, Tables]) -> None:
    azurite, _ = own
    start, key, end = azurite.connection_string.partition("AccountKey=")
    tables = Tables(open_service(f"{start}{key}d3Jvbmc=;{end.partition(';')[2]}", None))
    with pytest.raises(StoreUnavailable):
        await tables.event("demo")
    await tables.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP on Windows")
async def test_tables_that_hang_are_an_outage(own: tuple[Azurite, Tables]) -> None:
    azurite, tables = own
    await tables.create_tables()
    azurite.suspend()
    try:
        with pytest.raises(StoreUnavailable):
            await tables.event("demo")
    finally:
        azurite.resume()
    assert await tables.event("demo") is None


async def test_killed_tables_are_an_outage_until_they_restart(own: tuple[Azurite, Tables]) -> None:
    azurite, tables = own
    azurite.kill()
    for call in (
        tables.event("demo"),
        tables.deployments(),
        tables.check(),
        tables.create_tables(),
        tables.add_event(full_event()),
        tables.add_deployment(full_deployment()),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    azurite.start()
    await tables.create_tables()
    event = full_event()
    await tables.add_event(event)
    assert await tables.event(event.code) == event


def usage_row(event_code: str, user: str = "amy", **counts: int) -> UsageRow:
    return UsageRow(event_code, HOUR, user, "gpt-4o", Counts(**counts))


async def test_each_writers_usage_is_read_as_it_was_written(tables: Tables) -> None:
    event, other = code(), code()
    minutes = {0: Minute(1, 2), 59: Minute(0, 0, 2**62, 4, 5)}
    row = UsageRow(event, HOUR, "a.b+c@d-e_f", "", Counts(1, 2, 2**40, 4, 5), minutes, "rate_limited")
    await tables.write_usage([row, usage_row(event, requests=1), usage_row(other, requests=9)], "one")
    await tables.write_usage([usage_row(event, requests=2)], "two")
    expected = [row, usage_row(event, requests=1), usage_row(event, requests=2)]
    assert sorted(await tables.usage(event)) == sorted(expected)


@pytest.mark.parametrize(
    "minutes", [None, 5, "{", "[]", '{"60":[1,1,1,1,1]}', '{"0":[1]}', '{"0":[-1,0,0,0,0]}']
)
def test_usage_with_wrong_minutes_still_counts(minutes: object) -> None:
    entity = usage_to_row(usage_row("hackathon", requests=3), "w") | {"minutes": minutes}
    assert usage_from_row(entity) == usage_row("hackathon", requests=3)


async def test_rewritten_usage_counts_once(tables: Tables) -> None:
    event = code()
    await tables.write_usage([usage_row(event, requests=1)], "one")
    await tables.write_usage([usage_row(event, requests=3)], "one")
    assert await tables.usage(event) == [usage_row(event, requests=3)]


async def test_usage_that_needs_several_batches_is_written_completely(tables: Tables) -> None:
    event = code()
    rows = [usage_row(event, f"user-{number}", requests=number) for number in range(250)]
    await tables.write_usage(rows, "one")
    assert sorted(await tables.usage(event)) == sorted(rows)


@pytest.mark.parametrize("model", ["a/b", "a\nb", "m" * 2000])
async def test_usage_that_the_table_refuses_is_dropped_and_the_rest_is_written(
    tables: Tables, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    event, other = code(), code()
    good = [usage_row(event, f"user-{number}", requests=number) for number in range(5)]
    refused = UsageRow(event, HOUR, "user-2", model, Counts(1))
    await tables.write_usage([*good, refused, usage_row(other, requests=1)], "one")
    assert sorted(await tables.usage(event)) == good
    assert await tables.usage(other) == [usage_row(other, requests=1)]
    assert f"refused a row of event {event}, hour 2026-12-01T09" in caplog.text
    assert "user-2" not in caplog.text


@pytest.mark.parametrize("number", [2**62 + 1, 2**63, 10**30])
async def test_number_that_fits_into_no_column_is_written_as_the_largest(
    tables: Tables, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    event = code()
    await tables.write_usage([usage_row(event, prompt_tokens=number)], "one")
    assert await tables.usage(event) == [usage_row(event, prompt_tokens=LARGEST)]
    key = Key(event, "amy:2026-12-01")
    written = await tables.write_ledger(key, LedgerRow(Amount(1, number), Amount(1, number)))
    assert await tables.read_ledger(key) == written._replace(
        granted=Amount(1, LARGEST), used=Amount(1, LARGEST), writer=""
    )
    assert "2^62 is written instead" in caplog.text


async def test_codes_of_all_events_are_read_in_pages(own: tuple[Azurite, Tables]) -> None:
    _, tables = own
    await tables.create_tables()
    codes = {f"page-{number}" for number in range(2 * LARGEST_BATCH + 1)}
    for name in codes:
        await tables.put_event(replace(plain_event(), code=name))
    assert codes <= await tables.event_codes()


async def test_writing_health_keeps_the_rest_of_the_deployment(tables: Tables) -> None:
    deployment = Deployment(code(), "one", "https://one.example", "one")
    await tables.add_deployment(deployment)
    key = (deployment.model, deployment.id)
    assert key not in await tables.health()
    cooling = Health(HOUR, "429", HOUR + timedelta(seconds=60))
    for health in (cooling, Health(HOUR + timedelta(seconds=61), "ok")):
        await tables.write_health(deployment, health)
        assert (await tables.health())[key] == health
        assert deployment in await tables.deployments()


async def test_health_of_a_deleted_deployment_is_not_written(tables: Tables) -> None:
    deleted = Deployment(code(), "one", "https://one.example", "one")
    await tables.write_health(deleted, Health(HOUR, "ok"))
    assert (deleted.model, deleted.id) not in await tables.health()


@pytest.mark.parametrize("short", ["", "by hand"])
async def test_two_instances_give_an_event_without_a_usable_secret_one_secret(
    tables: Tables, short: str
) -> None:
    event = full_event()
    await tables.put_event(replace(event, id_secret=short))
    found = await tables.event(event.code)
    assert found is not None and not found.id_secret
    first, second = await asyncio.gather(*[tables.add_id_secret(event.code) for _ in range(2)])
    assert first == second and len(first or "") == 64
    assert await tables.event(event.code) == replace(event, id_secret=first or "")
    assert await tables.add_id_secret("no-such-event") is None
