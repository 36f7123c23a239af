"""Finding the event of a credential."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.core.errors import InvalidEventToken, StoreUnavailable
from shared.core.models import Event
from shared.events.lookup import Events
from tests.conftest import EVENT


class Table:
    """Holds at most one event. `fault` is raised instead."""

    def __init__(self, event: Event | None = None, fault: Exception | None = None) -> None:
        self._event = event
        self._fault = fault

    async def event(self, code: str) -> Event | None:
        if self._fault:
            raise self._fault
        return self._event


def events(table: Table) -> Events:
    return Events(table, 30, lambda: 0.0)


async def test_closed_event_is_found() -> None:
    closed = replace(EVENT, active=False)
    assert await events(Table(closed)).find("hackathon") is closed


async def test_unknown_event_raises_the_error_for_a_wrong_credential() -> None:
    with pytest.raises(InvalidEventToken):
        await events(Table()).find("hackathon")


async def test_outage_does_not_raise_the_error_for_a_wrong_credential() -> None:
    with pytest.raises(StoreUnavailable):
        await events(Table(fault=StoreUnavailable())).find("hackathon")
