"""The health of deployments is written in the background, with pauses, and only the latest state."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.core.errors import StoreUnavailable
from shared.core.models import Deployment, Health
from shared.upstream.health import HealthWriter

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
EAST = Deployment("gpt-4o", "east", "https://east.example", "gpt-4o")
WEST = Deployment("gpt-4o", "west", "https://west.example", "gpt-4o")


class Store:
    """The part of the tables that health needs."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Health]] = []
        self.down = False
        self.fault: Exception = StoreUnavailable()
        self.called = asyncio.Event()
        self.written = asyncio.Condition()
        self.passing = asyncio.Event()
        self.passing.set()

    async def write_health(self, deployment: Deployment, health: Health) -> None:
        self.called.set()
        await self.passing.wait()
        if self.down:
            raise self.fault
        async with self.written:
            self.rows.append((deployment.id, health))
            self.written.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10), self.written:
            await self.written.wait_for(lambda: len(self.rows) >= count)


def notes(store: Store, pause_seconds: float = 0.05) -> HealthWriter:
    return HealthWriter(store, lambda: NOW, pause_seconds)


async def test_the_status_and_the_end_of_the_cool_down_are_written() -> None:
    store = Store()
    health_notes = notes(store)
    health_notes.put(EAST, "429", 2.5)
    health_notes.put(WEST, "ok", 0)
    await store.until(2)
    assert store.rows == [
        ("east", Health(NOW, "429", NOW + timedelta(seconds=2.5))),
        ("west", Health(NOW, "ok", None)),
    ]
    await health_notes.close()


async def test_of_many_changes_the_first_and_the_latest_are_written() -> None:
    store = Store()
    health_notes = notes(store, 0.3)
    health_notes.put(EAST, "429", 1)
    await store.until(1)
    for _ in range(100):
        health_notes.put(EAST, "500", 1)
        health_notes.put(EAST, "ok", 0)
    await store.until(2)
    assert [health.status for _, health in store.rows] == ["429", "ok"]
    await health_notes.close()


@pytest.mark.parametrize("fault", [StoreUnavailable(), ValueError("odd")])
async def test_a_failed_write_is_dropped_and_the_next_is_written(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    store.fault = fault
    health_notes = notes(store)
    store.down = True
    health_notes.put(EAST, "429", 1)
    await store.called.wait()
    await asyncio.sleep(0)
    store.down = False
    health_notes.put(EAST, "ok", 0)
    await store.until(1)
    assert store.rows[0][1].status == "ok"
    assert "deployment east" in caplog.text
    await health_notes.close()


async def test_close_works_while_the_tables_do_not_respond() -> None:
    store = Store()
    health_notes = notes(store)
    store.passing.clear()
    health_notes.put(EAST, "429", 1)
    await store.called.wait()
    async with asyncio.timeout(5):
        await health_notes.close()
    assert store.rows == []
