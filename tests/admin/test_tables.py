"""Changes of the tables by the commands, on a real table service."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from azure.data.tables.aio import TableServiceClient

from shared.core.models import Health
from shared.tables.service import DEPLOYMENTS, AlreadyExists
from tests.seeded_tables import Tables
from tests.tables.stored import (
    HOUR,
    code,
    full_deployment,
    full_event,
    own_deployment,
    plain_deployment,
    plain_event,
)


async def test_add_of_an_existing_event_changes_nothing(tables: Tables) -> None:
    event = full_event()
    await tables.add_event(event)
    with pytest.raises(AlreadyExists):
        await tables.add_event(replace(event, name="another"))
    assert await tables.event(event.code) == event


async def test_create_tables_keeps_the_rows_of_existing_tables(tables: Tables) -> None:
    event = plain_event()
    await tables.put_event(event)
    await tables.create_tables()
    assert await tables.event(event.code) == event


async def test_a_change_of_a_deployment_keeps_the_other_columns(
    tables: Tables, service: TableServiceClient
) -> None:
    before = replace(full_deployment(), id=code())
    await tables.put_deployment(before)
    health = Health(HOUR, "429", HOUR + timedelta(seconds=60))
    await tables.write_health(before, health)
    rows = service.get_table_client(DEPLOYMENTS)
    by_hand = {"PartitionKey": before.model, "RowKey": before.id, "remark": "Ann's"}
    await rows.update_entity(by_hand, mode="merge")
    changed = await tables.change_deployment(before, lambda one: replace(one, weight=77, prompt_price=None))
    assert changed == replace(before, weight=77, prompt_price=None)
    assert await own_deployment(tables, before.id) == changed
    assert (await tables.health())[before.model, before.id] == health
    assert (await rows.get_entity(before.model, before.id))["remark"] == "Ann's"
    await tables.delete_deployment(before.model, before.id)
    assert await tables.change_deployment(before, lambda one: one) is None


@pytest.mark.parametrize(
    "change", [{"endpoint": "https://new.example"}, {"auth": "NEW"}, {"api_version": "v1"}]
)
async def test_a_change_of_the_target_removes_the_health(tables: Tables, change: dict[str, str]) -> None:
    before = replace(full_deployment(), id=code())
    await tables.put_deployment(before)
    await tables.write_health(before, Health(HOUR, "401", HOUR + timedelta(seconds=60)))
    await tables.change_deployment(before, lambda one: replace(one, **change))  # type: ignore[arg-type]
    assert (before.model, before.id) not in await tables.health()
    await tables.delete_deployment(before.model, before.id)


async def test_add_of_an_existing_deployment_changes_nothing(tables: Tables) -> None:
    deployment = replace(plain_deployment(), id=code())
    await tables.add_deployment(deployment)
    with pytest.raises(AlreadyExists):
        await tables.add_deployment(replace(deployment, weight=9))
    assert await own_deployment(tables, deployment.id) == deployment
    await tables.delete_deployment(deployment.model, deployment.id)
