"""The client for Azure's tables: its exceptions are translated, and idle connections are not reused."""

from __future__ import annotations

import asyncio
import inspect

import azure.core.exceptions
import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError

from shared.app.wiring import TABLES_KEEP_ALIVE_SECONDS, table_session
from shared.core.errors import StoreUnavailable
from shared.core.turns import Turns
from shared.tables.service import AlreadyExists, open_service, translated
from tests.seeded_tables import Tables
from tools.azurite import Azurite
from tools.tap import TableTap

FOREIGN = [
    kind
    for _, kind in inspect.getmembers(azure.core.exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == azure.core.exceptions.__name__
]


def test_all_exceptions_of_azure_core_are_covered() -> None:
    assert len(FOREIGN) > 15
    assert HttpResponseError in FOREIGN


@pytest.mark.parametrize(
    "kind", [*FOREIGN, TimeoutError, ConnectionResetError], ids=lambda kind: kind.__name__
)
async def test_each_exception_of_azure_core_is_translated(kind: type[Exception]) -> None:
    # The constructor needs a whole response, and only the class matters.
    foreign = kind.__new__(kind)
    for name in ("status_code", "error_code"):
        setattr(foreign, name, None)
    expected = AlreadyExists if issubclass(kind, ResourceExistsError) else StoreUnavailable
    with pytest.raises(expected) as caught:
        async with translated():
            raise foreign
    assert caught.value.__cause__ is foreign


async def test_an_exception_that_the_library_does_not_document_is_an_outage_and_is_logged_with_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(StoreUnavailable):
        async with translated():
            raise ZeroDivisionError
    assert "ZeroDivisionError" in caplog.text


async def test_waiting_for_a_turn_counts_towards_the_time_limit() -> None:
    class Never(Turns):
        async def wait(self) -> None:
            await asyncio.Event().wait()

    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(10), translated(0.01, Never()):
            raise AssertionError


@pytest.mark.parametrize(("keep_alive_seconds", "connections"), [(0.1, 2), (60, 1)])
async def test_a_connection_is_not_reused_after_a_long_idle_time(
    azurite: Azurite, keep_alive_seconds: float, connections: int
) -> None:
    async with TableTap(target=azurite.port).open() as tap:
        tables = Tables(open_service(tap.connection_string, None, session=table_session(keep_alive_seconds)))
        await tables.create_tables()
        before = tap.connections
        await asyncio.sleep(0.3)
        await tables.check()
        await tables.close()
    assert tap.connections - before + 1 == connections


def test_connections_are_closed_before_azurite_closes_them() -> None:
    assert TABLES_KEEP_ALIVE_SECONDS < 5
