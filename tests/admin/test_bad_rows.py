"""Rows that were edited by hand: the commands list the rest, name the bad row, and can correct or delete it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.core.counts import Counts, UsageRow
from shared.core.models import Deployment
from shared.tables.deployment_rows import deployment_to_row
from shared.tables.event_rows import event_to_row
from shared.tables.service import DEPLOYMENTS, EVENTS, USAGE
from shared.tables.usage_rows import usage_to_row
from tests.admin.manage import manage
from tests.conftest import EVENT, MODEL, QUESTION, Stage
from tests.seeded_tables import Tables
from tools.azurite import Azurite

GOOD = Deployment("edited", "good", "https://one.openai.azure.com", "one")
Write = Callable[[str, dict[str, Any]], Awaitable[None]]


@pytest.fixture
async def write(service: TableServiceClient) -> AsyncIterator[Write]:
    """Writes a row, and deletes it at the end: other tests list the same tables."""
    written = []

    async def write(table: str, row: dict[str, Any]) -> None:
        await service.get_table_client(table).upsert_entity(row, mode="replace")
        written.append((table, row["PartitionKey"], row["RowKey"]))

    yield write
    for table, *key in written:
        await service.get_table_client(table).delete_entity(*key)


def event_row(code: str, **columns: object) -> dict[str, Any]:
    """The row of an event with these columns; None leaves a column out."""
    row = event_to_row(replace(EVENT, code=code)) | columns
    return {name: value for name, value in row.items() if value is not None}


def deployment_row(deployment_id: str, **columns: object) -> dict[str, Any]:
    return deployment_to_row(replace(GOOD, id=deployment_id, deployment_name=deployment_id)) | columns


BAD_EVENTS = {
    "requests_per_day": ("1,000", "requests_per_day is '1,000'", ("--requests-per-day", "1000")),
    "starts_at": (None, "starts_at is missing", ("--starts", "2026-01-01")),
    "ends_at": ("tomorrow", "ends_at is 'tomorrow'", ("--ends", "2036-01-01")),
    "active": ("yes", "active is 'yes'", ("--resume",)),
    "time_zone": ("Berlin", "time_zone is 'Berlin'", ("--time-zone", "Europe/Berlin")),
    "models": (5, "models is 5", ("--models", "")),
    "parallel": (0, "parallel is 0", ("--parallel", "4")),
    "tools": (5, "tools is 5", ("--tools", "")),
    "store_responses": ("no", "store_responses is 'no'", ("--stored-responses",)),
}


@pytest.mark.parametrize("column", BAD_EVENTS)
async def test_a_bad_event_is_named_shown_and_corrected(
    tables: Tables, azurite: Azurite, write: Write, column: str
) -> None:
    value, problem, correction = BAD_EVENTS[column]
    await write(EVENTS, event_row("bad", name="Spoilt", **{column: value}))
    await write(EVENTS, event_row("fine"))
    text = f"The event 'bad' cannot be read: {problem}."
    for output in ((), ("--json",)):
        listed = await manage(azurite, "events", "list", *output)
        assert listed.status == 0 and "fine" in listed.output and text in listed.errors
        shown = await manage(azurite, "events", "show", "bad", *output)
        assert shown.status == 0 and "Spoilt" in shown.output and problem in shown.output
    refused = await manage(azurite, "events", "update", "bad", "--organizer", "Ann")
    assert refused.status == 2 and text in refused.error and correction[0] in refused.error
    corrected = await manage(azurite, "events", "update", "bad", "--organizer", "Ann", *correction)
    assert corrected.status == 0, corrected.errors
    event = await tables.event("bad")
    assert event is not None and (event.name, event.organizer) == ("Spoilt", "Ann")


async def test_exceptions_that_cannot_be_read_are_removed_with_every_pass(
    tables: Tables, azurite: Azurite, write: Write
) -> None:
    """They may say which passes are void. Without them, those would be valid again."""
    await write(EVENTS, event_row("lost", access="claim", pass_secret="p" * 64, exceptions='{"amy":'))
    refused = await manage(azurite, "events", "show", "lost")
    assert "--no-exceptions`. This makes every pass void." in refused.output
    corrected = await manage(azurite, "events", "update", "lost", "--no-exceptions")
    event = await tables.event("lost")
    assert event is not None and event.exceptions == {} and event.pass_secret != "p" * 64
    assert "every pass is void" in corrected.output and "attendees passes lost" in corrected.output


async def test_several_bad_columns_are_all_named_and_corrected_together(
    tables: Tables, azurite: Azurite, write: Write
) -> None:
    await write(EVENTS, event_row("worse", starts_at=None, ends_at=5, tokens_total="many"))
    command = ("events", "update", "worse", "--starts", "2026-01-01", "--tokens-total", "9000")
    refused = await manage(azurite, *command)
    assert "starts_at is missing, ends_at is 5, tokens_total is 'many'" in refused.error
    assert (await manage(azurite, *command, "--ends", "2036-01-01")).status == 0
    event = await tables.event("worse")
    assert event is not None and event.tokens_total == 9000


KEYS = {
    "code in capitals": ("Capitals", "event", "PartitionKey is 'Capitals'"),
    "code with a space": ("two words", "event", "PartitionKey is 'two words'"),
    "other row key": ("other-key", "Event", "RowKey is 'Event'"),
}


@pytest.mark.parametrize(("code", "row_key", "problem"), KEYS.values(), ids=KEYS)
async def test_an_event_that_no_attendee_can_reach_by_its_key_is_named_and_deleted(
    service: TableServiceClient, azurite: Azurite, write: Write, code: str, row_key: str, problem: str
) -> None:
    await write(EVENTS, event_row(code, RowKey=row_key))
    assert problem in (await manage(azurite, "events", "list")).errors
    assert problem in (await manage(azurite, "events", "show", code)).output
    assert problem in (await manage(azurite, "events", "update", code, "--name", "New")).error
    assert (await manage(azurite, "events", "delete", code, "--yes")).status == 0
    assert problem not in (await manage(azurite, "events", "list")).errors


async def test_a_row_with_a_wrong_key_is_deleted_and_not_the_event_of_the_same_code(
    tables: Tables, service: TableServiceClient, azurite: Azurite, write: Write
) -> None:
    await write(EVENTS, event_row("shared-code"))
    for key in ("Shared-Code/event", "shared-code/copy"):
        code, row_key = key.split("/")
        await write(EVENTS, event_row(code, RowKey=row_key))
        advice = f"Delete it with `events delete {key}`."
        assert advice in (await manage(azurite, "events", "list")).errors
        assert (await manage(azurite, "events", "delete", key, "--yes")).status == 0
        assert await tables.event("shared-code") is not None
        assert advice not in (await manage(azurite, "events", "list")).errors
        assert "There is no event" in (await manage(azurite, "events", "show", key)).error


async def test_a_bad_event_can_be_stopped_or_deleted(tables: Tables, azurite: Azurite, write: Write) -> None:
    await write(EVENTS, event_row("halting", active="no"))
    assert (await manage(azurite, "events", "stop", "halting")).status == 0
    event = await tables.event("halting")
    assert event is not None and not event.active
    await write(EVENTS, event_row("dropped", ends_at="x"))
    result = await manage(azurite, "events", "delete", "dropped", "--json", "--yes")
    assert result.json["code"] == "dropped" and "ends_at is 'x'" in result.json["problem"]
    assert await tables.event("dropped") is None


async def test_the_usage_of_a_bad_event_is_shown_and_bad_usage_rows_are_named(
    tables: Tables, azurite: Azurite, write: Write
) -> None:
    await write(EVENTS, event_row("metered-badly", ends_at="x"))
    row = UsageRow("metered-badly", datetime(2026, 6, 1, 9, tzinfo=UTC), "ann", "m", Counts(3, 10, 10))
    await tables.write_usage([row], "writer")
    await write(USAGE, usage_to_row(row._replace(user="bob"), "w") | {"requests": "three"})
    await write(USAGE, usage_to_row(row._replace(user="bea"), "w") | {"RowKey": "9 o'clock"})
    result = await manage(azurite, "usage", "metered-badly")
    assert result.status == 0 and " ann " in result.output and "bob" not in result.output
    assert "The event 'metered-badly' cannot be read: ends_at is 'x'." in result.errors
    assert (
        "'2026-06-01T09:bob:m:w' is left out, because it cannot be read: requests is 'three'" in result.errors
    )
    assert '"9 o\'clock" is left out, because it cannot be read: RowKey is' in result.errors


BAD_DEPLOYMENTS = {
    "weight": ("heavy", "weight is 'heavy'", ("update", "--weight", "2")),
    "priority": (float("inf"), "priority is inf", ("update", "--priority", "1")),
    "endpoint": (
        "one.example",
        "endpoint is 'one.example'",
        ("update", "--endpoint", GOOD.endpoint, "--no-check"),
    ),
    "auth": ("PROXY_TABLES", "auth is 'PROXY_TABLES'", ("update", "--managed-identity", "--no-check")),
    "api_version": (1, "api_version is 1", ("update", "--api-version", "v1", "--no-check")),
    "output_field": (
        "tokens",
        "output_field is 'tokens'",
        ("update", "--output-field", "max_tokens", "--no-check"),
    ),
    "prompt_price": (
        float("nan"),
        "prompt_price is nan",
        ("update", "--prompt-price", "1", "--completion-price", "1"),
    ),
    "active": ("true", "active is 'true'", ("enable",)),
}


@pytest.mark.parametrize("column", BAD_DEPLOYMENTS)
async def test_a_bad_deployment_is_named_and_corrected(
    tables: Tables, azurite: Azurite, write: Write, column: str
) -> None:
    value, problem, (command, *options) = BAD_DEPLOYMENTS[column]
    await write(DEPLOYMENTS, deployment_row("bad", **{column: value}))
    await write(DEPLOYMENTS, deployment_row("good"))
    text = f"The deployment 'bad' of model 'edited' cannot be read: {problem}."
    for output in ((), ("--json",)):
        listed = await manage(azurite, "deployments", "list", *output)
        assert listed.status == 0 and "good" in listed.output and text in listed.errors
    name = ("edited", "bad")
    refused = await manage(
        azurite, "deployments", "update", *name, "--prompt-price", "3", "--completion-price", "4"
    )
    assert (refused.status, text in refused.errors) == ((0, False) if column == "prompt_price" else (2, True))
    corrected = await manage(azurite, "deployments", command, *name, *options)
    assert corrected.status == 0, corrected.errors
    assert "unchanged" not in corrected.output
    assert [one.id for one in await tables.deployments() if one.model == "edited"] == ["bad", "good"]


async def test_a_bad_deployment_can_be_deleted(tables: Tables, azurite: Azurite, write: Write) -> None:
    await write(DEPLOYMENTS, deployment_row("bad", deployment_name=""))
    listed = await manage(azurite, "deployments", "list")
    assert "deployment_name is ''. Delete it with `deployments delete edited bad`." in listed.errors
    result = await manage(azurite, "deployments", "delete", "edited", "bad", "--yes", "--json")
    assert result.json["id"] == "bad" and "deployment_name is ''" in result.json["problem"]
    assert "bad" not in (await manage(azurite, "deployments", "list")).errors


UNUSABLE = [
    "https://a b",
    "https://a..b",
    "https://xn--a",
    "https://x.com\\@y",
    f"https://{'x' * 64}.com",
    "https://x%00.com",
]


async def test_bad_rows_do_not_stop_the_other_events(stage: Stage, azurite: Azurite, write: Write) -> None:
    code = await stage.add_event(models=(MODEL,), requests_per_day=9)
    await write(EVENTS, event_row("spoilt", time_zone="localtime", tokens_total="x"))
    for number, endpoint in enumerate(UNUSABLE):
        row = deployment_row(f"unusable-{number}", PartitionKey=MODEL, endpoint=endpoint, priority=0)
        await write(DEPLOYMENTS, row)
    await write(DEPLOYMENTS, deployment_row("heavy", PartitionKey=MODEL, priority=0, weight="9" * 400))
    for user in ("ann", "bob", "cy"):
        async with stage.post(headers={"api-key": f"{code}/{user}"}, json=QUESTION) as response:
            assert response.status == 200
    async with stage.post(headers={"api-key": "spoilt/ann"}, json=QUESTION) as response:
        assert response.status == 503
    assert (await manage(azurite, "deployments", "list")).errors.count("cannot be read") == len(UNUSABLE) + 1
